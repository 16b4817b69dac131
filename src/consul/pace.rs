//! The token bucket between blocking queries: pure, no clock.

use std::time::Duration;

use weightd_core::model::Moment;

/// How many reads may follow each other without a pause.
pub const BURST: u32 = 5;
/// After a burst, one read in this time: 10 a second delay the last change of a storm by at most 100 ms and cost next to
/// nothing.
pub const EVERY: Duration = Duration::from_millis(100);
/// The same while the prefix is empty: then Consul wakes the query for nearly every write of the datacenter.
pub const EVERY_EMPTY: Duration = Duration::from_secs(1);

/// A token bucket. A single change never waits: the bucket is full when nothing happened for a while.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// When the bucket will be full again, if no more is taken.
    full_at: Moment,
}

impl Pace {
    /// Takes a token and returns how long to wait before it is used: never longer than `every`. A bucket that was emptied at
    /// a slower rate has no debt at a faster one.
    pub fn take(&mut self, every: Duration, now: Moment) -> Duration {
        let full_at = self.full_at.clamp(now, now + every * BURST);
        self.full_at = full_at + every;
        full_at.since(now + every * (BURST - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_free_and_a_storm_is_paced() {
        let mut pace = Pace::default();
        let mut now = Moment::after_start(Duration::from_secs(60));
        for _ in 0..BURST {
            assert_eq!(pace.take(EVERY, now), Duration::ZERO);
        }
        let mut reads = 0;
        let end = now + Duration::from_secs(10);
        while now < end {
            now = now + pace.take(EVERY, now);
            reads += 1;
        }
        assert!((95..=101).contains(&reads), "{reads}");
    }

    #[test]
    fn a_slow_rate_leaves_no_debt_at_a_fast_one() {
        let mut pace = Pace::default();
        let mut now = Moment::after_start(Duration::from_secs(60));
        // The prefix is empty, and Consul wakes for every write elsewhere.
        for _ in 0..100 {
            now = now + pace.take(EVERY_EMPTY, now);
        }
        // The first document, and then a rollback: neither waits for longer than the fast rate.
        for _ in 0..20 {
            let pause = pace.take(EVERY, now);
            assert!(pause <= EVERY, "{pause:?}");
            now = now + pause;
        }
        now = now + EVERY * BURST;
        for _ in 0..BURST {
            assert_eq!(pace.take(EVERY, now), Duration::ZERO, "the bucket is full again");
        }
    }

    #[test]
    fn changes_further_apart_than_the_rate_never_wait() {
        let mut pace = Pace::default();
        let mut now = Moment::default();
        for _ in 0..1000 {
            assert_eq!(pace.take(EVERY, now), Duration::ZERO);
            now = now + EVERY;
        }
    }
}
