//! Notifications to systemd: ready, stopping, watchdog. Does nothing if the process does not run under systemd.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sd_notify::NotifyState;
use tokio::time::Instant;
use tracing::debug;

/// Notifies systemd. A failure is only logged.
pub fn notify(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        debug!(%error, "failed to notify systemd");
    }
}

/// Notifies systemd that a reload of the configuration has started. [`NotifyState::Ready`] must follow.
pub fn notify_reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        // Without the timestamp systemd treats the reload as failed.
        Err(error) => debug!(%error, "failed to notify systemd"),
    }
}

/// Pings systemd's watchdog while every watched loop makes progress.
#[derive(Debug)]
pub struct Watchdog {
    every: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// For each loop, whether it made progress since the last ping.
    alive: Vec<bool>,
    next: Instant,
}

/// The handle with which one loop reports progress.
#[derive(Debug)]
pub struct Pulse {
    watchdog: Option<Arc<Watchdog>>,
    number: usize,
}

impl Watchdog {
    /// Creates one pulse for each of `loops` loops. The pings come twice per `WatchdogSec`. Without a watchdog the
    /// pulses do nothing.
    pub fn pulses(loops: usize) -> Vec<Pulse> {
        let watchdog = sd_notify::watchdog_enabled().map(|timeout| {
            let state = State { alive: vec![false; loops], next: Instant::now() };
            Arc::new(Self { every: timeout / 2, state: Mutex::new(state) })
        });
        (0..loops).map(|number| Pulse { watchdog: watchdog.clone(), number }).collect()
    }
}

impl Pulse {
    /// Reports one iteration of the loop.
    pub fn beat(&self) {
        let Some(watchdog) = &self.watchdog else { return };
        let mut state = watchdog.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(alive) = state.alive.get_mut(self.number) {
            *alive = true;
        }
        let now = Instant::now();
        if now >= state.next && state.alive.iter().all(|alive| *alive) {
            state.alive.fill(false);
            state.next = now + watchdog.every;
            notify(&[NotifyState::Watchdog]);
        }
    }
}
