//! The HTTP client for one Consul address, and the setup of its connections.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};

use super::{Address, ConsulError, Idle, Settings, Tls, tls};

/// Deadline of a connect.
const CONNECT_DEADLINE: Duration = Duration::from_secs(3);
/// The connections of a client with [`Idle::Few`] that wait for its next request.
const MAX_IDLE: usize = 2;
/// For how long they wait.
const IDLE_DEADLINE: Duration = Duration::from_secs(5);

/// An HTTP client for one address.
#[derive(Debug)]
pub(super) struct Transport {
    pub(super) http: reqwest::Client,
    /// The base URL. Paths are appended to it.
    pub(super) base: String,
    /// The record of the handshakes; empty without TLS.
    pub(super) handshake: Arc<tls::Handshake>,
}

impl Transport {
    /// Creates the HTTP client for the address in `settings`. If it needs TLS, reads all certificate files of `tls`.
    ///
    /// # Errors
    /// [`ConsulError::Tls`] and [`ConsulError::Setup`].
    pub(super) fn new(settings: &Settings, tls: &Tls) -> Result<Self, ConsulError> {
        let address = &settings.address;
        let (config, handshake) = if address.is_tls() {
            tls::client_config(tls).map_err(|source| ConsulError::Tls { address: address.clone(), source })?
        } else {
            (tls::without_trust(), Arc::default())
        };
        // No proxy of the environment and no redirect, so that the token reaches only the configured agent.
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(Policy::none())
            .https_only(address.is_tls())
            .tls_backend_preconfigured(config)
            .connect_timeout(CONNECT_DEADLINE)
            .user_agent(concat!("weightd/", env!("CARGO_PKG_VERSION")));
        if settings.idle == Idle::Few {
            builder = builder.pool_max_idle_per_host(MAX_IDLE).pool_idle_timeout(IDLE_DEADLINE);
        }
        let base = match (address, &tls.server_name) {
            (Address::Unix(path), _) => {
                builder = builder.unix_socket(path.as_path());
                "http://localhost".to_owned()
            }
            (Address::Http { base }, Some(name)) if address.is_tls() => {
                // The certificate must have the host name of the URL. The resolver still connects to the real host.
                let (base, host) = with_host(base, name).unwrap_or_else(|| (base.clone(), name.clone()));
                builder = builder.dns_resolver(Arc::new(FixedHost(host)));
                base
            }
            (Address::Http { base }, _) => base.clone(),
        };
        Ok(Self { http: builder.build().map_err(ConsulError::Setup)?, base, handshake })
    }
}

/// Returns the URL with the host `name`, and its original host.
fn with_host(base: &str, name: &str) -> Option<(String, String)> {
    let mut url = Url::parse(base).ok()?;
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    url.set_host(Some(name)).ok()?;
    Some((url.as_str().trim_end_matches('/').to_owned(), host))
}

/// Resolves every name to the addresses of one host.
struct FixedHost(String);

impl Resolve for FixedHost {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.0.clone();
        Box::pin(async move {
            // The URL sets the port.
            let found = tokio::net::lookup_host((host, 0)).await?;
            Ok(Box::new(found.collect::<Vec<_>>().into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_of_a_url_is_replaced() {
        let cases = [
            ("https://127.0.0.1:8501", "https://n.example:8501", "127.0.0.1"),
            ("https://[::1]:8501", "https://n.example:8501", "::1"),
            ("https://h/consul", "https://n.example/consul", "h"),
        ];
        for (base, expected, host) in cases {
            assert_eq!(with_host(base, "n.example"), Some((expected.to_owned(), host.to_owned())));
        }
    }
}
