//! Handles SIGHUP: reads the configuration again, and applies the changes that need no restart.
//!
//! Must not apply a configuration in part. If the file is invalid, or a token or certificate cannot be read, nothing
//! changes. Must not abort a blocking query.

use std::{path::PathBuf, sync::Arc};

use sd_notify::NotifyState;
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::{
    base::{chain::Chain, config::ConfigError, systemd, telemetry},
    consul::{Access, Client, ConsulError},
    weightd::{config::Config, metrics::Metrics, session::Timing},
};

/// The parts of a running weightd that a reload changes.
pub(super) struct Reloader {
    /// The path of the configuration file, if `--config` was given.
    pub(super) path: Option<PathBuf>,
    /// The configuration in force. It can be older than the file.
    pub(super) config: Config,
    pub(super) log: telemetry::Handle,
    pub(super) client: Arc<Client>,
    pub(super) timing: watch::Sender<Timing>,
    pub(super) metrics: Arc<Metrics>,
}

/// The error of a reload; nothing changed.
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
            Self::Config(_) => "fix the file, run `weightd --check`, then reload again",
            Self::Consul(error) => error.remedy(),
        }
    }
}

impl Reloader {
    /// Reloads the configuration. Reports the result to systemd, the log and the metrics.
    pub(super) fn reload(&mut self) {
        systemd::notify_reloading();
        let result = self.apply();
        self.metrics.reloaded(result.is_ok());
        match result {
            Ok(need_restart) if need_restart.is_empty() => info!("the new configuration is in force"),
            Ok(need_restart) => warn!(
                keys = need_restart.join(", "),
                hint = "restart weightd; HAProxy keeps its weights during the restart",
                "the new configuration is in force, but some changes need a restart"
            ),
            Err(error) => error!(
                error = %Chain(&error),
                hint = error.remedy(),
                "cannot use the new configuration; the previous one stays in force"
            ),
        }
        systemd::notify(&[NotifyState::Ready]);
    }

    /// Applies the configuration. Returns the changed keys that need a restart.
    fn apply(&mut self) -> Result<Vec<&'static str>, ReloadError> {
        let read = Config::load(self.path.as_deref(), &|name| std::env::var(name).ok())?;
        let need_restart = self.config.needs_restart(&read);
        // A token and a CA belong to one Consul address. If the address changes, they need the restart as well.
        let consul = if read.consul.address == self.config.consul.address { &read.consul } else { &self.config.consul };
        let access = Access::of(consul);
        // The only step that can fail comes first. It reads the token and the certificates even if their paths did not
        // change.
        self.client.replace(access.clone())?;
        Access { token: self.config.consul.token, auth: self.config.consul.auth, tls: self.config.consul.tls } = access;
        super::warn_if_unverified(&self.config.consul);
        self.log.set_level(&read.log.level);
        self.config.log.level = read.log.level;
        (self.config.resync, self.config.process_poll) = (read.resync, read.process_poll);
        let timing = Timing { resync: read.resync, process_poll: read.process_poll };
        self.timing.send_if_modified(|now| std::mem::replace(now, timing) != timing);
        Ok(need_restart)
    }
}
