//! When a window of a named check is asked for.

use crate::judge::BLOCK_SECONDS;

/// Seconds after the last scrape that the source gets to store it.
const SETTLE: u64 = 5;

/// The times of one named check, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The length of a window. Windows begin at its multiples.
    pub window: u64,
    /// The interval at which the source scrapes.
    pub scrape_interval: u64,
    /// The first window begins at this unix time or later.
    pub since: u64,
}

/// A window, in unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// Its begin.
    pub begin: u64,
    /// Its end.
    pub end: u64,
}

impl Window {
    /// The block in which it begins: unix time / 10.
    pub const fn block(self) -> u64 {
        self.begin / BLOCK_SECONDS
    }

    /// How many blocks it covers.
    pub const fn blocks(self) -> u64 {
        (self.end - self.begin) / BLOCK_SECONDS
    }
}

impl Schedule {
    /// The newest window whose samples are all there at the unix time `now`; none if none is complete since
    /// [`Schedule::since`]. Windows that were missed meanwhile are not asked for: they are no data.
    pub fn newest(&self, now: u64) -> Option<Window> {
        let window = self.window.max(1);
        let end = now.checked_sub(self.scrape_interval.saturating_add(SETTLE))? / window * window;
        let begin = end.checked_sub(window)?;
        (begin >= self.since).then_some(Window { begin, end })
    }

    /// The unix time at which the window after the newest one is complete.
    pub fn next(&self, now: u64) -> u64 {
        let window = self.window.max(1);
        let late = self.scrape_interval.saturating_add(SETTLE);
        let begun = now.saturating_sub(late).max(self.since.div_ceil(window).saturating_mul(window)) / window * window;
        begun.saturating_add(window).saturating_add(late)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Schedule = Schedule { window: 60, scrape_interval: 15, since: 0 };

    #[test]
    fn a_window_is_asked_for_when_its_last_scrape_is_stored() {
        assert_eq!(MINUTE.newest(0), None);
        assert_eq!(MINUTE.newest(79), None);
        assert_eq!(MINUTE.newest(80), Some(Window { begin: 0, end: 60 }));
        assert_eq!(MINUTE.newest(139), Some(Window { begin: 0, end: 60 }));
        assert_eq!(MINUTE.newest(140), Some(Window { begin: 60, end: 120 }));
        assert_eq!(Window { begin: 60, end: 120 }.block(), 6);
    }

    #[test]
    fn a_window_that_began_before_the_check_was_wanted_does_not_count() {
        let schedule = Schedule { since: 61, ..MINUTE };
        assert_eq!(schedule.newest(140), None);
        assert_eq!(schedule.newest(200), Some(Window { begin: 120, end: 180 }));
        assert_eq!(schedule.next(0), 200);
    }

    #[test]
    fn the_next_window_is_complete_at_the_time_that_was_announced() {
        for now in 0..600 {
            let next = MINUTE.next(now);
            assert!(next > now, "{now}");
            assert_eq!(MINUTE.newest(next - 1), MINUTE.newest(now), "{now}");
            assert_ne!(MINUTE.newest(next), MINUTE.newest(now), "{now}");
        }
    }
}
