//! Real programs for the integration tests, the demo and the benchmarks: Consul, HAProxy, the applications behind it,
//! weightd, and traffic.
//!
//! Each program has free loopback ports and its own temporary directory. Its `start` returns when the program answers.
//! The program ends when its owner is dropped, also by a panic, and when the test program dies. Nothing here waits for
//! a fixed time instead of a condition.
//!
//! The module reads HAProxy with its own small client ([`runtime`]), not with the client of the crate under test: the
//! observer must be independent.

#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "the tests, the demo and the benchmarks each use a part, so an expectation would fail in some of them"
)]

use std::time::Duration;

use anyhow::bail;
use tokio::time::{Instant, sleep, timeout_at};

pub mod agent;
pub mod answering;
pub mod apps;
pub mod config;
pub mod consul;
pub mod consul_acl;
pub mod consul_servers;
pub mod dns;
pub mod gate;
pub mod haproxy;
pub mod holding;
pub mod metrics;
pub mod page;
pub mod port;
pub mod program;
pub mod rolloutd;
pub mod runtime;
pub mod side;
pub mod tls;
pub mod toy;
pub mod traffic;
pub mod users;
pub mod weightd;

pub use apps::Apps;
pub use consul::Consul;
pub use haproxy::Haproxy;
pub use port::Port;
pub use rolloutd::Rolloutd;
pub use side::{Behaviour, Side};
pub use traffic::Traffic;
pub use weightd::Weightd;

/// The time limit for the start or the end of a program. It is generous: other tests may load the machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// An HTTP client for loopback. Without TLS, because reqwest would read all CAs of the machine. Without a proxy,
/// because some machines configure one for the network.
pub fn http() -> reqwest::ClientBuilder {
    // weightd closes a connection that is idle for some seconds; a request must not meet that.
    reqwest::Client::builder()
        .tls_backend_preconfigured(::weightd::consul::tls::without_trust())
        .no_proxy()
        .pool_idle_timeout(Duration::from_secs(1))
}

/// The polling interval of [`eventually`] and [`always`].
const POLL: Duration = Duration::from_millis(10);

/// Waits until `probe` succeeds, and returns its value. An error of the probe means "not yet". At the time limit, the
/// last error is reported: it should contain the observed value.
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
                None => bail!("not within {within:?}: {what}; the first probe did not end"),
            }
        }
        sleep(POLL).await;
    }
}

/// The opposite of [`eventually`]: fails as soon as `probe` fails, and succeeds if it never failed.
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
