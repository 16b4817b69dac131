//! Defaults from the configuration of this host's weightd: weightctl uses the same Consul and the same root.
//!
//! It never uses a token or a private key of weightd: weightctl has the rights of the user who runs it.

use std::path::{Path, PathBuf};

use weightd_core::model::Root;

use super::output;
use crate::{
    base::{chain::Chain, config::ConfigError},
    consul::{Env, Layer, TlsLayer},
    weightd::config::{Config, DEFAULT_PATH},
};

/// The environment variable with the path of the configuration.
const VARIABLE: &str = "WEIGHTD_CONFIG";
/// The address of weightd's API if this host has no configuration.
const API: &str = "http://127.0.0.1:9110";
/// The path of weightd's socket if this host has no configuration.
const SOCKET: &str = "/run/weightd/weightd.sock";

/// The defaults of this host.
#[derive(Debug, Default)]
pub(super) struct Host {
    config: Option<Config>,
}

impl Host {
    /// Reads the configuration of this host's weightd. Reports an invalid file. Without a readable file there are no
    /// defaults.
    pub(super) fn read(env: &Env<'_>) -> Self {
        match Self::load(env) {
            Ok(host) => host,
            Err(error) => {
                output::note(&format!("weightctl does not use weightd's configuration: {}", Chain(&error)));
                Self::default()
            }
        }
    }

    /// The same without a report of an invalid file.
    pub(super) fn read_silently(env: &Env<'_>) -> Self {
        Self::load(env).unwrap_or_default()
    }

    fn load(env: &Env<'_>) -> Result<Self, ConfigError> {
        let path = path(env);
        // Without the environment: this process does not have weightd's.
        match Config::load(Some(&path), &|_| None) {
            Ok(config) => Ok(Self { config: Some(config) }),
            Err(ConfigError::Read { .. }) => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// weightd's settings for Consul. With `own_address`, the user sets another address: then weightd's address and CA
    /// do not apply.
    pub(super) fn consul(&self, own_address: bool) -> Layer {
        let Some(config) = &self.config else { return Layer::default() };
        let consul = &config.consul;
        let tls =
            TlsLayer { ca: consul.tls.ca.clone(), server_name: consul.tls.server_name.clone(), ..TlsLayer::default() };
        Layer {
            address: (!own_address).then(|| consul.address.clone()),
            token: None,
            auth: None,
            datacenter: consul.datacenter.clone(),
            namespace: consul.namespace.clone(),
            partition: consul.partition.clone(),
            tls: if own_address || !consul.address.is_tls() { TlsLayer::default() } else { tls },
        }
    }

    /// The root of the keys.
    pub(super) fn root(&self) -> Root {
        self.config.as_ref().map(|config| config.root.clone()).unwrap_or_default()
    }

    /// The URL of weightd's API; none if the API is off.
    pub(super) fn api(&self) -> Option<String> {
        match &self.config {
            Some(config) => config.api.map(|address| format!("http://{address}")),
            None => Some(API.to_owned()),
        }
    }

    /// The path of weightd's socket; none if the socket is off.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        match &self.config {
            Some(config) => config.socket.clone(),
            None => Some(SOCKET.into()),
        }
    }
}

/// The path of the configuration of this host's weightd.
pub(super) fn path(env: &Env<'_>) -> PathBuf {
    env(VARIABLE).filter(|path| !path.is_empty()).map_or_else(|| Path::new(DEFAULT_PATH).to_owned(), PathBuf::from)
}
