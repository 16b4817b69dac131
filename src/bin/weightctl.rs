//! Looks at weights and changes them; see [`weightd::weightctl`].

use std::{env, process::ExitCode};

// One thread is plenty for one request after another.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    weightd::weightctl::run(env::args_os(), &|name| env::var(name).ok()).await
}
