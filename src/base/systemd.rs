//! Notifications to systemd: ready, stopping, alive. Does nothing where no systemd listens.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time::Instant;
use tracing::debug;

/// Notifies systemd. A failure is no reason to stop.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "systemd cannot be notified");
    }
}

/// Notifies systemd that the configuration is being read again; [`NotifyState::Ready`] must follow.
pub fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        // Without the time systemd would treat it as a failed reload.
        Err(error) => debug!(%error, "systemd cannot be notified"),
    }
}

/// Feeds systemd's watchdog, but only while every watched loop turns.
#[derive(Debug)]
pub struct Watchdog {
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Which loops have turned since the last ping.
    turned: Vec<bool>,
    next: Instant,
}

/// Held by one loop, which reports with it that it turns.
#[derive(Debug)]
pub struct Pulse {
    watchdog: Option<Arc<Watchdog>>,
    number: usize,
}

impl Watchdog {
    /// One pulse for each of so many loops. They ping twice in the time that systemd allows, or never where it does not
    /// watch.
    pub fn pulses(loops: usize) -> Vec<Pulse> {
        let watchdog = sd_notify::watchdog_enabled().map(|timeout| {
            let state = State { turned: vec![false; loops], next: Instant::now() };
            Arc::new(Self { every: timeout / 2, state: Mutex::new(state) })
        });
        (0..loops).map(|number| Pulse { watchdog: watchdog.clone(), number }).collect()
    }
}

impl Pulse {
    /// The loop has turned.
    pub fn beat(&self) {
        let Some(watchdog) = &self.watchdog else { return };
        let mut state = watchdog.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turned) = state.turned.get_mut(self.number) {
            *turned = true;
        }
        let now = Instant::now();
        if now >= state.next && state.turned.iter().all(|turned| *turned) {
            state.turned.fill(false);
            state.next = now + watchdog.every;
            notify(&[NotifyState::Watchdog]);
        }
    }
}
