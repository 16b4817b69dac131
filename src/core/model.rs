//! The words everything else is written in: names, weights, moments.
//!
//! Owns the newtypes whose constructors are the only way in for text from outside, so that a name or a
//! weight that HAProxy could misread cannot exist further inside. Must never do I/O or read a clock.

mod escaped;
mod name;
mod root;
mod weight;

pub use escaped::Escaped;
pub use name::{BackendName, InvalidName, ServerName, is_typo, nearest};
pub use root::{InvalidRoot, InvalidSegment, Root, check_segment};
pub use weight::{InvalidWeight, Weight};

use std::{ops::Add, time::Duration};

/// A point in monotonic time, counted from when the program started.
///
/// Pure code takes it as an argument and never asks for it, so that tests own the clock and a jump of the
/// machine's wall clock changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Moment(Duration);

impl Moment {
    /// The moment this long after the start.
    pub const fn after_start(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// How long ago `earlier` was; zero if it lies ahead.
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
