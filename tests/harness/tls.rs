//! Valid and invalid certificates.

use std::{fs, path::Path};

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};

/// A CA.
#[derive(Debug)]
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// The content of a certificate.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// Its names and addresses.
    pub names: Vec<String>,
    /// Whether it has expired.
    pub expired: bool,
}

impl Default for Leaf {
    /// The names in a certificate of `consul tls`.
    fn default() -> Self {
        Self::with(&["server.dc1.consul", "localhost", "127.0.0.1"])
    }
}

impl Leaf {
    /// A valid certificate for these names.
    pub fn with(names: &[&str]) -> Self {
        Self { names: names.iter().map(|name| (*name).to_owned()).collect(), expired: false }
    }

    /// The same certificate, but expired.
    #[must_use]
    pub fn expired(self) -> Self {
        Self { expired: true, ..self }
    }
}

/// A certificate and its key, as PEM.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate.
    pub cert: String,
    /// The private key.
    pub key: String,
}

impl Certificate {
    /// Writes both files and replaces existing ones.
    pub fn write(&self, cert: &Path, key: &Path) -> anyhow::Result<()> {
        fs::write(key, &self.key).with_context(|| format!("cannot write {}", key.display()))?;
        fs::write(cert, &self.cert).with_context(|| format!("cannot write {}", cert.display()))
    }
}

impl Authority {
    /// Creates a CA with this name. Two CAs with the same name are different CAs.
    pub fn new(name: &str) -> anyhow::Result<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?))
    }

    /// The certificate of the CA.
    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Signs a certificate.
    pub fn issue(&self, leaf: &Leaf) -> anyhow::Result<Certificate> {
        let mut params = CertificateParams::new(leaf.names.clone())?;
        if leaf.expired {
            (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        }
        let key = KeyPair::generate()?;
        Ok(Certificate { cert: params.signed_by(&key, &self.0)?.pem(), key: key.serialize_pem() })
    }
}
