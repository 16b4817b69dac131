//! The daemon; see [`weightd::daemon`].

use std::process::ExitCode;

fn main() -> ExitCode {
    weightd::daemon::main()
}
