use std::{io, path::PathBuf};

/// Why there is no encrypted connection to Consul.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file of certificates or keys cannot be used.
    #[error("{0}")]
    File(#[from] FileError),
    /// The certificate's issuer is unknown, or only shares its name with one that is known.
    #[error("its certificate is not signed by a CA that is trusted here")]
    UnknownCa(#[source] rustls::Error),
    /// It has expired.
    #[error("its certificate has expired")]
    Expired(#[source] rustls::Error),
    /// It is from the future.
    #[error("its certificate is not valid yet")]
    NotYetValid(#[source] rustls::Error),
    /// It is somebody else's.
    #[error("its certificate is for another name")]
    WrongName(#[source] rustls::Error),
    /// Anything else about the certificate.
    #[error("its certificate cannot be accepted")]
    Certificate(#[source] rustls::Error),
    /// Consul wants to know who asks.
    #[error("it asks for a client certificate, and there is none to show")]
    NoClientCertificate,
    /// Consul does not accept who asks.
    #[error("it does not accept the client certificate")]
    ClientCertificate(#[source] Option<rustls::Error>),
    /// Something else answers there.
    #[error("what answers there does not speak TLS")]
    NotTls(#[source] rustls::Error),
    /// Anything else.
    #[error("the TLS handshake failed")]
    Handshake(#[source] rustls::Error),
}

/// Why a file cannot be used. Never shows what is in it.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("failed to read {}: {source}", .path.display())]
    Read {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Too large to be what it should be.
    #[error("{} has more than 1 MiB", .0.display())]
    TooLarge(PathBuf),
    /// It is no PEM, or something in it is no certificate.
    #[error("{} holds something that is no certificate in PEM", .0.display())]
    Malformed(PathBuf),
    /// No certificate in a file, or in any file of a directory.
    #[error("there is no certificate in {}", .0.display())]
    NoCertificate(PathBuf),
    /// No private key.
    #[error("there is no private key in {}, or none without a password", .0.display())]
    NoKey(PathBuf),
    /// The key is of no known kind.
    #[error("the private key in {} cannot be used", .0.display())]
    Key(PathBuf),
    /// The key is another certificate's.
    #[error("the private key in {} is not that of the certificate in {}", .key.display(), .cert.display())]
    Mismatch {
        /// The certificate.
        cert: PathBuf,
        /// The key.
        key: PathBuf,
    },
    /// This machine trusts nobody.
    #[error("this machine has no certificates of CAs")]
    NoSystemCa,
}

impl TlsError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::File(FileError::NoSystemCa) => {
                "set `ca_file` in [consul.tls] or CONSUL_CACERT to the CA that signed Consul's certificate"
            }
            Self::File(_) => {
                "check `ca_file`, `ca_path`, `client_cert` and `client_key` in [consul.tls], or CONSUL_CACERT, \
                 CONSUL_CAPATH, CONSUL_CLIENT_CERT and CONSUL_CLIENT_KEY, and who may read the files"
            }
            Self::UnknownCa(_) => {
                "set `ca_file` in [consul.tls] or CONSUL_CACERT to the CA that signed Consul's certificate, or renew \
                 that file"
            }
            Self::Expired(_) => "renew Consul's certificate and reload Consul, and check this machine's clock",
            Self::NotYetValid(_) => "check this machine's clock, and Consul's certificate",
            Self::WrongName(_) => {
                "set `server_name` in [consul.tls] or CONSUL_TLS_SERVER_NAME to a name that the certificate has, such \
                 as server.dc1.consul, or give Consul a certificate for the host in the address"
            }
            Self::Certificate(_) => "give Consul another certificate",
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
            Self::Handshake(_) => "see Consul's log, and compare its `tls_min_version` and `tls_cipher_suites`",
        }
    }

    /// Whether the cause lies on this machine, and Consul was not asked.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::File(_))
    }
}
