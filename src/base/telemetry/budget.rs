//! Limits the log lines per minute about the state of single backends. Pure.

use std::time::Duration;

use weightd_core::model::Moment;

/// Maximum number of lines per [`WINDOW`]. A problem that thousands of backends share, or a flapping state, must not
/// flood the log. The status shows the state of each backend.
const LINES: usize = 100;
/// The period of the limit.
const WINDOW: Duration = Duration::from_secs(60);

/// Counts the log lines of the current minute.
#[derive(Debug, Default)]
pub struct Budget {
    since: Moment,
    spent: usize,
    left_out: usize,
}

impl Budget {
    /// Takes one line from the budget. Returns false if the budget of this minute is used up.
    pub fn spend(&mut self) -> bool {
        if self.spent < LINES {
            self.spent += 1;
            return true;
        }
        self.left_out += 1;
        false
    }

    /// Starts a new minute if the last one is over, and returns the number of lines that it left out. Call it before
    /// [`Budget::spend`].
    pub fn renew(&mut self, now: Moment) -> usize {
        if now.since(self.since) < WINDOW {
            return 0;
        }
        let left_out = self.left_out;
        *self = Self { since: now, ..Self::default() };
        left_out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_per_minute_are_limited_and_the_next_minute_reports_how_many_were_left_out() {
        let mut budget = Budget::default();
        let at = |seconds| Moment::after_start(Duration::from_secs(seconds));
        assert_eq!((0..250).filter(|_| budget.spend()).count(), LINES);
        assert_eq!(budget.renew(at(59)), 0);
        assert!(!budget.spend());
        assert_eq!(budget.renew(at(60)), 151);
        assert!(budget.spend());
        assert_eq!(budget.renew(at(120)), 0);
    }
}
