//! What systemd is told: ready, stopping, alive. Does nothing where no systemd listens.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::Instant;
use tracing::debug;

/// Tells systemd. A manager that cannot be told is no reason to stop.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd cannot be told");
    }
}

/// Feeds systemd's watchdog, from the loop that it is to watch and from nowhere else.
#[derive(Debug)]
pub struct Watchdog {
    every: Option<Duration>,
    next: Instant,
}

impl Watchdog {
    /// One that pings twice in the time systemd allows, or never where it does not watch.
    pub fn from_env() -> Self {
        Self { every: sd_notify::watchdog_enabled().map(|timeout| timeout / 2), next: Instant::now() }
    }

    /// Pings if it is time to.
    pub fn ping(&mut self) {
        let Some(every) = self.every else { return };
        let now = Instant::now();
        if now >= self.next {
            notify(&[NotifyState::Watchdog]);
            self.next = now + every;
        }
    }
}
