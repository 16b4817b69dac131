//! Counts of one block, and how they become "observed" (O) and "allowed" (X).

use serde::{Deserialize, Serialize};

use super::number;

/// Requests of one side, and the errors among them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// n: requests.
    pub n: u64,
    /// e: errors.
    pub e: u64,
}

impl Counts {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { n: self.n.saturating_add(other.n), e: self.e.saturating_add(other.e) }
    }
}

/// The counts of one (node, HAProxy instance) in one block. Cells are never pooled before the comparison: nodes with
/// different mixes of traffic would make a healthy side look worse (Simpson's paradox).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The new side.
    pub to: Counts,
    /// The old side.
    pub from: Counts,
}

impl Cell {
    /// The sum of both: blocks of one instance are merged so.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self { to: self.to.plus(other.to), from: self.from.plus(other.from) }
    }

    /// The same counts with the sides exchanged.
    #[must_use]
    pub fn swapped(self) -> Self {
        Self { to: self.from, from: self.to }
    }

    /// The sum of all cells.
    pub fn sum(cells: &[Self]) -> Self {
        cells.iter().fold(Self::default(), |sum, cell| sum.plus(*cell))
    }
}

/// O and X of one block.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tally {
    /// O: errors that were observed on the side that is judged.
    pub observed: f64,
    /// X: errors that it is allowed.
    pub allowed: f64,
}

/// `θ0 = r0 n_t / (r0 n_t + n_f)`: the largest share of the errors that `to` may expect while its odds ratio is at most r0.
pub fn theta0(to_n: u64, from_n: u64, r0: f64) -> f64 {
    let (to_n, from_n) = (number(to_n), number(from_n));
    to_n * r0 / (to_n * r0 + from_n)
}

/// O and X against `from`, cell by cell; none if no cell saw both sides.
pub fn relative(cells: &[Cell], r0: f64) -> Option<Tally> {
    let mut tally = None;
    for cell in cells.iter().filter(|cell| cell.to.n > 0 && cell.from.n > 0) {
        let sum = tally.get_or_insert(Tally { observed: 0.0, allowed: 0.0 });
        sum.observed += number(cell.to.e);
        sum.allowed += theta0(cell.to.n, cell.from.n, r0) * number(cell.to.e.saturating_add(cell.from.e));
    }
    tally
}

/// O and X against the fixed rate `p0`; none if `to` had no request.
pub fn absolute(cells: &[Cell], p0: f64) -> Option<Tally> {
    let to = Cell::sum(cells).to;
    (to.n > 0).then(|| Tally { observed: number(to.e), allowed: number(to.n) * p0 })
}

/// The most errors of `from` in a block that are no outage. What is above says nothing of bursts, nor of the ratio.
pub fn ordinary(from_n: u64) -> f64 {
    (0.03 * number(from_n)).max(10.0)
}

/// The most blocks that are merged into one.
pub const MERGED_BLOCKS: u32 = 6;

/// Whether merged blocks of 10 s hold enough to judge. Decided by the numbers of requests, never by errors: blocks that end
/// because of errors would bias the bet.
pub fn is_full(blocks: u32, to_n: u64, from_n: u64) -> bool {
    blocks >= MERGED_BLOCKS || (to_n >= 1 && from_n >= 10)
}
