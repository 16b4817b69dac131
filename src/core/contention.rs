//! Detects that another program or person keeps changing the same weights. weightd then corrects them only rarely.

use std::{collections::VecDeque, time::Duration};

use crate::model::Moment;

/// Number of corrections within [`WINDOW`] that make a backend contended.
const CORRECTIONS: usize = 3;
/// See [`CORRECTIONS`].
const WINDOW: Duration = Duration::from_secs(5 * 60);
/// Interval between corrections of a contended backend.
const CONTENDED_EVERY: Duration = Duration::from_secs(60);
/// Time without drift after which the backend is no longer contended.
const QUIET: Duration = Duration::from_secs(15 * 60);

/// The drift corrections of one backend in one HAProxy process.
#[derive(Debug, Clone, Default)]
pub struct Contention {
    corrections: VecDeque<Moment>,
    contended: bool,
    last_drift: Option<Moment>,
}

impl Contention {
    /// Records drift, and returns whether it may be corrected now.
    pub fn drifted(&mut self, now: Moment) -> bool {
        self.clear_if_quiet(now);
        self.last_drift = Some(now);
        let last = self.corrections.back();
        !self.contended || last.is_none_or(|last| now.since(*last) >= CONTENDED_EVERY)
    }

    /// Records a correction.
    pub fn corrected(&mut self, now: Moment) {
        self.corrections.push_back(now);
        if self.corrections.len() > CORRECTIONS {
            self.corrections.pop_front();
        }
        if self.corrections.len() == CORRECTIONS && now.since(self.corrections[0]) <= WINDOW {
            self.contended = true;
        }
    }

    /// Ends the contention after `QUIET` without drift.
    pub fn clear_if_quiet(&mut self, now: Moment) {
        if self.contended && self.last_drift.is_none_or(|last| now.since(last) >= QUIET) {
            *self = Self::default();
        }
    }

    /// Whether the backend is contended.
    pub fn contended(&self) -> bool {
        self.contended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::after_start(Duration::from_secs(seconds))
    }

    /// Simulates drift at these seconds, and returns the seconds at which it is corrected.
    fn corrected(seconds: impl IntoIterator<Item = u64>) -> (Vec<u64>, Contention) {
        let mut contention = Contention::default();
        let corrected = seconds
            .into_iter()
            .filter(|s| {
                let may = contention.drifted(at(*s));
                if may {
                    contention.corrected(at(*s));
                }
                may
            })
            .collect();
        (corrected, contention)
    }

    #[test]
    fn three_corrections_within_five_minutes_make_a_backend_contended() {
        let (corrected, contention) = corrected((0..=200).step_by(10));
        assert_eq!(corrected, [0, 10, 20, 80, 140, 200]);
        assert!(contention.contended());
    }

    #[test]
    fn less_frequent_corrections_do_not_make_a_backend_contended() {
        let (corrected, contention) = corrected([0, 200, 400, 600, 800]);
        assert_eq!(corrected, [0, 200, 400, 600, 800]);
        assert!(!contention.contended());
    }

    #[test]
    fn fifteen_minutes_without_drift_end_the_contention() {
        let (_, mut contention) = corrected([0, 10, 20, 70]);
        contention.clear_if_quiet(at(70 + 899));
        assert!(contention.contended());
        contention.clear_if_quiet(at(70 + 900));
        assert!(!contention.contended());
        assert!(contention.drifted(at(1000)));
    }
}
