use std::{io, path::PathBuf};

/// The TLS connection to Consul failed.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file with certificates or a key is not usable.
    #[error("{0}")]
    File(#[from] FileError),
    /// The issuer of Consul's certificate is unknown, or has the name of a known CA and another key.
    #[error("Consul's certificate is not signed by a trusted CA")]
    UnknownCa(#[source] rustls::Error),
    /// Consul's certificate has expired.
    #[error("Consul's certificate has expired")]
    Expired(#[source] rustls::Error),
    /// The validity of Consul's certificate starts in the future.
    #[error("Consul's certificate is not valid yet")]
    NotYetValid(#[source] rustls::Error),
    /// Consul's certificate does not have the expected name.
    #[error("Consul's certificate is for another name")]
    WrongName(#[source] rustls::Error),
    /// Any other problem with Consul's certificate.
    #[error("Consul's certificate is invalid")]
    Certificate(#[source] rustls::Error),
    /// Consul requires a client certificate, and none is configured.
    #[error("Consul requires a client certificate, and none is configured")]
    NoClientCertificate,
    /// Consul rejected the client certificate.
    #[error("Consul rejected the client certificate")]
    ClientCertificate(#[source] Option<rustls::Error>),
    /// The answer is not TLS: the port is wrong.
    #[error("the answer is not TLS")]
    NotTls(#[source] rustls::Error),
    /// Any other error of the handshake.
    #[error("the TLS handshake failed")]
    Handshake(#[source] rustls::Error),
}

/// A file is not usable. The error never contains content of the file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file or directory cannot be read.
    #[error("failed to read {}: {source}", .path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file is too large for certificates.
    #[error("{} is larger than 1 MiB", .0.display())]
    TooLarge(PathBuf),
    /// The file is not PEM, or contains an invalid certificate.
    #[error("{} contains an invalid PEM certificate", .0.display())]
    Malformed(PathBuf),
    /// The file, or the directory, contains no certificate.
    #[error("{} contains no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// The file contains no private key, or only an encrypted one.
    #[error("{} contains no private key, or only a key with a password", .0.display())]
    NoKey(PathBuf),
    /// The type of the key is not supported.
    #[error("the type of the private key in {} is not supported", .0.display())]
    Key(PathBuf),
    /// The key belongs to another certificate.
    #[error("the private key in {} does not match the certificate in {}", .key.display(), .cert.display())]
    Mismatch {
        /// The file of the certificate.
        cert: PathBuf,
        /// The file of the key.
        key: PathBuf,
    },
    /// This machine has no CA certificates.
    #[error("this machine has no CA certificates")]
    NoSystemCa,
}

impl TlsError {
    /// Returns the fix, for hints.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::File(FileError::NoSystemCa) => {
                "set `ca_file` in [consul.tls] or CONSUL_CACERT to the CA that signed Consul's certificate"
            }
            Self::File(_) => {
                "check `ca_file`, `ca_path`, `client_cert` and `client_key` in [consul.tls], or CONSUL_CACERT, \
                 CONSUL_CAPATH, CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY, and the permissions of the files"
            }
            Self::UnknownCa(_) => {
                "set `ca_file` in [consul.tls] or CONSUL_CACERT to the CA that signed Consul's certificate, or update \
                 that file"
            }
            Self::Expired(_) => "renew Consul's certificate and reload Consul, and check this machine's clock",
            Self::NotYetValid(_) => "check this machine's clock, and Consul's certificate",
            Self::WrongName(_) => {
                "set `server_name` in [consul.tls] or CONSUL_TLS_SERVER_NAME to a name that the certificate has, such \
                 as server.dc1.consul, or install a certificate for the host of the address in Consul"
            }
            Self::Certificate(_) => "install another certificate in Consul",
            Self::NoClientCertificate => {
                "set `client_cert` and `client_key` in [consul.tls], or CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY, to a \
                 certificate signed by Consul's own CA"
            }
            Self::ClientCertificate(_) => {
                "renew the certificate in `client_cert` of [consul.tls] or CONSUL_CLIENT_CERT: it must be signed by \
                 the CA in Consul's `ca_file` and not have expired"
            }
            Self::NotTls(_) => {
                "check the port in `address` of [consul] or CONSUL_HTTP_ADDR: it must be the one in Consul's \
                 `ports.https`, often 8501"
            }
            Self::Handshake(_) => "check Consul's log, and its `tls_min_version` and `tls_cipher_suites`",
        }
    }

    /// Whether the cause is on this machine. No request was sent then.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::File(_))
    }
}
