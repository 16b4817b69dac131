//! HANG: `to` starts requests and ends none, while `from` ends its own.

use super::trip::Trip;

/// Requests of a window. Started = max(lbtot, stot − wretr) + those in flight at the base; completed = H + F of the counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flow {
    /// Requests that a server of the side started.
    pub started: u64,
    /// Requests that ended, with an answer or without.
    pub completed: u64,
}

impl Flow {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            started: self.started.saturating_add(other.started),
            completed: self.completed.saturating_add(other.completed),
        }
    }
}

/// Requests that each side must have started.
pub const MIN_STARTED: u64 = 10;
/// The longest window, in seconds.
pub const MAX_WINDOW_SECONDS: u64 = 300;

/// The shortest window, in seconds: three answers of `from`, at least 10 s. It is longer until `to` started 10 requests, at
/// most [`MAX_WINDOW_SECONDS`]. Only whole blocks that began after the raise are in it. `from_rtime` is the response time of
/// `from`, in milliseconds.
pub fn window_seconds(from_rtime: u64) -> f64 {
    (3.0 * super::number(from_rtime) / 1000.0).max(10.0)
}

/// Applies the rule to the sums of a window.
pub fn hang(to: Flow, from: Flow) -> Option<Trip> {
    if to.started < MIN_STARTED || to.completed.saturating_mul(10) >= to.started {
        return None;
    }
    if from.started < MIN_STARTED {
        return Some(Trip::Hold);
    }
    (from.completed.saturating_mul(2) >= from.started).then_some(Trip::Rollback)
}
