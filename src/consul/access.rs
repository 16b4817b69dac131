use secrecy::{ExposeSecret, SecretString};

use super::{Settings, Tls, TokenSource};

/// Who a client is to Consul, and how it knows Consul: the settings that a running client can exchange.
#[derive(Debug, Clone)]
pub struct Access {
    /// The ACL token.
    pub token: TokenSource,
    /// `user:password` of a proxy in front of it.
    pub auth: Option<SecretString>,
    /// Certificates.
    pub tls: Tls,
}

impl Access {
    /// The part of `settings` that this is.
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
