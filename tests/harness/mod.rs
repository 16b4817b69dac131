//! Real programs for the integration tests, the demo and the benchmarks: Consul, HAProxy, the applications behind it,
//! weightd, and traffic.
//!
//! Each program has free loopback ports and a temporary directory of its own, is started by its `start`, which returns
//! when the program answers, and ends with its owner: when that is dropped, also by a panic, and when the test program
//! dies, however that happens. Nothing here waits for an amount of time in place of a condition.
//!
//! The module looks at HAProxy with a few lines of its own ([`runtime`]) rather than with the client of the crate under
//! test: it is the independent observer.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "the tests, the demo and the benchmarks each use a part, so an expectation would fail in some of them"
)]

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep, timeout_at};

pub mod agent;
pub mod apps;
pub mod config;
pub mod consul;
pub mod consul_acl;
pub mod dns;
pub mod gate;
pub mod haproxy;
pub mod port;
pub mod program;
pub mod runtime;
pub mod tls;
pub mod traffic;
pub mod weightd;

pub use apps::Apps;
pub use consul::Consul;
pub use haproxy::Haproxy;
pub use port::Port;
pub use traffic::Traffic;
pub use weightd::Weightd;

/// How long a program may take to start or to end. Generous: the machine may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An HTTP client for loopback: without TLS, for which reqwest would read all CAs of the machine, and without the proxy
/// that some machines need to reach the network.
pub fn http() -> reqwest::ClientBuilder {
    reqwest::Client::builder().tls_backend_preconfigured(::weightd::consul::tls::without_trust()).no_proxy()
}

/// Between two looks of [`eventually`].
const POLL: Duration = Duration::from_millis(10);

/// Waits until `probe` succeeds, and returns what it found. An error of the probe means "not yet"; the last one is told
/// when time is up, so it should contain what was seen.
pub async fn eventually<T>(
    within: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + within;
    let mut last = None;
    loop {
        match timeout_at(deadline, probe()).await {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(error)) => last = Some(error),
            Err(_) => {}
        }
        if Instant::now() + POLL >= deadline {
            match last {
                Some(error) => bail!("not within {within:?}: {what}; last seen: {error:#}"),
                None => bail!("not within {within:?}: {what}; the first look did not end"),
            }
        }
        sleep(POLL).await;
    }
}

/// The opposite of [`eventually`]: fails as soon as `probe` fails, and succeeds when it held all the time.
pub async fn always(
    during: Duration,
    what: &str,
    mut probe: impl AsyncFnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let end = Instant::now() + during;
    while Instant::now() < end {
        if let Err(error) = probe().await {
            bail!("no longer true: {what}; seen: {error:#}");
        }
        sleep(POLL).await;
    }
    Ok(())
}
