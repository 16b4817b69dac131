//! TLS to Consul: trusted CAs, the client certificate, and explanations of failures.
//!
//! Must not connect with less security than configured. An unreadable file is an error, and never replaced by other
//! certificates.

mod error;
mod explain;
mod load;

use std::path::PathBuf;

use rustls::pki_types::DnsName;

pub use error::{FileError, TlsError};
pub(super) use explain::{Handshake, explain};
pub(super) use load::client_config;
pub use load::{trusting, without_trust};

/// The TLS settings. They apply only to an `https://` address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The trusted CAs. The default is the CAs of this machine.
    pub ca: Option<Ca>,
    /// The client certificate, for a Consul that requests one.
    pub identity: Option<Identity>,
    /// The name that Consul's certificate must have. The default is the host of the address.
    pub server_name: Option<String>,
    /// Whether Consul's certificate is verified.
    pub verify: bool,
}

impl Default for Tls {
    fn default() -> Self {
        Self { ca: None, identity: None, server_name: None, verify: true }
    }
}

/// The location of the CA certificates, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ca {
    /// One file.
    File(PathBuf),
    /// All files of a directory, without subdirectories.
    Directory(PathBuf),
}

/// A client certificate. Both files are PEM, and may be the same file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate, and the intermediate certificates up to its CA.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The TLS settings of one source; see [`super::Layer`].
#[derive(Debug, Clone, Default)]
pub struct TlsLayer {
    /// Forces TLS. False does not disable the TLS of an `https://` address.
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
        "a client certificate needs its key, and a key needs its certificate; set client_cert and client_key in [consul.tls], or \
         CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY, or none of them"
    )]
    HalfIdentity,
    /// TLS is configured, but the address is unencrypted.
    #[error(
        "TLS is configured, but {0} is not encrypted; write https:// or set CONSUL_HTTP_SSL=true, or remove the keys of \
         [consul.tls] and CONSUL_CACERT, CONSUL_CAPATH, CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY, CONSUL_TLS_SERVER_NAME \
         and CONSUL_HTTP_SSL_VERIFY"
    )]
    NotEncrypted(super::Address),
    /// TLS over a Unix socket.
    #[error("CONSUL_HTTP_SSL requests TLS, but the address is a Unix socket; unset it, or write https://host:port")]
    UnixSocket,
}

impl TlsLayer {
    /// Fills the unset settings of this layer from the layer `below`.
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

    /// Validates the merged layers and fills in the defaults.
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

/// Parses a server name: a host name, not an IP address, because the name replaces the host of the URL.
///
/// # Errors
/// The problem, and the fix.
pub(crate) fn server_name(text: &str) -> Result<String, &'static str> {
    let name = DnsName::try_from(text).map_err(|_| "not a host name; write one such as server.dc1.consul")?;
    Ok(name.as_ref().to_owned())
}

#[cfg(test)]
mod tests;
