use std::time::Duration;

use crate::model::Moment;

/// The intervals between two readings. A second is a multiple of each: blocks and slots end there.
const READ_EVERY: [Duration; 3] = [Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1)];
/// A reading takes at most one of so many parts of its interval, unless that is the longest one.
const READ_PART: u32 = 50;

/// When the report of a node is written, and how often its numbers are read.
///
/// A new observation and a first failure are written at once, a closed block within [`Publication::BLOCK_WITHIN`], and
/// failures that go on once in [`Publication::SLOTS_EVERY`]: never because nothing happened.
#[derive(Debug)]
pub struct Publication {
    at: Option<Moment>,
    /// When slots may be written again.
    slots_from: Moment,
    /// Whether the next writing is because of a failure.
    failed: bool,
}

impl Publication {
    /// The longest time from the end of a block to its writing, without the time that Consul takes.
    pub const BLOCK_WITHIN: Duration = Duration::from_millis(1500);
    /// Between two writings because of failures.
    pub const SLOTS_EVERY: Duration = Duration::from_secs(2);

    /// How long after a reading the next one comes, if this one took so long.
    ///
    /// What a process of HAProxy counted since its last reading is lost if it ends, and a failure is seen with the next
    /// reading: so it is read often where that costs little.
    pub fn read_every(took: Duration) -> Duration {
        let [.., longest] = READ_EVERY;
        READ_EVERY.into_iter().find(|every| took.saturating_mul(READ_PART) <= *every).unwrap_or(longest)
    }

    /// Nothing is to be written.
    pub fn new() -> Self {
        Self { at: None, slots_from: Moment::default(), failed: false }
    }

    /// Somebody began to observe, and the backend was read.
    pub fn answer(&mut self, now: Moment) {
        self.not_after(now);
    }

    /// A block was closed; `jitter` spreads the nodes of a fleet, at most [`Publication::BLOCK_WITHIN`].
    pub fn closed(&mut self, now: Moment, jitter: Duration) {
        self.not_after(now + jitter.min(Self::BLOCK_WITHIN));
    }

    /// A side of `to` failed.
    pub fn failed(&mut self, now: Moment) {
        self.failed = true;
        self.not_after(now.max(self.slots_from));
    }

    /// The last writing did not succeed: everything is to be written again.
    pub fn lost(&mut self, at: Moment) {
        self.not_after(at);
    }

    fn not_after(&mut self, moment: Moment) {
        self.at = Some(self.at.map_or(moment, |at| at.min(moment)));
    }

    /// When to write next.
    pub fn next(&self) -> Option<Moment> {
        self.at
    }

    /// Takes whether to write now. After a writing because of a failure there is one more, with the slot that was running.
    pub fn take_due(&mut self, now: Moment) -> bool {
        if self.at.is_none_or(|at| now < at) {
            return false;
        }
        self.at = None;
        if std::mem::take(&mut self.failed) {
            self.slots_from = now + Self::SLOTS_EVERY;
            self.at = Some(self.slots_from);
        }
        true
    }

    /// Nobody observes any more.
    pub fn stop(&mut self) {
        *self = Self { slots_from: self.slots_from, ..Self::new() };
    }
}

impl Default for Publication {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
