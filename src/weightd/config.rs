//! The configuration of weightd.
//!
//! Owns the configuration file and the environment variables that override it. All values that [`Config::load`] returns
//! are validated and have their final type. Must not start with an unknown setting, and must not show a secret.

mod file;
mod resolve;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use weightd_core::model::Root;

pub use crate::base::config::Env;
use crate::{
    base::{
        config::{self, ConfigError, Place, UnknownChoice, choose, read_or},
        telemetry::settings::Log,
    },
    consul, haproxy,
};

/// The configuration file if `--config` is not given.
pub const DEFAULT_PATH: &str = "/etc/weightd/weightd.toml";
/// The socket of the runtime API if no [[haproxy]] section sets it.
pub const DEFAULT_SOCKET: &str = "/run/haproxy/admin.sock";

/// The validated configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Whether weightd writes to HAProxy.
    pub mode: Mode,
    /// This node's name in the fleet: 1 to [`Config::MAX_NODE`] characters of `[A-Za-z0-9_.-]`.
    pub node: String,
    /// Directory for data that must survive a restart. Absolute.
    pub state_dir: PathBuf,
    /// Directory for locks and sockets. Absolute.
    pub run_dir: PathBuf,
    /// How to reach Consul.
    pub consul: consul::Settings,
    /// Prefix of the keys, unless an instance has its own.
    pub root: Root,
    /// Wait time of a blocking query: 10 s to 10 min.
    pub wait: Duration,
    /// Interval between routine readings of HAProxy: 1 s to 1 h.
    pub resync: Duration,
    /// Interval between checks for a new HAProxy process: 50 ms to 10 s.
    pub process_poll: Duration,
    /// Address of the read-only HTTP API; `None` turns it off. Port 0 selects any free port.
    pub api: Option<SocketAddr>,
    /// Path of the Unix socket for pause and resume; `None` turns it off. Absolute.
    pub socket: Option<PathBuf>,
    /// What the fleet sees of this node.
    pub fleet: FleetConfig,
    /// Level and format of the log.
    pub log: Log,
    /// The HAProxy instances of this node: at least one, with different names and addresses.
    pub haproxy: Vec<HaproxyConfig>,
}

/// One HAProxy.
#[derive(Debug, Clone, PartialEq)]
pub struct HaproxyConfig {
    /// Its name in logs, metrics and files: 1 to [`HaproxyConfig::MAX_NAME`] characters of `[A-Za-z0-9_.-]`.
    pub name: String,
    /// Address of its runtime API.
    pub address: haproxy::Address,
    /// Prefix of its keys.
    pub root: Root,
    /// Path of the server-state file that a new process loads; `None` if weightd writes none. Absolute.
    pub state_file: Option<PathBuf>,
    /// Address of the master's socket; `None` if weightd does not read workers that leave.
    pub master_socket: Option<haproxy::Address>,
}

impl HaproxyConfig {
    /// Maximum length of a name, in characters.
    pub const MAX_NAME: usize = 64;
}

/// What the fleet sees of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FleetConfig {
    /// Identifies the machine: 1 to [`Config::MAX_NODE`] characters of `[A-Za-z0-9_.-]`. None: derived from
    /// `/etc/machine-id` and the state directory.
    pub machine_id: Option<String>,
    /// Whether a clean stop removes this node from the inventory, for hosts that come and go.
    pub leave_on_stop: bool,
}

/// Whether weightd writes to HAProxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Keep the weights in HAProxy in step with Consul.
    #[default]
    Enforce,
    /// Write nothing; report the changes that enforce mode would make.
    Observe,
}

impl FromStr for Mode {
    type Err = UnknownChoice;

    fn from_str(text: &str) -> Result<Self, UnknownChoice> {
        choose(text, &[("enforce", Self::Enforce), ("observe", Self::Observe)])
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Enforce => "enforce",
            Self::Observe => "observe",
        })
    }
}

impl Config {
    /// Maximum length of the name of a node, in characters.
    pub const MAX_NODE: usize = config::MAX_NODE;

    /// Reads the file at `path`. Without `path`, reads [`DEFAULT_PATH`] if it exists. Environment variables override
    /// the file.
    ///
    /// These variables are read: the ones of Consul (see [`consul::Layer::over_env`]), `WEIGHTD_LOG` for the log level,
    /// and `STATE_DIRECTORY` and `RUNTIME_DIRECTORY` of systemd. If one of the latter lists several directories, the
    /// first one is used.
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

    /// Returns the keys that differ in `other` and that apply only after a restart. The other keys can change at
    /// runtime: the log level, `resync`, `process_poll`, and the token, credentials and TLS settings for the same
    /// Consul address.
    pub fn needs_restart(&self, other: &Self) -> Vec<&'static str> {
        let Self {
            mode,
            node,
            state_dir,
            run_dir,
            consul,
            root,
            wait,
            resync: _,
            process_poll: _,
            api,
            socket,
            fleet,
            log,
            haproxy,
        } = self;
        // A change of `consul.root` also changes the instances without their own root.
        let instances = |all: &[HaproxyConfig]| {
            let key =
                |i: &HaproxyConfig| (i.name.clone(), i.address.clone(), i.state_file.clone(), i.master_socket.clone());
            all.iter().map(key).collect::<Vec<_>>()
        };
        let roots = |all: &[HaproxyConfig]| all.iter().map(|instance| instance.root.clone()).collect::<Vec<_>>();
        let differing = [
            ("mode", *mode != other.mode),
            ("node", *node != other.node),
            ("state_dir", *state_dir != other.state_dir),
            ("run_dir", *run_dir != other.run_dir),
            ("consul.address", consul.address != other.consul.address),
            ("consul.datacenter", consul.datacenter != other.consul.datacenter),
            ("consul.namespace", consul.namespace != other.consul.namespace),
            ("consul.partition", consul.partition != other.consul.partition),
            ("consul.root", *root != other.root),
            ("consul.wait", *wait != other.wait),
            ("api.listen", *api != other.api),
            // The default path is in `run_dir`, so that a change of `run_dir` changes it too.
            ("api.socket", *run_dir == other.run_dir && *socket != other.socket),
            ("fleet", *fleet != other.fleet),
            ("log.format", log.format != other.log.format),
            ("haproxy", instances(haproxy) != instances(&other.haproxy)),
            ("haproxy.root", *root == other.root && roots(haproxy) != roots(&other.haproxy)),
        ];
        differing.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// Parses `text` as the content of the file at `path`.
    fn parse(path: &Path, text: &str, env: &Env<'_>) -> Result<Self, ConfigError> {
        let place = Place { path, text };
        let file = toml::from_str(text).map_err(|error| place.malformed(error))?;
        resolve::resolve(file, &place, env)
    }
}

#[cfg(test)]
mod tests;
