//! Never fight: notices when something else keeps changing the same weights.

use std::{collections::VecDeque, time::Duration};

use crate::model::Moment;

/// This many corrections within [`WINDOW`] mean that something else keeps changing the weights.
const CORRECTIONS: usize = 3;
/// See [`CORRECTIONS`].
const WINDOW: Duration = Duration::from_secs(5 * 60);
/// How often a contended backend is still corrected.
const CONTENDED_EVERY: Duration = Duration::from_secs(60);
/// How long there must be no drift until it is no longer contended.
const QUIET: Duration = Duration::from_secs(15 * 60);

/// The corrections of one backend within one HAProxy process.
#[derive(Debug, Clone, Default)]
pub struct Contention {
    corrections: VecDeque<Moment>,
    contended: bool,
    last_drift: Option<Moment>,
}

impl Contention {
    /// Takes note of drift, and says whether it may be corrected now.
    pub fn drifted(&mut self, now: Moment) -> bool {
        self.settle(now);
        self.last_drift = Some(now);
        let last = self.corrections.back();
        !self.contended || last.is_none_or(|last| now.since(*last) >= CONTENDED_EVERY)
    }

    /// Takes note of a correction.
    pub fn corrected(&mut self, now: Moment) {
        self.corrections.push_back(now);
        if self.corrections.len() > CORRECTIONS {
            self.corrections.pop_front();
        }
        if self.corrections.len() == CORRECTIONS && now.since(self.corrections[0]) <= WINDOW {
            self.contended = true;
        }
    }

    /// Clears it after 15 minutes without drift.
    pub fn settle(&mut self, now: Moment) {
        if self.contended && self.last_drift.is_none_or(|last| now.since(last) >= QUIET) {
            *self = Self::default();
        }
    }

    /// Whether something else keeps changing the backend's weights.
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

    /// Drift at these seconds; those that are corrected.
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
    fn the_third_correction_within_five_minutes_makes_it_contended_and_slow() {
        let (corrected, contention) = corrected((0..=200).step_by(10));
        assert_eq!(corrected, [0, 10, 20, 80, 140, 200]);
        assert!(contention.contended());
    }

    #[test]
    fn corrections_further_apart_are_ordinary_drift() {
        let (corrected, contention) = corrected([0, 200, 400, 600, 800]);
        assert_eq!(corrected, [0, 200, 400, 600, 800]);
        assert!(!contention.contended());
    }

    #[test]
    fn fifteen_minutes_without_drift_clear_it() {
        let (_, mut contention) = corrected([0, 10, 20, 70]);
        contention.settle(at(70 + 899));
        assert!(contention.contended());
        contention.settle(at(70 + 900));
        assert!(!contention.contended());
        assert!(contention.drifted(at(1000)));
    }
}
