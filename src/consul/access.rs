use secrecy::{ExposeSecret, SecretString};

use super::{Settings, Tls, TokenSource};

/// The credentials and certificates of a client: the settings that can be replaced while the client runs.
#[derive(Debug, Clone)]
pub struct Access {
    /// The ACL token.
    pub token: TokenSource,
    /// `user:password` for a proxy in front of Consul.
    pub auth: Option<SecretString>,
    /// The certificates.
    pub tls: Tls,
}

impl Access {
    /// Copies the replaceable part of `settings`.
    pub fn of(settings: &Settings) -> Self {
        Self { token: settings.token.clone(), auth: settings.auth.clone(), tls: settings.tls.clone() }
    }
}

impl PartialEq for Access {
    fn eq(&self, other: &Self) -> bool {
        let Self { token, auth, tls } = self;
        let auth = auth.as_ref().map(ExposeSecret::expose_secret);
        *token == other.token && auth == other.auth.as_ref().map(ExposeSecret::expose_secret) && *tls == other.tls
    }
}
