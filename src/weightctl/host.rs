//! Defaults from the configuration of this host's weightd, so that weightctl asks the same Consul for the same root.
//!
//! Never takes a token or a key from it: weightctl acts as the person who runs it.

use std::path::{Path, PathBuf};

use weightd_core::model::Root;

use super::output;
use crate::{
    base::{chain::Chain, config::ConfigError},
    consul::{Env, Layer, TlsLayer},
    weightd::config::{Config, DEFAULT_PATH},
};

/// The variable that names another configuration.
const VARIABLE: &str = "WEIGHTD_CONFIG";
/// Where weightd's API is where nothing else is configured.
const API: &str = "http://127.0.0.1:9110";
/// Where weightd's socket is where nothing else is configured.
const SOCKET: &str = "/run/weightd/weightd.sock";

/// The defaults of this host.
#[derive(Debug, Default)]
pub(super) struct Host {
    config: Option<Config>,
}

impl Host {
    /// Reads the configuration of this host's weightd, if this user may. A file that cannot be used is reported.
    pub(super) fn read(env: &Env<'_>) -> Self {
        match Self::load(env) {
            Ok(host) => host,
            Err(error) => {
                output::note(&format!("weightd's configuration is not used: {}", Chain(&error)));
                Self::default()
            }
        }
    }

    /// The same without a report.
    pub(super) fn read_silently(env: &Env<'_>) -> Self {
        Self::load(env).unwrap_or_default()
    }

    fn load(env: &Env<'_>) -> Result<Self, ConfigError> {
        let path = path(env);
        // The environment of this process is not weightd's.
        match Config::load(Some(&path), &|_| None) {
            Ok(config) => Ok(Self { config: Some(config) }),
            Err(ConfigError::Read { .. }) => Ok(Self::default()),
            Err(error) => Err(error),
        }
    }

    /// How weightd reaches Consul, as far as the user says nothing else. `address` says whether the user names one: then the
    /// certificates for another one do not apply.
    pub(super) fn consul(&self, address: bool) -> Layer {
        let Some(config) = &self.config else { return Layer::default() };
        let consul = &config.consul;
        let tls =
            TlsLayer { ca: consul.tls.ca.clone(), server_name: consul.tls.server_name.clone(), ..TlsLayer::default() };
        Layer {
            address: (!address).then(|| consul.address.clone()),
            token: None,
            auth: None,
            datacenter: consul.datacenter.clone(),
            namespace: consul.namespace.clone(),
            partition: consul.partition.clone(),
            tls: if address || !consul.address.is_tls() { TlsLayer::default() } else { tls },
        }
    }

    /// The root of the keys.
    pub(super) fn root(&self) -> Root {
        self.config.as_ref().map(|config| config.root.clone()).unwrap_or_default()
    }

    /// Where weightd's API is; none where it is off.
    pub(super) fn api(&self) -> Option<String> {
        match &self.config {
            Some(config) => config.api.map(|address| format!("http://{address}")),
            None => Some(API.to_owned()),
        }
    }

    /// Where weightd's socket is; none where it is off.
    pub(super) fn socket(&self) -> Option<PathBuf> {
        match &self.config {
            Some(config) => config.socket.clone(),
            None => Some(SOCKET.into()),
        }
    }
}

/// Where the configuration of this host's weightd is.
pub(super) fn path(env: &Env<'_>) -> PathBuf {
    env(VARIABLE).filter(|path| !path.is_empty()).map_or_else(|| Path::new(DEFAULT_PATH).to_owned(), PathBuf::from)
}
