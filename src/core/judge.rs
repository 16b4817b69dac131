//! The judge of a rollout: whether the new side `to` is worse than the old side `from` that runs beside it.
//!
//! Owns the statistics and nothing else: counts in, evidence and verdicts out. The same algorithm is written in Python in
//! `tests/judge/reference.py`; the tests compare the two number by number.
//!
//! **Evidence** is a bet on "observed versus allowed". In a block of 10 s, `to` shows O errors. If `to` is at most as bad as
//! tolerated, at most X errors are expected. A bet with the pseudo-count b multiplies its capital by (O + b) / (X + b). On
//! average this factor is at most 1 while `to` is healthy, so the capital of a healthy rollout reaches 100 at most once in
//! 100 rollouts, however often somebody reads it (Ville's inequality). This holds for bursts of any size inside one block,
//! for drifts, and for shares that change between blocks. It holds only for blocks that end by the clock.
//!
//! | symbol | meaning |
//! |---|---|
//! | n, e | requests and errors of one side in one block |
//! | r0 | tolerated ratio of the error rates, `to` / `from` |
//! | θ0 | largest share of all errors that `to` may have while its ratio is at most r0 |
//! | O, X | errors that `to` shows; errors that it is allowed |
//! | b | pseudo-count of a bet: a small b bets on a large ratio |
//! | φ | dispersion of the errors of `from` per block: 1 for independent errors, more for bursts |
//! | H | horizon, in blocks: how fast the stake for late regressions is placed |
//! | M | evidence: the capital of all bets, 1 at the start |
//!
//! | module | owns |
//! |---|---|
//! | [`mod@cell`] | counts, and how they become O and X |
//! | [`mod@evidence`] | bets, stakes and capital |
//! | [`mod@check`] | one kind of error: its limits and its evidence |
//! | [`mod@safe`] | the evidence that `to` is not four times worse |
//! | [`mod@verdict`] | all checks of a rollout, and the verdict |
//! | [`mod@advance`] | whether a bake may end |
//! | [`mod@trip`] | the rules for failures that cannot wait: HARD and SEVERE |
//! | [`mod@hang`] | the rule for requests that start and never end: HANG |
//! | [`mod@state`] | what survives a restart of the controller |

pub mod advance;
pub mod cell;
pub mod check;
pub mod evidence;
pub mod hang;
pub mod safe;
pub mod state;
pub mod trip;
pub mod verdict;

pub use advance::{Advance, Bake, advance};
pub use cell::{Cell, Counts};
pub use check::{Check, Limits};
pub use evidence::Evidence;
pub use hang::{Flow, hang};
pub use safe::Safe;
pub use state::{BadState, State};
pub use trip::{HARD, Rule, SEVERE, Trip, trip};
pub use verdict::{Judge, Plan, Verdict};

/// Length of a block, in seconds. Block k is the wall-clock time from 10 k to 10 (k + 1) seconds after 1970.
pub const BLOCK_SECONDS: u64 = 10;
/// Length of a slot, in seconds.
pub const SLOT_SECONDS: u64 = 2;
/// Evidence at which a verdict is due: the inverse of the tolerated rate of false verdicts.
pub const THRESHOLD: f64 = 100.0;
/// Evidence at which a rollout does not advance, and at which a broken SLO counts as the fault of `to`.
pub const GREY: f64 = 10.0;
/// Seconds for which the evidence must stay below [`GREY`] before an advance.
pub const CALM_SECONDS: u64 = 300;
/// The name of the main check, which holds half of the weight.
pub const ERRORS: &str = "errors";
/// The horizon H of a rollout of unknown length, in blocks: 24 hours.
pub const GUARD_HORIZON: u32 = 8640;

/// A count as a number of the formulas. Counts above 2^53 lose their last digits.
#[expect(clippy::cast_precision_loss, reason = "a block with more than 2^53 requests does not exist")]
fn number(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests;
