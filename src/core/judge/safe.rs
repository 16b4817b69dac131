//! The evidence that `to` is not many times worse, which an advance can require.

use super::{
    cell::{Cell, ordinary, relative},
    evidence::{BETS, CAP},
};

/// A mirrored bet against "the error rate of `to` is at least `ratio` times that of `from`" (a risk ratio): the errors of
/// `from` are what is observed. It starts with the step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Safe {
    pub(super) ratio: f64,
    pub(super) capital: [f64; BETS.len()],
}

impl Safe {
    /// Evidence at which "that many times worse" is excluded.
    pub const EXCLUDED: f64 = 20.0;
    /// The ratio that the presets exclude.
    pub const RATIO: f64 = 4.0;

    /// No evidence. `ratio` is above 1.
    pub fn new(ratio: f64) -> Self {
        Self { ratio, capital: [1.0; BETS.len()] }
    }

    /// Takes one block of the check `errors`. A block in which `from` has an outage says nothing of the ratio.
    pub fn step(&mut self, cells: &[Cell]) {
        let from = Cell::sum(cells).from;
        if super::number(from.e) > ordinary(from.n) {
            return;
        }
        let swapped: Vec<Cell> = cells.iter().map(|cell| cell.swapped()).collect();
        let Some(tally) = relative(&swapped, 1.0 / self.ratio) else { return };
        for (capital, b) in self.capital.iter_mut().zip(BETS) {
            *capital = (*capital * (tally.observed + b) / (tally.allowed + b)).min(CAP);
        }
    }

    /// The evidence, 1 at the start.
    pub fn value(&self) -> f64 {
        self.capital.iter().sum::<f64>() / f64::from(u8::try_from(BETS.len()).unwrap_or(u8::MAX))
    }

    /// The same ratio, without evidence: a new step.
    #[must_use]
    pub fn restarted(&self) -> Self {
        Self::new(self.ratio)
    }
}
