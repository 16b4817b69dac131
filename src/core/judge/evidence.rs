//! Bets, stakes and capital: the evidence against one hypothesis.

use serde::{Deserialize, Serialize};

use super::cell::Tally;

/// The pseudo-counts b of the bets.
pub const BETS: [f64; 6] = [3.0, 1.0, 0.3, 0.1, 0.03, 0.01];
/// The stake for raises of the share; the same amount is for all other blocks.
const HALF: f64 = 0.5;
/// The highest capital, far above every threshold. It excludes an overflow.
pub(super) const CAP: f64 = 1e250;

/// The k-th stake, k ≥ 1: H / 2 / ((k + H − 1)(k + H)). All stakes sum to 1/2; after k of them k / (k + H) / 2 is placed.
/// The stakes never end, so a fault after a night of waiting is still found.
pub(super) fn stake(k: f64, horizon: f64) -> f64 {
    HALF * horizon / ((k + horizon - 1.0) * (k + horizon))
}

/// One track of bets: a capital for each pseudo-count, all with the same start times.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Track {
    /// The capital of each bet, in the order of [`BETS`].
    pub(super) capital: [f64; BETS.len()],
    /// The blocks in which the capital may only fall: one burst is one win.
    pub(super) left: u32,
}

impl Track {
    fn step(&mut self, tally: Tally, wide: f64, placed: f64, cool: u32) {
        for (capital, b) in self.capital.iter_mut().zip(BETS) {
            let factor = (tally.observed + b + wide) / (tally.allowed + b + wide);
            let factor = if self.left > 0 { factor.min(1.0) } else { factor };
            *capital = ((*capital + placed) * factor).min(CAP);
        }
        let won = self.left == 0 && tally.observed > tally.allowed;
        self.left = if won { cool } else { self.left.saturating_sub(1) };
    }

    fn idle(&mut self) {
        self.left = self.left.saturating_sub(1);
    }

    fn value(&self) -> f64 {
        self.capital.iter().sum::<f64>() / f64::from(u8::try_from(BETS.len()).unwrap_or(u8::MAX))
    }
}

/// How the stakes of an [`Evidence`] are placed. Fixed at the start of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stakes {
    /// H, in blocks, at least 1: twice the sum of all bakes, or [`super::GUARD_HORIZON`].
    pub horizon: u32,
    /// Raises in the plan; 0 if unknown (people move the share).
    pub steps: u32,
    /// The longest burst of errors that is normal, in blocks, at least 1.
    pub burst: u32,
}

/// Evidence M: a mixture over the sizes of bets and over start times. The fast track starts at each raise, the slow track a
/// little in every other block. `wide` (only against `from`) makes both sides of the factor larger where the errors of
/// `from` come in bursts.
#[derive(Debug, Clone, PartialEq)]
pub struct Evidence {
    stakes: Stakes,
    /// Fast stakes that are placed.
    pub(super) raises: u32,
    /// t: slow stakes that are placed.
    pub(super) t: u64,
    /// Whether the next block with data opens a step.
    pub(super) new: bool,
    pub(super) fast: Track,
    pub(super) slow: Track,
}

impl Evidence {
    /// Evidence 1: nothing is placed.
    pub fn new(stakes: Stakes) -> Self {
        Self { stakes, raises: 0, t: 0, new: true, fast: Track::default(), slow: Track::default() }
    }

    /// Takes one block. None is a block without information: only the cool-downs pass. `raised`: the share of `to` grew
    /// before this block. `wide` ≥ 0 comes from past blocks only.
    pub fn step(&mut self, tally: Option<Tally>, raised: bool, wide: f64) {
        self.new |= raised;
        let Some(tally) = tally else {
            self.fast.idle();
            self.slow.idle();
            return;
        };
        let Stakes { horizon, steps, burst } = self.stakes;
        let (mut fast, mut slow) = (0.0, 0.0);
        if self.new && (steps == 0 || self.raises < steps) {
            self.raises = self.raises.saturating_add(1);
            fast = if steps == 0 { stake(f64::from(self.raises), 1.0) } else { HALF / f64::from(steps) };
        } else {
            self.t += 1;
            slow = stake(super::number(self.t), f64::from(horizon));
        }
        self.new = false;
        self.fast.step(tally, wide, fast, burst.saturating_sub(1));
        self.slow.step(tally, wide, slow, burst);
    }

    /// M. The stake that is not placed yet follows from the two numbers of stakes.
    pub fn value(&self) -> f64 {
        let Stakes { horizon, steps, .. } = self.stakes;
        let raises = f64::from(self.raises);
        let fast = if steps == 0 { raises / (raises + 1.0) } else { raises / f64::from(steps) };
        let t = super::number(self.t);
        let rest = 1.0 - HALF * fast - HALF * t / (t + f64::from(horizon));
        rest + self.fast.value() + self.slow.value()
    }

    /// Which track holds more capital: true for the fast one, which began at a raise.
    pub fn is_since_raise(&self) -> bool {
        self.fast.value() >= self.slow.value()
    }
}

/// φ, the dispersion of the errors of `from` per block, from the differences of successive blocks, so that a slow drift
/// cancels: `Σ(e_k − e_(k−1))² / 2 / (1 + Σ e_k)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// `Σ(e_k − e_(k−1))² / 2`.
    pub diff: f64,
    /// `1 + Σ e_k`.
    pub total: f64,
    /// The errors of the last block.
    pub last: Option<f64>,
}

impl Default for Spread {
    fn default() -> Self {
        Self { diff: 0.0, total: 1.0, last: None }
    }
}

impl Spread {
    /// Takes the errors of `from` in one block, at most [`super::cell::ordinary`].
    pub fn feed(&mut self, errors: f64) {
        if let Some(last) = self.last {
            self.diff += (errors - last).powi(2) / 2.0;
            self.total += errors;
        }
        self.last = Some(errors);
    }

    /// φ.
    pub fn phi(&self) -> f64 {
        self.diff / self.total
    }

    /// φ − 1, from 0 to 50: by how much a bet is widened, in units of θ0.
    pub fn excess(&self) -> f64 {
        (self.phi() - 1.0).clamp(0.0, 50.0)
    }
}
