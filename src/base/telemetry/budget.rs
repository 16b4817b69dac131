//! How many lines about the state of single backends a minute may have. Pure.

use std::time::Duration;

use weightd_core::model::Moment;

/// The lines of one minute. What thousands of backends have in common, or what flaps, must not flood the log; what is
/// true of each stands in the status anyway.
const LINES: usize = 100;
/// For how long they have to last.
const WINDOW: Duration = Duration::from_secs(60);

/// A budget of lines.
#[derive(Debug, Default)]
pub struct Budget {
    since: Moment,
    spent: usize,
    left_out: usize,
}

impl Budget {
    /// Whether one more line may be written now.
    pub fn spend(&mut self) -> bool {
        if self.spent < LINES {
            self.spent += 1;
            return true;
        }
        self.left_out += 1;
        false
    }

    /// Starts a new minute once the last is over. Returns how many lines were left out in it; to be asked before
    /// [`Budget::spend`].
    pub fn settle(&mut self, now: Moment) -> usize {
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
    fn a_minute_has_so_many_lines_and_the_next_one_tells_how_many_were_left_out() {
        let mut budget = Budget::default();
        let at = |seconds| Moment::after_start(Duration::from_secs(seconds));
        assert_eq!((0..250).filter(|_| budget.spend()).count(), LINES);
        assert_eq!(budget.settle(at(59)), 0);
        assert!(!budget.spend());
        assert_eq!(budget.settle(at(60)), 151);
        assert!(budget.spend());
        assert_eq!(budget.settle(at(120)), 0);
    }
}
