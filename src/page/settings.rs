//! The settings of the page.

use std::{net::SocketAddr, path::PathBuf};

use weightd_core::model::Root;

use crate::{
    consul,
    rolloutd::config::{Config, PageConfig, PageTls},
};

/// The settings of the page, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// How to reach Consul, with a token that can only read.
    pub consul: consul::Settings,
    /// Prefix of the keys.
    pub root: Root,
    /// Where it listens. Other machines can reach it only with [`Settings::tls`] or [`Settings::behind_proxy`].
    pub listen: SocketAddr,
    /// The file of two keys for the cookie; none: keys of its own at each start. Absolute.
    pub key_file: Option<PathBuf>,
    /// The hosts that a request may name, in lower case, without a port. An IPv6 address is in brackets. At least one.
    pub hosts: Vec<String>,
    /// The path in front of all paths: empty, or `/path` without a trailing slash.
    pub base_path: String,
    /// Whether a proxy in front of it terminates TLS.
    pub behind_proxy: bool,
    /// The certificate of the page.
    pub tls: Option<PageTls>,
    /// Loopback address of its metrics; none turns them off.
    pub metrics: Option<SocketAddr>,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        let PageConfig { listen, token: _, key_file, hosts, base_path, behind_proxy, tls, metrics } =
            config.page.clone();
        let (consul, root) = (config.page_consul(), config.root.clone());
        Self { consul, root, listen, key_file, hosts, base_path, behind_proxy, tls, metrics }
    }
}

impl Settings {
    /// Whether people reach it with TLS: then the cookie is never sent without it.
    pub fn is_secure(&self) -> bool {
        self.tls.is_some() || self.behind_proxy
    }
}
