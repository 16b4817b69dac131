//! The controller of rollouts; see [`weightd::rolloutd`].

use std::process::ExitCode;

fn main() -> ExitCode {
    weightd::rolloutd::main()
}
