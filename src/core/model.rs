//! The basic types: names, weights, moments.
//!
//! Text from outside enters only through the constructors of these newtypes. They reject names and weights that HAProxy
//! could misread. Must not do I/O or read a clock.

mod escaped;
mod name;
mod root;
mod timestamp;
mod weight;

pub use escaped::Escaped;
pub use name::{BackendName, InvalidName, ServerName, is_typo, nearest};
pub use root::{InvalidRoot, InvalidSegment, Root, check_segment};
pub use timestamp::{InvalidTimestamp, Timestamp};
pub use weight::{InvalidWeight, Weight};

use std::{ops::Add, time::Duration};

/// A point in monotonic time, counted from the start of the program.
///
/// Pure code takes it as an argument, so that tests control the clock. A jump of the wall clock has no effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(Duration);

impl Moment {
    /// Returns the moment `elapsed` after the start.
    pub const fn after_start(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// Returns the duration since `earlier`; zero if `earlier` is in the future.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, rhs: Duration) -> Self {
        Self(self.0 + rhs)
    }
}
