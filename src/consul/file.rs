//! The sections `[consul]` and `[consul.tls]` of a configuration file: the same in all programs.

use std::{ops::RangeInclusive, time::Duration};

use secrecy::SecretString;
use serde::Deserialize;
use weightd_core::model::Root;

use super::{
    Layer, Settings, TlsLayer, TokenSource, settings,
    tls::{self, Ca},
};
use crate::base::config::{ConfigError, Env, Place, Text, Value, absolute};

const WAIT: Duration = Duration::from_secs(55);
/// Consul accepts at most 10 minutes. A shorter wait than 10 s would be polling.
const WAIT_RANGE: RangeInclusive<Duration> = Duration::from_secs(10)..=Duration::from_secs(600);

/// `[consul]`, before validation. All keys are optional; unknown keys are errors.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
pub struct Section {
    address: Value<String>,
    token: Value<SecretString>,
    token_file: Value<String>,
    auth: Value<SecretString>,
    datacenter: Value<String>,
    namespace: Value<String>,
    partition: Value<String>,
    root: Value<String>,
    wait: Value<Text>,
    tls: TlsSection,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "a section")]
struct TlsSection {
    ca_file: Value<String>,
    ca_path: Value<String>,
    client_cert: Value<String>,
    client_key: Value<String>,
    server_name: Value<String>,
    verify: Option<bool>,
}

/// What `[consul]` says, with the environment and the defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct Connection {
    /// How to reach Consul.
    pub settings: Settings,
    /// Prefix of the keys.
    pub root: Root,
    /// Wait time of a blocking query: 10 s to 10 min.
    pub wait: Duration,
}

impl Section {
    /// Validates the section and applies the variables of Consul, which take precedence, and the defaults.
    ///
    /// # Errors
    /// [`ConfigError`] names the key or the variable, and the fix.
    pub fn resolve(self, place: &Place<'_>, env: &Env<'_>) -> Result<Connection, ConfigError> {
        let Self { address, token, token_file, auth, datacenter, namespace, partition, root, wait, tls } = self;
        let root = place.read("consul.root", root, str::parse)?.unwrap_or_default();
        let wait = place.duration("consul.wait", wait, &WAIT_RANGE)?.unwrap_or(WAIT);
        let token = place.secret("consul.token", token, TokenSource::value)?;
        let token_file = place.read("consul.token_file", token_file, absolute)?.map(TokenSource::File);
        let configured = Layer {
            address: place.read("consul.address", address, str::parse)?,
            token: token_file.or(token),
            auth: place.secret("consul.auth", auth, settings::auth)?,
            datacenter: place.read("consul.datacenter", datacenter, settings::name)?,
            namespace: place.read("consul.namespace", namespace, settings::name)?,
            partition: place.read("consul.partition", partition, settings::name)?,
            tls: tls.resolve(place)?,
        };
        let settings = Layer::default()
            .over_env(env)
            .map_err(|error| ConfigError::Environment { variable: error.variable, what: error.problem.to_string() })?
            .over(configured)
            .settings()
            .map_err(|error| ConfigError::Contradiction { section: "consul", what: error.to_string() })?;
        Ok(Connection { settings, root, wait })
    }
}

impl TlsSection {
    fn resolve(self, place: &Place<'_>) -> Result<TlsLayer, ConfigError> {
        let Self { ca_file, ca_path, client_cert, client_key, server_name, verify } = self;
        let ca_file = place.read("consul.tls.ca_file", ca_file, absolute)?.map(Ca::File);
        let ca_path = place.read("consul.tls.ca_path", ca_path, absolute)?.map(Ca::Directory);
        Ok(TlsLayer {
            ssl: false,
            ca: ca_file.or(ca_path),
            client_cert: place.read("consul.tls.client_cert", client_cert, absolute)?,
            client_key: place.read("consul.tls.client_key", client_key, absolute)?,
            server_name: place.read("consul.tls.server_name", server_name, tls::server_name)?,
            verify,
        })
    }
}
