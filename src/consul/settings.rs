//! The settings of the Consul client, from four layers: flags, environment, file, defaults.

use std::path::PathBuf;

use secrecy::SecretString;
use weightd_core::model::{InvalidSegment, check_segment};

pub use super::token::TokenError;
use super::{
    Access,
    address::{Address, InvalidAddress},
    tls::{self, Ca, Contradiction, Tls, TlsLayer},
    token::{InvalidToken, TokenSource},
};
pub use crate::base::config::Env;

/// The address of Consul and the credentials.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The address of the agent.
    pub address: Address,
    /// The ACL token.
    pub token: TokenSource,
    /// `user:password` for a proxy in front of Consul.
    pub auth: Option<SecretString>,
    /// The datacenter. The default is the agent's own.
    pub datacenter: Option<String>,
    /// The namespace (Consul Enterprise).
    pub namespace: Option<String>,
    /// The admin partition (Consul Enterprise).
    pub partition: Option<String>,
    /// The certificates, for an address with TLS.
    pub tls: Tls,
    /// How many connections stay open without a request.
    pub idle: Idle,
}

/// How many connections of a client stay open without a request. An agent limits the connections of one host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Idle {
    /// All, for 90 s: for a client that asks without end.
    #[default]
    All,
    /// A few, for some seconds: for a client that is one of many.
    Few,
}

impl PartialEq for Settings {
    fn eq(&self, other: &Self) -> bool {
        let Self { address, token: _, auth: _, datacenter, namespace, partition, tls: _, idle } = self;
        *address == other.address
            && Access::of(self) == Access::of(other)
            && *datacenter == other.datacenter
            && *namespace == other.namespace
            && *partition == other.partition
            && *idle == other.idle
    }
}

/// An environment variable has an invalid value. The error never contains the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("environment variable {variable}: {problem}")]
pub struct InvalidVariable {
    /// The name of the variable.
    pub variable: &'static str,
    /// The problem with its value.
    pub problem: Problem,
}

/// The problem with one setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Not a valid address of Consul.
    #[error("{0}")]
    Address(InvalidAddress),
    /// Not a boolean of Go's `strconv.ParseBool`.
    #[error("neither true nor false; write true or false")]
    NotBoolean,
    /// Not a valid name of a datacenter, namespace or partition.
    #[error("not a valid name: {0}")]
    Name(InvalidSegment),
    /// Not a valid token.
    #[error("{0}")]
    Token(InvalidToken),
    /// The password setting is empty.
    #[error("the value is empty; write user:password, or remove the setting")]
    Empty,
    /// Not a valid host name.
    #[error("{0}")]
    ServerName(&'static str),
    /// A control character in a password.
    #[error("the value contains a control character; write user:password")]
    Control,
}

/// The settings of one source: flags, environment, or file. For each setting, the first layer that has it wins.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    /// See [`Settings::address`].
    pub address: Option<Address>,
    /// See [`Settings::token`].
    pub token: Option<TokenSource>,
    /// See [`Settings::auth`].
    pub auth: Option<SecretString>,
    /// See [`Settings::datacenter`].
    pub datacenter: Option<String>,
    /// See [`Settings::namespace`].
    pub namespace: Option<String>,
    /// See [`Settings::partition`].
    pub partition: Option<String>,
    /// See [`Settings::tls`].
    pub tls: TlsLayer,
}

/// The settings are invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSettings {
    /// An environment variable is invalid.
    #[error(transparent)]
    Variable(#[from] InvalidVariable),
    /// Settings of different sources contradict each other.
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
}

/// Maximum length of the name of a datacenter, namespace or partition, in characters.
const MAX_NAME: usize = 64;

impl Layer {
    /// Fills the unset settings of this layer from the environment variables of Consul's own programs. An empty
    /// variable counts as unset. A variable for a setting that this layer has is not read.
    ///
    /// # Errors
    /// [`InvalidVariable`] for an invalid value.
    pub fn over_env(mut self, env: &Env<'_>) -> Result<Self, InvalidVariable> {
        let get = |variable: &'static str| env(variable).filter(|value| !value.is_empty());
        let wrong = |variable| move |problem| InvalidVariable { variable, problem };

        if self.address.is_none() {
            self.address = get("CONSUL_HTTP_ADDR")
                .map(|value| value.parse().map_err(Problem::Address))
                .transpose()
                .map_err(wrong("CONSUL_HTTP_ADDR"))?;
        }
        if self.token.is_none() {
            self.token = match get("CONSUL_HTTP_TOKEN_FILE") {
                Some(path) => Some(TokenSource::File(PathBuf::from(path))),
                None => get("CONSUL_HTTP_TOKEN")
                    .map(|value| TokenSource::value(&value).map_err(Problem::Token))
                    .transpose()
                    .map_err(wrong("CONSUL_HTTP_TOKEN"))?,
            };
        }
        if self.auth.is_none() {
            self.auth =
                get("CONSUL_HTTP_AUTH").map(|value| auth(&value)).transpose().map_err(wrong("CONSUL_HTTP_AUTH"))?;
        }
        for (variable, name) in [("CONSUL_NAMESPACE", &mut self.namespace), ("CONSUL_PARTITION", &mut self.partition)] {
            if name.is_none() {
                *name = get(variable).map(|value| self::name(&value)).transpose().map_err(wrong(variable))?;
            }
        }
        self.tls = self.tls.over(tls_of_env(env)?);
        Ok(self)
    }

    /// Fills the unset settings of this layer from the layer `below`.
    #[must_use]
    pub fn over(self, below: Self) -> Self {
        Self {
            address: self.address.or(below.address),
            token: self.token.or(below.token),
            auth: self.auth.or(below.auth),
            datacenter: self.datacenter.or(below.datacenter),
            namespace: self.namespace.or(below.namespace),
            partition: self.partition.or(below.partition),
            tls: self.tls.over(below.tls),
        }
    }

    /// Fills the unset settings with the defaults.
    ///
    /// # Errors
    /// [`Contradiction`]. TLS settings with an unencrypted address are an error, so that TLS is never silently ignored.
    pub fn settings(self) -> Result<Settings, Contradiction> {
        let mut address = self.address.unwrap_or_default();
        if self.tls.ssl {
            address = address.with_tls().ok_or(Contradiction::UnixSocket)?;
        }
        let tls = self.tls.settings()?;
        if matches!(address, Address::Http { .. }) && !address.is_tls() && tls != Tls::default() {
            return Err(Contradiction::NotEncrypted(address));
        }
        Ok(Settings {
            address,
            token: self.token.unwrap_or_default(),
            auth: self.auth,
            datacenter: self.datacenter,
            namespace: self.namespace,
            partition: self.partition,
            tls,
            idle: Idle::default(),
        })
    }
}

/// Reads the TLS settings from the environment.
fn tls_of_env(env: &Env<'_>) -> Result<TlsLayer, InvalidVariable> {
    let get = |variable: &'static str| env(variable).filter(|value| !value.is_empty());
    let wrong = |variable| move |problem| InvalidVariable { variable, problem };
    let boolean = |variable: &'static str| {
        let parse = |value: String| parse_bool(&value).ok_or(Problem::NotBoolean);
        get(variable).map(parse).transpose().map_err(wrong(variable))
    };
    let path = |variable: &'static str| get(variable).map(PathBuf::from);
    let server_name = get("CONSUL_TLS_SERVER_NAME").map(|value| tls::server_name(&value)).transpose();
    Ok(TlsLayer {
        ssl: boolean("CONSUL_HTTP_SSL")?.unwrap_or(false),
        ca: path("CONSUL_CACERT").map(Ca::File).or_else(|| path("CONSUL_CAPATH").map(Ca::Directory)),
        client_cert: path("CONSUL_CLIENT_CERT"),
        client_key: path("CONSUL_CLIENT_KEY"),
        server_name: server_name.map_err(|what| wrong("CONSUL_TLS_SERVER_NAME")(Problem::ServerName(what)))?,
        verify: boolean("CONSUL_HTTP_SSL_VERIFY")?,
    })
}

impl Settings {
    /// Merges the `flags`, then the environment, then the defaults.
    ///
    /// # Errors
    /// As [`Layer::over_env`] and [`Layer::settings`].
    pub fn from_env(env: &Env<'_>, flags: Layer) -> Result<Self, InvalidSettings> {
        Ok(flags.over_env(env)?.settings()?)
    }
}

/// Parses a user and a password: `user:password` or `user`.
///
/// # Errors
/// [`Problem::Empty`] and [`Problem::Control`].
pub(crate) fn auth(text: &str) -> Result<SecretString, Problem> {
    match text {
        "" => Err(Problem::Empty),
        _ if text.contains(char::is_control) => Err(Problem::Control),
        _ => Ok(SecretString::from(text)),
    }
}

/// Parses the name of a datacenter, namespace or partition.
///
/// # Errors
/// [`Problem::Name`].
pub(crate) fn name(text: &str) -> Result<String, Problem> {
    check_segment(text, MAX_NAME).map_err(Problem::Name)?;
    Ok(text.to_owned())
}

/// Parses a boolean in the same way as Go's `strconv.ParseBool`, because Consul's own programs use that.
fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
