//! The only clock of the shell: turns tokio's time into the [`Moment`]s that pure code takes.

use tokio::time::Instant;
use weightd_core::model::Moment;

/// Counts from when it was made.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// Starts counting.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The moment as tokio's time, to sleep until it.
    pub fn instant(&self, moment: Moment) -> Instant {
        self.start + moment.since(Moment::default())
    }

    /// Now.
    pub fn now(&self) -> Moment {
        Moment::after_start(self.start.elapsed())
    }
}
