//! The configuration of rolloutd: of the controller and of the page, in one file.
//!
//! Owns the configuration file and the environment variables that override it. All values that [`Config::load`] returns are
//! validated and have their final type. Must not start with an unknown setting, and must not show a secret.

mod checks;
mod file;
mod page;
mod resolve;
mod webhook;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::SecretString;
use weightd_core::{
    desired::Pattern,
    model::Root,
    rollout::{EventKind, source::Template},
};

pub(in crate::rolloutd) use self::checks::check_basic;
pub use crate::base::config::Env;
use crate::{
    base::{
        config::{ConfigError, Place, read_or},
        secret::SecretSource,
        telemetry::settings::Log,
    },
    consul::{self, TokenSource},
};

/// The configuration file if `--config` is not given.
pub const DEFAULT_PATH: &str = "/etc/weightd/rolloutd.toml";

/// The validated configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// The name of this controller in logs, in the history and in the lock: 1 to 128 characters of `[A-Za-z0-9_.-]`.
    pub name: String,
    /// How to reach Consul.
    pub consul: consul::Settings,
    /// Prefix of the keys.
    pub root: Root,
    /// Wait time of a blocking query: 10 s to 10 min.
    pub wait: Duration,
    /// How many rollouts are active at most: 1 to 500. The others are queued.
    pub max_active: usize,
    /// Address of the read-only HTTP API; `None` turns it off. Port 0 selects any free port.
    pub api: Option<SocketAddr>,
    /// Level and format of the log.
    pub log: Log,
    /// The metrics systems, by name.
    pub sources: BTreeMap<String, SourceConfig>,
    /// The named checks. Each one has a source of [`Config::sources`].
    pub checks: BTreeMap<String, CheckConfig>,
    /// The webhooks, with different names.
    pub webhooks: Vec<WebhookConfig>,
    /// The page.
    pub page: PageConfig,
}

/// A metrics system with the HTTP API of Prometheus.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceConfig {
    /// `http://host:port` or `https://host:port`, optionally with a path, without a trailing slash. `/api/v1/query` is
    /// appended to it.
    pub url: String,
    /// How rolloutd authenticates.
    pub credentials: Credentials,
    /// The only trusted CA, in PEM; `None` if the CAs of this machine are trusted. Absolute.
    pub ca_file: Option<PathBuf>,
    /// Deadline of one query: 1 s to 30 s.
    pub timeout: Duration,
    /// The interval at which it scrapes its targets: 1 s to 5 min.
    pub scrape_interval: Duration,
}

/// How rolloutd authenticates at a metrics system.
#[derive(Debug, Clone, PartialEq)]
pub enum Credentials {
    /// Not at all.
    None,
    /// A bearer token.
    Bearer(TokenSource),
    /// Basic authentication: `user:password`.
    Basic(SecretSource),
}

/// A named check: two counts from a metrics system.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckConfig {
    /// The name of its source.
    pub source: String,
    /// The query for the number of requests.
    pub total: Template,
    /// The query for the number of bad ones among them.
    pub bad: Template,
    /// The length of a window: a multiple of 10 s, at least four scrapes, at most 1 h.
    pub window: Duration,
}

/// A webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookConfig {
    /// Its name in logs and metrics: 1 to 64 characters of `[A-Za-z0-9_.-]`.
    pub name: String,
    /// The URL. It often contains a token, so it is never shown. One from a file is checked when it is read.
    pub url: SecretSource,
    /// The events that it is sent; at least one, in the order of their kinds.
    pub events: Vec<EventKind>,
    /// The backends of which it is told; empty: all.
    pub backends: Vec<Pattern>,
    /// A bearer token.
    pub token: TokenSource,
    /// The only trusted CA, in PEM; `None` if the CAs of this machine are trusted. Absolute.
    pub ca_file: Option<PathBuf>,
    /// Deadline of one delivery: 1 s to 30 s.
    pub timeout: Duration,
}

/// The page.
#[derive(Debug, Clone, PartialEq)]
pub struct PageConfig {
    /// Where it listens. Other machines can reach it only with [`PageConfig::tls`] or [`PageConfig::behind_proxy`].
    pub listen: SocketAddr,
    /// The token that can only read. It replaces the one of `[consul]`.
    pub token: TokenSource,
    /// The file of two keys for the cookie; `None` if the page makes keys of its own at each start. Absolute.
    pub key_file: Option<PathBuf>,
    /// The hosts that a request may name, in lower case, without a port. An IPv6 address is in brackets. At least one.
    pub hosts: Vec<String>,
    /// The path in front of all paths: empty, or `/path` without a trailing slash.
    pub base_path: String,
    /// Whether a proxy in front of it terminates TLS.
    pub behind_proxy: bool,
    /// The certificate of the page.
    pub tls: Option<PageTls>,
    /// Loopback address of the metrics of the page; `None` turns it off.
    pub metrics: Option<SocketAddr>,
}

/// The certificate of the page. Both files are PEM, and absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageTls {
    /// The certificate, and the intermediate certificates up to its CA.
    pub cert_file: PathBuf,
    /// Its private key.
    pub key_file: PathBuf,
}

/// The two programs that read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// `rolloutd`.
    Controller,
    /// `rolloutd page`.
    Page,
}

impl Config {
    /// Reads the file at `path`. Without `path`, reads [`DEFAULT_PATH`] if it exists. Environment variables override the
    /// file.
    ///
    /// These variables are read: the ones of Consul (see [`consul::Layer::over_env`]), and `ROLLOUTD_LOG` for the log level.
    ///
    /// # Errors
    /// [`ConfigError`] names the place and the fix. A `path` that does not exist is an error.
    pub fn load(path: Option<&Path>, env: &Env<'_>) -> Result<Self, ConfigError> {
        let (path, text) = read_or(path, DEFAULT_PATH)?;
        Self::parse(path, &text, env)
    }

    /// Returns a file with all keys, defaults and explanations, for `--print-default-config`.
    pub fn default_toml() -> String {
        include_str!("config/default.toml").to_owned()
    }

    /// How the page reaches Consul: as the controller, but with the token that can only read.
    pub fn page_consul(&self) -> consul::Settings {
        consul::Settings { token: self.page.token.clone(), ..self.consul.clone() }
    }

    /// Returns the keys that differ in `other` and that apply to `role` only after a restart.
    ///
    /// The other keys can change at runtime: the log level; the token, credentials and TLS settings for the same Consul
    /// address; and for the controller the sources, checks and webhooks.
    pub fn needs_restart(&self, other: &Self, role: Role) -> Vec<&'static str> {
        let Self { name, consul, root, wait, max_active, api, log, sources: _, checks: _, webhooks: _, page } = self;
        let PageConfig { listen, token: _, key_file, hosts, base_path, behind_proxy, tls, metrics } = page;
        let shared = [
            ("name", *name != other.name),
            ("consul.address", consul.address != other.consul.address),
            ("consul.datacenter", consul.datacenter != other.consul.datacenter),
            ("consul.namespace", consul.namespace != other.consul.namespace),
            ("consul.partition", consul.partition != other.consul.partition),
            ("consul.root", *root != other.root),
            ("consul.wait", *wait != other.wait),
            ("log.format", log.format != other.log.format),
        ];
        let own = match role {
            Role::Controller => {
                vec![("controller.max_active", *max_active != other.max_active), ("api.listen", *api != other.api)]
            }
            Role::Page => vec![
                ("page.listen", *listen != other.page.listen),
                ("page.key_file", *key_file != other.page.key_file),
                ("page.hosts", *hosts != other.page.hosts),
                ("page.base_path", *base_path != other.page.base_path),
                ("page.behind_proxy", *behind_proxy != other.page.behind_proxy),
                ("page.tls", *tls != other.page.tls),
                ("page.metrics_listen", *metrics != other.page.metrics),
            ],
        };
        shared.into_iter().chain(own).filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// Parses `text` as the content of the file at `path`.
    fn parse(path: &Path, text: &str, env: &Env<'_>) -> Result<Self, ConfigError> {
        let place = Place { path, text };
        let file = toml::from_str(text).map_err(|error| place.malformed(error))?;
        resolve::resolve(file, &place, env)
    }
}

/// Checks the URL of a webhook that was read from a file.
///
/// # Errors
/// The problem, and the fix. Never contains the URL.
pub fn check_webhook_url(url: &SecretString) -> Result<(), &'static str> {
    webhook::check_url(url)
}

#[cfg(test)]
mod tests;
