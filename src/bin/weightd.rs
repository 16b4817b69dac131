//! The daemon; see [`weightd::weightd::daemon`].

use std::process::ExitCode;

fn main() -> ExitCode {
    weightd::weightd::daemon::main()
}
