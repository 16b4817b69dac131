//! TLS to Consul: what is trusted, who this program says it is, and what is said when that fails.
//!
//! Must never connect with less than was asked for: a file that cannot be read is an error, and not a reason
//! to trust something else.

mod error;
mod explain;
mod load;

use std::path::PathBuf;

use rustls::pki_types::DnsName;

pub use error::{FileError, TlsError};
pub(super) use explain::{Handshake, explain};
pub(super) use load::client_config;
pub use load::without_trust;

/// How Consul proves who it is, and how this program does. Counts only where the address is `https://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The only CAs that are trusted; those of this machine if absent.
    pub ca: Option<Ca>,
    /// What this program shows when Consul asks who it is.
    pub identity: Option<Identity>,
    /// The name that Consul's certificate must have; the address's host if absent.
    pub server_name: Option<String>,
    /// Whether Consul's certificate is looked at.
    pub verify: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ca: None, identity: None, server_name: None, verify: true }
    }
}

/// Where the certificates of CAs lie, as PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ca {
    /// In one file.
    File(PathBuf),
    /// In the files of a directory, not of those below it.
    Directory(PathBuf),
}

/// A client certificate. Both files are PEM, and may be the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and those between it and its CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// What one place says about TLS; see [`super::Layer`].
#[derive(Debug, Clone, Default)]
pub struct TlsLayer {
    /// Encrypts whatever the address says. There is no way to ask for less than the address does.
    pub ssl: bool,
    /// See [`Tls::ca`].
    pub ca: Option<Ca>,
    /// See [`Identity::cert`].
    pub client_cert: Option<PathBuf>,
    /// See [`Identity::key`].
    pub client_key: Option<PathBuf>,
    /// See [`Tls::server_name`].
    pub server_name: Option<String>,
    /// See [`Tls::verify`].
    pub verify: Option<bool>,
}

/// Settings that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Contradiction {
    /// A certificate without a key, or a key without a certificate.
    #[error(
        "a client certificate and its key go together; set client_cert and client_key in [consul.tls], or \
         CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY, or none of them"
    )]
    HalfIdentity,
    /// TLS is set up, and the address does without.
    #[error(
        "TLS is set up, but {0} is not encrypted; write https:// or set CONSUL_HTTP_SSL=true, or remove the keys of \
         [consul.tls] and CONSUL_CACERT, CONSUL_CAPATH, CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY, CONSUL_TLS_SERVER_NAME \
         and CONSUL_HTTP_SSL_VERIFY"
    )]
    NotEncrypted(super::Address),
    /// TLS over a Unix socket.
    #[error("CONSUL_HTTP_SSL asks for TLS, which a Unix socket does not need; unset it, or write https://host:port")]
    UnixSocket,
}

impl TlsLayer {
    /// Fills what this layer leaves open from the one below it.
    #[must_use]
    pub(super) fn over(self, below: Self) -> Self {
        Self {
            ssl: self.ssl || below.ssl,
            ca: self.ca.or(below.ca),
            client_cert: self.client_cert.or(below.client_cert),
            client_key: self.client_key.or(below.client_key),
            server_name: self.server_name.or(below.server_name),
            verify: self.verify.or(below.verify),
        }
    }

    /// What all layers together mean.
    ///
    /// # Errors
    /// [`Contradiction::HalfIdentity`].
    pub(super) fn settings(self) -> Result<Tls, Contradiction> {
        let identity = match (self.client_cert, self.client_key) {
            (None, None) => None,
            (Some(cert), Some(key)) => Some(Identity { cert, key }),
            _ => return Err(Contradiction::HalfIdentity),
        };
        let (ca, server_name) = (self.ca, self.server_name);
        Ok(Tls { ca, identity, server_name, verify: self.verify.unwrap_or(true) })
    }
}

/// A name that a certificate can have and that can stand in a URL: no IP address.
///
/// # Errors
/// What to write instead.
pub(crate) fn server_name(text: &str) -> Result<String, &'static str> {
    let name = DnsName::try_from(text).map_err(|_| "not a host name; write one such as server.dc1.consul")?;
    Ok(name.as_ref().to_owned())
}

#[cfg(test)]
mod tests;
