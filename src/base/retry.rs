//! Computes the delay before the next attempt.
//!
//! Every retry is exponential, jittered, capped and endless: weightd never gives up and never spins. Must not sleep
//! itself. Callers sleep with `tokio::time`, so that tests control the clock.
//!
//! Only this file uses the `backoff` crate. The crate is unmaintained (RUSTSEC-2025-0012), so [`Backoff`] hides it, and
//! a replacement changes only this file. Two of its defaults are harmful. It gives up after 15 minutes. It caps the
//! interval before it adds the jitter, so a delay can exceed the cap by half.

use std::time::Duration;

use backoff::{ExponentialBackoff, backoff::Backoff as _};

/// An endless series of growing delays.
///
/// Each delay is uniformly random between `min` and an upper bound (full jitter). The bound starts at twice `min` and
/// doubles with each delay, up to `max`. The first delay is jittered too, because hundreds of nodes can lose Consul at
/// the same instant.
#[derive(Debug)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    /// Generates the part of the delay above `min`.
    above: ExponentialBackoff,
}

impl Backoff {
    /// Creates a series of delays from `min` to `max`, both inclusive.
    ///
    /// # Panics
    /// In debug builds, if `min` is zero or greater than `max`. Release builds raise `min` to at least one nanosecond
    /// and
    /// `max` to at least `min`.
    pub fn new(min: Duration, max: Duration) -> Self {
        debug_assert!(!min.is_zero(), "a delay of zero would spin");
        debug_assert!(min <= max, "the least delay {min:?} exceeds the greatest {max:?}");
        let min = min.max(Duration::from_nanos(1));
        let max = max.max(min);
        // The crate draws from `interval ± interval × factor`. A factor of 1 and half the interval give a uniform
        // distribution from zero to the interval.
        let greatest = max.saturating_sub(min) / 2;
        let mut above = ExponentialBackoff {
            initial_interval: (min / 2).min(greatest),
            max_interval: greatest,
            randomization_factor: 1.0,
            multiplier: 2.0,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        above.reset();
        Self { min, max, above }
    }

    /// Returns the next delay.
    #[expect(clippy::should_implement_trait, reason = "the series is endless, so `Option` has no use")]
    pub fn next(&mut self) -> Duration {
        let above = self.above.next_backoff();
        self.delay(above)
    }

    /// Returns a uniformly random delay from `min` to `max`. Does not advance the series. It spreads the timers of a
    /// fleet.
    pub fn jitter(&self) -> Duration {
        let mut above = self.above.clone();
        above.current_interval = above.max_interval;
        self.delay(above.next_backoff())
    }

    fn delay(&self, above: Option<Duration>) -> Duration {
        // Without `max_elapsed_time` the crate never returns `None`. The longest delay is the safe fallback. The crate
        // rounds up by at most one nanosecond.
        above.map_or(self.max, |above| self.min.saturating_add(above).min(self.max))
    }

    /// Restarts the series at the shortest delays. Call it after each good answer.
    pub fn reset(&mut self) {
        self.above.reset();
    }
}

/// Returns a uniformly random duration in `around × (1 - part) ..= around × (1 + part)`.
pub fn jittered(around: Duration, part: f64) -> Duration {
    Backoff::new(around.mul_f64(1.0 - part), around.mul_f64(1.0 + part)).jitter()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Durations from 1 ns to a day, uniform in the exponent: short bounds are as likely as long ones.
    fn duration() -> impl Strategy<Value = Duration> {
        (0..47u32, 0.5..1.0f64).prop_map(|(bits, part)| Duration::from_nanos(1 << bits).mul_f64(part * 2.0))
    }

    fn bounds() -> impl Strategy<Value = (Duration, Duration)> {
        (duration(), duration()).prop_map(|(a, b)| (a.min(b), a.max(b)))
    }

    proptest! {
        #[test]
        fn delays_stay_within_their_bounds_for_ever((min, max) in bounds()) {
            let mut backoff = Backoff::new(min, max);
            for _ in 0..200 {
                let delay = backoff.next();
                prop_assert!(!delay.is_zero());
                prop_assert!(min <= delay && delay <= max, "{min:?} <= {delay:?} <= {max:?}");
            }
        }

        #[test]
        fn a_reset_goes_back_to_the_shortest_delays((min, max) in bounds()) {
            let mut backoff = Backoff::new(min, max);
            for _ in 0..50 {
                backoff.next();
            }
            backoff.reset();
            let delay = backoff.next();
            // The crate adds up to one nanosecond when it rounds.
            prop_assert!(delay <= min * 2 + Duration::from_nanos(1), "{delay:?} after a reset to {min:?}");
        }
    }

    #[test]
    fn jitter_covers_the_whole_range_and_does_not_advance_the_series() {
        let (min, max) = (Duration::from_millis(1), Duration::from_secs(8));
        let mut backoff = Backoff::new(min, max);
        let jitters: Vec<_> = (0..200).map(|_| backoff.jitter()).collect();
        assert!(jitters.iter().all(|jitter| (min..=max).contains(jitter)), "{jitters:?}");
        assert!(jitters.iter().any(|jitter| *jitter < max / 4), "{jitters:?}");
        assert!(jitters.iter().any(|jitter| *jitter > max / 4 * 3), "{jitters:?}");
        assert!(backoff.next() <= min * 2 + Duration::from_nanos(1));
    }

    #[test]
    fn delays_grow_to_the_maximum_and_stay_jittered() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(10));
        let mut backoff = Backoff::new(min, max);
        let delays: Vec<_> = (0..200).map(|_| backoff.next()).collect();
        assert!(delays[0] <= min * 2 + Duration::from_nanos(1));
        assert!(delays.iter().any(|delay| *delay > max / 2), "{delays:?}");
        assert!(delays[20..].iter().any(|delay| *delay < max / 2), "full jitter also gives short delays: {delays:?}");
    }
}
