//! Traffic: requests and errors of both sides, block by block.

use super::*;
use crate::dice::{Dice, whole};

/// How errors come.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Errors {
    /// Each one by itself.
    Single,
    /// In bursts of 5 to 10 within one second. `own_phase`: each node has blocks of its own phase, so a burst is in two of
    /// them more often.
    Bursts { own_phase: bool },
    /// Half of them by themselves, half in bursts.
    Both,
    /// Each block has a rate of its own: gamma with shape 1.
    Frail,
}

/// A stream of requests.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    /// Requests a second, of both sides.
    pub(super) per_second: f64,
    /// The share of `to`.
    pub(super) share: f64,
    /// The error rate of `from`.
    pub(super) base: f64,
    /// The rate of `to` is so many times that of `from`.
    pub(super) ratio: f64,
    pub(super) errors: Errors,
    /// The errors of `to` come by themselves whatever `errors` says.
    pub(super) single_to: bool,
}

impl Default for Stream {
    /// 100 requests a second, 10 % of them to `to`, 0.05 % errors on both sides.
    fn default() -> Self {
        let errors = Errors::Single;
        Self { per_second: 100.0, share: 0.1, base: 0.0005, ratio: 1.0, errors, single_to: false }
    }
}

/// A run of a stream.
pub(super) struct Run {
    pub(super) stream: Stream,
    pub(super) dice: Dice,
    /// Errors of bursts that fall into the next block: of `to` and of `from`.
    next: [u64; 2],
}

impl Run {
    pub(super) fn new(stream: Stream, seed: u64) -> Self {
        Self { stream, dice: Dice::new(seed.wrapping_mul(0x9E37).wrapping_add(17)), next: [0, 0] }
    }

    /// The counts of one block of 10 s. `drift` multiplies the traffic, `rate` the errors of both sides.
    pub(super) fn block(&mut self, drift: f64, rate: f64) -> Cell {
        let Stream { per_second, share, base, ratio, errors, single_to } = self.stream;
        let requests = 10.0 * per_second * drift;
        let means = [requests * share, requests * (1.0 - share)];
        let n = means.map(|mean| self.dice.poisson(mean));
        let expected = [means[0] * base * ratio * rate, means[1] * base * rate];
        let mut e = [0_u64; 2];
        for side in 0..2 {
            let errors = if side == 0 && single_to { Errors::Single } else { errors };
            e[side] = match errors {
                Errors::Single => self.dice.poisson(expected[side]),
                Errors::Bursts { own_phase } => self.bursts(side, expected[side], own_phase),
                Errors::Both => {
                    self.dice.poisson(expected[side] / 2.0) + self.bursts(side, expected[side] / 2.0, false)
                }
                Errors::Frail => {
                    let frailty = self.dice.exponential(1.0);
                    self.dice.poisson(expected[side] * frailty)
                }
            };
        }
        let side = |at: usize| Counts { n: n[at].max(e[at]), e: e[at] };
        Cell { to: side(0), from: side(1) }
    }

    /// Errors in bursts of 5 to 10 with that mean; a part of a burst can fall into the next block.
    fn bursts(&mut self, side: usize, mean: f64, own_phase: bool) -> u64 {
        let mut errors = std::mem::take(&mut self.next[side]);
        for _ in 0..self.dice.poisson(mean / 7.5) {
            let count = 5 + self.dice.below(6);
            // A burst lasts a second: with blocks of one phase, one in ten is in two blocks.
            let split = own_phase || self.dice.chance(0.1);
            let part = if split { self.dice.unit() } else { 0.0 };
            let later = self.dice.binomial(count, part);
            self.next[side] += later;
            errors += count - later;
        }
        errors
    }

    /// The counts of one slot of 2 s, or of a part of it.
    pub(super) fn slot(&mut self, seconds: f64, to_rate: f64, from_rate: f64) -> Cell {
        let requests = seconds * self.stream.per_second;
        let n =
            [requests * self.stream.share, requests * (1.0 - self.stream.share)].map(|mean| self.dice.poisson(mean));
        let side = |dice: &mut Dice, n, rate| Counts { n, e: dice.binomial(n, rate) };
        Cell { to: side(&mut self.dice, n[0], to_rate), from: side(&mut self.dice, n[1], from_rate) }
    }
}

/// A walk of the logarithm of a rate, bounded by `low` and `high`.
pub(super) struct Walk {
    pub(super) at: f64,
    pub(super) step: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

impl Walk {
    pub(super) fn next(&mut self, dice: &mut Dice) -> f64 {
        self.at = (self.at + self.step * dice.normal()).clamp(self.low.ln(), self.high.ln());
        self.at.exp()
    }
}

/// Seconds as a whole number of blocks.
pub(super) fn blocks(seconds: f64) -> u64 {
    whole(seconds / 10.0)
}
