//! What the person who runs this node decided.
//!
//! Owns the configuration file, the variables that beat it, and what both mean: everything behind
//! [`Config::load`] is validated and in its final type. Must never start with a setting it did not
//! understand, and must never show a secret.

mod file;
mod resolve;

use std::{
    fmt, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use weightd_core::model::Root;

pub use crate::consul::Env;
use crate::{
    base::{
        config::{ConfigError, Place, UnknownChoice, choose, read},
        telemetry::settings::Log,
    },
    consul, haproxy,
};

/// Where the configuration lies when nobody says otherwise.
pub const DEFAULT_PATH: &str = "/etc/weightd/weightd.toml";
/// Where HAProxy's runtime API is where no [[haproxy]] says otherwise.
pub const DEFAULT_SOCKET: &str = "/run/haproxy/admin.sock";

/// Everything that can be set, validated.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Whether HAProxy is written to.
    pub mode: Mode,
    /// This node's name in the fleet: 1 to [`Config::MAX_NODE`] characters of `[A-Za-z0-9_.-]`.
    pub node: String,
    /// What must survive a restart lies here. Absolute.
    pub state_dir: PathBuf,
    /// Locks and sockets lie here. Absolute.
    pub run_dir: PathBuf,
    /// How to reach Consul.
    pub consul: consul::Settings,
    /// Under which prefix the keys lie, unless an instance has its own.
    pub root: Root,
    /// How long a blocking query waits: 10 s to 10 min.
    pub wait: Duration,
    /// How often HAProxy is looked at without a cause: 1 s to 1 h.
    pub resync: Duration,
    /// How often HAProxy is asked whether it is still the same process: 50 ms to 10 s.
    pub process_poll: Duration,
    /// Where the read-only HTTP API listens; `None` for nowhere. Port 0 means any free one.
    pub api: Option<SocketAddr>,
    /// Where the Unix socket for pause and resume lies; `None` for nowhere. Absolute.
    pub socket: Option<PathBuf>,
    /// What is logged, and how.
    pub log: Log,
    /// Each HAProxy that this node drives: at least one, with different names and addresses.
    pub haproxy: Vec<HaproxyConfig>,
}

/// One HAProxy.
#[derive(Debug, Clone, PartialEq)]
pub struct HaproxyConfig {
    /// Its name in logs, metrics and files: 1 to [`HaproxyConfig::MAX_NAME`] characters of `[A-Za-z0-9_.-]`.
    pub name: String,
    /// Where its runtime API listens.
    pub address: haproxy::Address,
    /// Under which prefix its keys lie.
    pub root: Root,
    /// Where the server-state file lies that it begins with; `None` for nowhere. Absolute.
    pub state_file: Option<PathBuf>,
}

impl HaproxyConfig {
    /// The longest name, in characters.
    pub const MAX_NAME: usize = 64;
}

/// Whether HAProxy is written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Make HAProxy's weights what Consul says.
    #[default]
    Enforce,
    /// Write nothing, show what would be done.
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
    /// The longest name of a node, in characters.
    pub const MAX_NODE: usize = 128;

    /// Reads the file at `path`, or the one at [`DEFAULT_PATH`] if it exists and no path was given, and lets
    /// the environment beat it.
    ///
    /// The environment is: Consul's own variables (see [`consul::Layer::over_env`]), `WEIGHTD_LOG` for the
    /// level, and systemd's `STATE_DIRECTORY` and `RUNTIME_DIRECTORY`, of which the first directory counts.
    ///
    /// # Errors
    /// [`ConfigError`] names the place and says what to do. A path that was given and does not exist is one.
    pub fn load(path: Option<&Path>, env: &Env<'_>) -> Result<Self, ConfigError> {
        let (path, asked_for) = path.map_or((Path::new(DEFAULT_PATH), false), |path| (path, true));
        let text = match read(path) {
            Err(ConfigError::Read { source, .. }) if !asked_for && source.kind() == io::ErrorKind::NotFound => {
                String::new()
            }
            read => read?,
        };
        Self::parse(path, &text, env)
    }

    /// A file with every key and its default, explained: what `--print-default-config` prints.
    pub fn default_toml() -> String {
        include_str!("config/default.toml").to_owned()
    }

    /// The keys that `other` says something else about and that count only when weightd starts. Those of the others
    /// that differ can be changed while it runs: the log's level, `resync`, `process_poll`, and who weightd is to
    /// Consul, unless that is at another address.
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
            log,
            haproxy,
        } = self;
        // A root counts for instances that have none of their own, so that these differ with it.
        let instances = |all: &[HaproxyConfig]| {
            all.iter().map(|i| (i.name.clone(), i.address.clone(), i.state_file.clone())).collect::<Vec<_>>()
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
            // By default it lies in the directory above.
            ("api.socket", *run_dir == other.run_dir && *socket != other.socket),
            ("log.format", log.format != other.log.format),
            ("haproxy", instances(haproxy) != instances(&other.haproxy)),
            ("haproxy.root", *root == other.root && roots(haproxy) != roots(&other.haproxy)),
        ];
        differing.into_iter().filter(|(_, differs)| *differs).map(|(key, _)| key).collect()
    }

    /// Reads `text` as if it lay at `path`.
    fn parse(path: &Path, text: &str, env: &Env<'_>) -> Result<Self, ConfigError> {
        let place = Place { path, text };
        let file = toml::from_str(text).map_err(|error| place.malformed(error))?;
        resolve::resolve(file, &place, env)
    }
}

#[cfg(test)]
mod tests;
