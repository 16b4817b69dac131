//! Shows and changes weights; see [`weightd::weightctl`].

use std::{env, process::ExitCode};

// The requests are sequential: one thread is enough.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    weightd::weightctl::run(env::args_os(), &|name| env::var(name).ok()).await
}
