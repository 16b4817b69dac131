//! The pace of the reads that follow changes: pure, no clock.
//!
//! A token bucket whose rate follows from the cost of a read. A small answer is read up to a hundred times a second; a large
//! one so often that reading takes a fifth of a core at most. Changes that are further apart than that never wait.

use std::time::Duration;

use weightd_core::model::Moment;

/// How many reads may follow each other without a pause.
pub const BURST: u32 = 5;
/// The shortest time for one read after a burst: it bounds what a storm costs Consul.
pub const FASTEST: Duration = Duration::from_millis(10);
/// The longest one: the last change of a storm arrives within it.
pub const SLOWEST: Duration = Duration::from_secs(1);
/// One read in this multiple of the time that it takes.
const SHARE: u32 = 5;

/// The time for one read, after a read that took `cost`. While the prefix is empty, Consul wakes the query for nearly every
/// write of the datacenter.
pub fn interval(cost: Duration, empty: bool) -> Duration {
    if empty { SLOWEST } else { (cost * SHARE).clamp(FASTEST, SLOWEST) }
}

/// A token bucket. A single change never waits: the bucket is full when nothing happened for a while.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// When the bucket will be full again, if no more is taken.
    full_at: Moment,
}

impl Pace {
    /// Takes a token and returns how long to wait before it is used: never longer than `interval`. A bucket that was emptied
    /// at a slower rate has no debt at a faster one.
    pub fn take(&mut self, interval: Duration, now: Moment) -> Duration {
        let full_at = self.full_at.clamp(now, now + interval * BURST);
        self.full_at = full_at + interval;
        full_at.since(now + interval * (BURST - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interval_follows_from_the_cost_within_bounds() {
        let millis = Duration::from_millis;
        assert_eq!(interval(millis(0), false), FASTEST);
        assert_eq!(interval(millis(1), false), FASTEST);
        assert_eq!(interval(millis(40), false), millis(200));
        assert_eq!(interval(millis(4000), false), SLOWEST);
        assert_eq!(interval(millis(0), true), SLOWEST);
    }

    #[test]
    fn a_burst_is_free_and_a_storm_is_paced() {
        let mut pace = Pace::default();
        let mut now = Moment::after_start(Duration::from_secs(60));
        for _ in 0..BURST {
            assert_eq!(pace.take(FASTEST, now), Duration::ZERO);
        }
        let mut reads = 0;
        let end = now + Duration::from_secs(1);
        while now < end {
            now = now + pace.take(FASTEST, now);
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
            now = now + pace.take(SLOWEST, now);
        }
        // The first document, and then a rollback: neither waits for longer than the fast rate.
        for _ in 0..20 {
            let pause = pace.take(FASTEST, now);
            assert!(pause <= FASTEST, "{pause:?}");
            now = now + pause;
        }
        now = now + FASTEST * BURST;
        for _ in 0..BURST {
            assert_eq!(pace.take(FASTEST, now), Duration::ZERO, "the bucket is full again");
        }
    }

    #[test]
    fn changes_further_apart_than_the_rate_never_wait() {
        let mut pace = Pace::default();
        let mut now = Moment::default();
        for _ in 0..1000 {
            assert_eq!(pace.take(FASTEST, now), Duration::ZERO);
            now = now + FASTEST;
        }
    }
}
