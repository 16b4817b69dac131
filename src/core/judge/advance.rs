//! Whether a bake may end.

use super::{CALM_SECONDS, GREY, cell::Counts, safe::Safe};

/// Requests of `to` without which no step ends.
pub const MIN_REQUESTS: u64 = 300;

/// What is known at the end of a bake.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bake {
    /// Good seconds: the length of the blocks that were judged in this step.
    pub good: u64,
    /// The length of the bake, in seconds.
    pub bake: u64,
    /// Requests and errors of `to` since the step began.
    pub step: Counts,
    /// The evidence now.
    pub total: f64,
    /// Seconds since the evidence was last at or above [`GREY`].
    pub calm: u64,
    /// The evidence of [`Safe`].
    pub safe: f64,
    /// Whether "four times worse" must be excluded.
    pub must_exclude: bool,
    /// The SLO of `errors`.
    pub slo: Option<f64>,
    /// Whether all gates are open: every node applied, the real share is as wanted, the window is open, few blocks are
    /// dropped.
    pub ready: bool,
}

/// What to do with the bake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advance {
    /// Go on baking.
    Wait,
    /// The step is done.
    Advance,
    /// Twice the length is over without enough evidence: stop and call a person.
    Hold,
}

/// Decides about the end of a bake.
pub fn advance(bake: &Bake) -> Advance {
    if bake.good < bake.bake {
        return Advance::Wait;
    }
    let sound = bake.ready && is_sound(bake);
    match () {
        () if sound && is_proven(bake) => Advance::Advance,
        () if bake.good < 2 * bake.bake => Advance::Wait,
        () => Advance::Hold,
    }
}

/// Whether `to` had enough requests and the evidence against it is low, and has been for a while.
pub fn is_sound(bake: &Bake) -> bool {
    bake.step.n >= MIN_REQUESTS && bake.total < GREY && bake.calm >= CALM_SECONDS.min(bake.bake)
}

/// Whether "four times worse" is excluded, where it must be: by [`Safe`], or because `to` itself meets the SLO. The second
/// rule is wrong for at most 4.1 % of sides that do not meet it.
pub fn is_proven(bake: &Bake) -> bool {
    let slo_met = |slo: f64| super::number(bake.step.n) * slo >= 4.0 + 2.0 * super::number(bake.step.e);
    !bake.must_exclude || bake.safe >= Safe::EXCLUDED || bake.slo.is_some_and(slo_met)
}
