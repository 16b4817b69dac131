//! SIGHUP: reads the configuration again, and changes what can be changed while weightd runs.
//!
//! Must never leave half of a configuration in force: a broken file, or one that names a token or a certificate that cannot
//! be read, changes nothing. Must never abandon a blocked query.

use std::{path::PathBuf, sync::Arc};

use sd_notify::NotifyState;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::{
    base::{chain::Chain, config::ConfigError, systemd, telemetry},
    consul::{Access, Client, ConsulError},
    weightd::{config::Config, metrics::Metrics, session::Timing},
};

/// What is needed to change a running weightd.
pub(super) struct Reloader {
    /// The path of the configuration, if one was given.
    pub(super) path: Option<PathBuf>,
    /// What is in force, which may be older than what was last read.
    pub(super) config: Config,
    pub(super) log: telemetry::Handle,
    pub(super) client: Arc<Client>,
    pub(super) timing: watch::Sender<Timing>,
    pub(super) metrics: Arc<Metrics>,
}

/// Why nothing was changed.
#[derive(Debug, thiserror::Error)]
enum ReloadError {
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Consul(#[from] ConsulError),
}

impl ReloadError {
    fn remedy(&self) -> &'static str {
        match self {
            Self::Config(_) => "fix the file, check it with `weightd --check`, and reload again",
            Self::Consul(error) => error.remedy(),
        }
    }
}

impl Reloader {
    /// Reads everything again. Reports it to systemd, in the log and in the metrics.
    pub(super) fn reload(&mut self) {
        systemd::notify_reloading();
        let done = self.read_again();
        self.metrics.reloaded(done.is_ok());
        match done {
            Ok(waiting) if waiting.is_empty() => info!("the configuration was read again and is in force"),
            Ok(waiting) => warn!(
                keys = waiting.join(", "),
                hint = "restart weightd at a convenient time; HAProxy keeps its weights meanwhile",
                "the configuration was read again; some of its changes need a restart"
            ),
            Err(error) => error!(
                error = %Chain(&error),
                hint = error.remedy(),
                "the configuration cannot be used; what was in force stays in force"
            ),
        }
        systemd::notify(&[NotifyState::Ready]);
    }

    /// Puts what was read in force, and returns the keys that need a restart.
    fn read_again(&mut self) -> Result<Vec<&'static str>, ReloadError> {
        let read = Config::load(self.path.as_deref(), &|name| std::env::var(name).ok())?;
        let waiting = self.config.needs_restart(&read);
        // A token belongs to the Consul at its address, and so does a CA: with another address they wait as well.
        let consul = if read.consul.address == self.config.consul.address { &read.consul } else { &self.config.consul };
        let access = Access::of(consul);
        // The only step that can fail comes first. It reads token and certificates anew, changed or not.
        self.client.replace(access.clone())?;
        Access { token: self.config.consul.token, auth: self.config.consul.auth, tls: self.config.consul.tls } = access;
        super::warn_if_unverified(&self.config.consul);
        self.log.set_level(&read.log.level);
        self.config.log.level = read.log.level;
        (self.config.resync, self.config.process_poll) = (read.resync, read.process_poll);
        let timing = Timing { resync: read.resync, process_poll: read.process_poll };
        self.timing.send_if_modified(|now| std::mem::replace(now, timing) != timing);
        Ok(waiting)
    }
}
