//! One kind of error: its limits and its evidence.

use std::collections::BTreeMap;

use super::{
    ERRORS, THRESHOLD,
    cell::{Cell, Tally, absolute, ordinary, relative, theta0},
    evidence::{Evidence, Spread, Stakes},
};

/// The limits of a check. Rates are parts of 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// r0: more than this times the rate of `from` is a regression; at least 1.
    pub ratio: f64,
    /// Below this rate nobody cares; above 0.
    pub floor: f64,
    /// The rate that users were promised; none: not judged in absolute terms.
    pub slo: Option<f64>,
    /// The longest burst of errors that is normal, in blocks; at least 1.
    pub burst: u32,
    /// Above this share of `to`, in percent, a block has no data for this check.
    pub max_share: f64,
}

impl Limits {
    const fn new(ratio: f64, floor: f64) -> Self {
        Self { ratio, floor, slo: None, burst: 1, max_share: 100.0 }
    }

    /// `errors`: what users saw. n = H + F − m, e − m with m = min(F, wredis).
    pub const ERRORS: Self = Self { slo: Some(0.001), ..Self::new(1.5, 0.0002) };
    /// `masked`: attempts that HAProxy repeated elsewhere. (stot, min(stot, wretr + wredis)).
    pub const MASKED: Self = Self::new(1.5, 0.002);
    /// `refused`: answers 4xx.
    pub const REFUSED: Self = Self::new(2.0, 0.02);
    /// `redirected`: answers 3xx. Only up to half of the traffic: a 304 follows the version in the client's cache.
    pub const REDIRECTED: Self = Self { max_share: 50.0, ..Self::new(3.0, 0.05) };

    /// The limits of a default check; none for another name.
    pub fn of_default(name: &str) -> Option<Self> {
        Some(match name {
            ERRORS => Self::ERRORS,
            "masked" => Self::MASKED,
            "refused" => Self::REFUSED,
            "redirected" => Self::REDIRECTED,
            _ => return None,
        })
    }

    /// The checks beside `errors` that a backend of mode http has by default. A backend of mode tcp has only `masked`.
    pub fn default_others() -> BTreeMap<String, Self> {
        let others = ["masked", "refused", "redirected"];
        others.iter().filter_map(|name| Some(((*name).to_owned(), Self::of_default(name)?))).collect()
    }
}

/// One pair of counts, judged. Its evidence is against "no worse than `from`, or below the floor".
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    limits: Limits,
    stakes: Stakes,
    pub(super) relative: Evidence,
    pub(super) floor: Evidence,
    pub(super) slo: Option<Evidence>,
    pub(super) spread: Spread,
}

/// What one block said to a check.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bet {
    /// Observed and allowed, against `from`; none if no cell saw both sides.
    pub tally: Option<Tally>,
    /// By how much the bet was widened.
    pub wide: f64,
}

impl Check {
    /// A check without evidence. `horizon` and `steps` as in [`Stakes`].
    pub fn new(limits: Limits, horizon: u32, steps: u32) -> Self {
        let stakes = Stakes { horizon, steps, burst: limits.burst };
        let evidence = Evidence::new(stakes);
        Self {
            limits,
            stakes,
            relative: evidence.clone(),
            floor: evidence.clone(),
            slo: limits.slo.map(|_| evidence),
            spread: Spread::default(),
        }
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Takes a block of `from` that was recorded before the rollout gave `to` a share.
    pub fn baseline(&mut self, from_errors: f64) {
        self.spread.feed(from_errors);
    }

    /// Takes one block. `raised`: the share of `to` grew before it. `share`: of `to`, in percent.
    pub fn step(&mut self, cells: &[Cell], raised: bool, share: f64) -> Bet {
        let cells = if share > self.limits.max_share { &[] } else { cells };
        let sum = Cell::sum(cells);
        let wide =
            if sum.to.n > 0 { theta0(sum.to.n, sum.from.n, self.limits.ratio) * self.spread.excess() } else { 0.0 };
        let tally = relative(cells, self.limits.ratio);
        self.relative.step(tally, raised, wide);
        self.floor.step(absolute(cells, self.limits.floor), raised, 0.0);
        if sum.from.n > 0 {
            self.spread.feed(super::number(sum.from.e).min(ordinary(sum.from.n)));
        }
        if let (Some(evidence), Some(slo)) = (&mut self.slo, self.limits.slo) {
            evidence.step(absolute(cells, slo), raised, 0.0);
        }
        Bet { tally, wide }
    }

    /// The evidence: the smaller one of those against `from` and against the floor.
    pub fn evidence(&self) -> f64 {
        self.relative.value().min(self.floor.value())
    }

    /// The evidence against `from`.
    pub fn relative(&self) -> &Evidence {
        &self.relative
    }

    /// The evidence that the rate of `to` is above the floor.
    pub fn floor(&self) -> &Evidence {
        &self.floor
    }

    /// The evidence that the rate of `to` is above the SLO.
    pub fn slo(&self) -> Option<&Evidence> {
        self.slo.as_ref()
    }

    /// φ of the errors of `from`.
    pub fn phi(&self) -> f64 {
        self.spread.phi()
    }

    /// Whether the SLO is broken beyond doubt.
    pub fn is_broken(&self) -> bool {
        self.slo.as_ref().is_some_and(|evidence| evidence.value() >= THRESHOLD)
    }

    /// A person has seen that the SLO was broken: its evidence starts anew.
    pub fn resume_slo(&mut self) {
        self.slo = self.limits.slo.map(|_| Evidence::new(self.stakes));
    }

    /// A person goes on after a regression: all evidence starts anew. The spread stays; it says nothing of `to`.
    pub fn restart(&mut self) {
        *self = Self { spread: self.spread, ..Self::new(self.limits, self.stakes.horizon, self.stakes.steps) };
    }
}
