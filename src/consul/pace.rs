//! Limits the rate of the reads that follow changes. Pure: no clock.
//!
//! A token bucket with a rate that depends on the cost of a read. A small answer is read at most 100 times per second.
//! A large answer is read so rarely that reading takes at most a fifth of a core. Changes at a lower rate never wait.

use std::time::Duration;

use weightd_core::model::Moment;

/// Number of reads without a pause.
pub const BURST: u32 = 5;
/// Shortest interval between reads after a burst. It limits the load on Consul.
pub const FASTEST: Duration = Duration::from_millis(10);
/// Longest interval between reads. The last change of a series arrives within it.
pub const SLOWEST: Duration = Duration::from_secs(1);
/// The interval is this multiple of the duration of a read.
const SHARE: u32 = 5;

/// Returns the interval between reads, after a read of duration `cost`. For an empty prefix it is [`SLOWEST`], because
/// Consul then wakes the query for nearly every write of the datacenter.
pub fn interval(cost: Duration, empty: bool) -> Duration {
    if empty { SLOWEST } else { (cost * SHARE).clamp(FASTEST, SLOWEST) }
}

/// A token bucket. It refills while no change arrives, so a single change never waits.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    /// When the bucket is full again, if no token is taken until then.
    full_at: Moment,
}

impl Pace {
    /// Takes a token and returns the wait before its use, at most `interval`. Tokens that were taken at a slower rate
    /// do not delay reads at a faster rate.
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
    fn the_interval_depends_on_the_cost_within_bounds() {
        let millis = Duration::from_millis;
        assert_eq!(interval(millis(0), false), FASTEST);
        assert_eq!(interval(millis(1), false), FASTEST);
        assert_eq!(interval(millis(40), false), millis(200));
        assert_eq!(interval(millis(4000), false), SLOWEST);
        assert_eq!(interval(millis(0), true), SLOWEST);
    }

    #[test]
    fn a_burst_does_not_wait_and_many_changes_are_limited() {
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
    fn tokens_of_a_slow_rate_do_not_delay_a_fast_rate() {
        let mut pace = Pace::default();
        let mut now = Moment::after_start(Duration::from_secs(60));
        // The prefix is empty, and Consul wakes the query for every write elsewhere.
        for _ in 0..100 {
            now = now + pace.take(SLOWEST, now);
        }
        // The first document and a rollback wait at most one interval of the fast rate.
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
    fn changes_below_the_rate_never_wait() {
        let mut pace = Pace::default();
        let mut now = Moment::default();
        for _ in 0..1000 {
            assert_eq!(pace.take(FASTEST, now), Duration::ZERO);
            now = now + FASTEST;
        }
    }
}
