//! Converts tokio's time to the [`Moment`]s that pure code takes. All I/O code reads the time here.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;
use weightd_core::model::{Moment, Timestamp};

/// A monotonic clock. Its moments count from [`Clock::start`].
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts the clock at moment zero.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// Converts a moment to tokio's time, for `sleep_until`.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + moment.since(Moment::default())
    }

    /// Returns the current moment.
    pub fn now(&self) -> Moment {
        Moment::after_start(self.start.elapsed())
    }
}

/// The wall clock: the time since 1970. Before 1970 it is 0.
pub fn wall() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The wall clock in whole seconds, for people and for values in Consul.
pub fn timestamp() -> Timestamp {
    Timestamp::from_seconds(wall().as_secs())
}
