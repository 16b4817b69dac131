//! What survives a restart of the controller: the evidence as a value. The form is that of the reference.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    cell::Counts,
    check::Check,
    evidence::{BETS, CAP, Evidence, Spread, Track},
    safe::Safe,
    verdict::{Judge, Plan},
};

type Capital = [f64; BETS.len()];

/// The evidence of a [`Judge`]. About 3 KB of JSON with the default checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// H, in blocks.
    pub horizon: u32,
    /// Raises in the plan; 0 if unknown.
    pub steps: u32,
    /// Seconds since the evidence was last grey.
    pub calm: u64,
    /// Requests of `to` since the step began.
    pub to_n: u64,
    /// Errors of `to` since the step began.
    pub to_e: u64,
    /// The capitals of [`Safe`].
    pub safe: Capital,
    /// The checks by name, `errors` among them.
    pub checks: BTreeMap<String, CheckState>,
}

/// The evidence of one check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CheckState {
    /// Against `from`.
    pub rel: EvidenceState,
    /// Against the floor.
    pub low: EvidenceState,
    /// Against the SLO; none without one.
    pub high: Option<EvidenceState>,
    /// The dispersion of the errors of `from`.
    pub spread: Spread,
}

/// One [`Evidence`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvidenceState {
    /// Fast stakes that are placed.
    pub raises: u32,
    /// Slow stakes that are placed.
    pub t: u64,
    /// Whether the next block with data opens a step.
    pub new: bool,
    /// The capitals of the fast track.
    pub fast: Capital,
    /// Blocks in which the fast track may only fall.
    pub fast_left: u32,
    /// The capitals of the slow track.
    pub slow: Capital,
    /// Blocks in which the slow track may only fall.
    pub slow_left: u32,
}

/// Why a state is not the evidence of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadState {
    /// It belongs to a plan with other steps or another length.
    #[error("the evidence has {0} steps and a horizon of {1} blocks; the rollout has {2} and {3}")]
    OtherPlan(u32, u32, u32, u32),
    /// It belongs to other checks.
    #[error("the evidence has other checks than the rollout")]
    OtherChecks,
    /// A number that no judge can have.
    #[error("the evidence of {0} is not possible")]
    Impossible(&'static str),
}

/// The capitals with 12 digits: the rest only makes the value longer.
fn rounded(capital: Capital) -> Capital {
    capital.map(|value| format!("{value:.11e}").parse().unwrap_or(value))
}

/// Whether a judge can have these capitals.
fn possible(capital: &Capital) -> bool {
    capital.iter().all(|value| (0.0..=CAP).contains(value))
}

impl EvidenceState {
    fn of(evidence: &Evidence) -> Self {
        let Evidence { raises, t, new, fast, slow, .. } = evidence;
        Self {
            raises: *raises,
            t: *t,
            new: *new,
            fast: rounded(fast.capital),
            fast_left: fast.left,
            slow: rounded(slow.capital),
            slow_left: slow.left,
        }
    }

    fn load(&self, evidence: &mut Evidence, plan: &Plan) -> Result<(), BadState> {
        if !possible(&self.fast) || !possible(&self.slow) || plan.steps > 0 && self.raises > plan.steps {
            return Err(BadState::Impossible("a check"));
        }
        evidence.raises = self.raises;
        evidence.t = self.t;
        evidence.new = self.new;
        evidence.fast = Track { capital: self.fast, left: self.fast_left };
        evidence.slow = Track { capital: self.slow, left: self.slow_left };
        Ok(())
    }
}

impl CheckState {
    fn of(check: &Check) -> Self {
        Self {
            rel: EvidenceState::of(&check.relative),
            low: EvidenceState::of(&check.floor),
            high: check.slo.as_ref().map(EvidenceState::of),
            spread: check.spread,
        }
    }

    fn load(&self, check: &mut Check, plan: &Plan) -> Result<(), BadState> {
        let Spread { diff, total, last } = self.spread;
        let known = last.unwrap_or_default();
        if [diff, total, known].iter().any(|value| !value.is_finite() || *value < 0.0) || total < 1.0 {
            return Err(BadState::Impossible("the spread"));
        }
        check.spread = self.spread;
        self.rel.load(&mut check.relative, plan)?;
        self.low.load(&mut check.floor, plan)?;
        match (&self.high, &mut check.slo) {
            (Some(state), Some(evidence)) => state.load(evidence, plan),
            (None, None) => Ok(()),
            _ => Err(BadState::OtherChecks),
        }
    }
}

impl Judge {
    /// The evidence as a value.
    pub fn state(&self) -> State {
        State {
            horizon: self.horizon,
            steps: self.steps,
            calm: self.calm,
            to_n: self.step.n,
            to_e: self.step.e,
            safe: rounded(self.safe.capital),
            checks: self.checks().map(|(name, check)| (name.to_owned(), CheckState::of(check))).collect(),
        }
    }

    /// The judge that had this evidence. Blocks since then are lost, which keeps the guarantee.
    ///
    /// # Errors
    /// [`BadState`] if it is not the evidence of this plan.
    pub fn restore(plan: &Plan, state: &State) -> Result<Self, BadState> {
        let mut judge = Self::new(plan);
        if (state.horizon, state.steps) != (plan.horizon, plan.steps) {
            return Err(BadState::OtherPlan(state.steps, state.horizon, plan.steps, plan.horizon));
        }
        if state.checks.len() != judge.others.len() + 1 {
            return Err(BadState::OtherChecks);
        }
        if !possible(&state.safe) {
            return Err(BadState::Impossible("the exclusion"));
        }
        for (name, check) in judge.checks_mut() {
            state.checks.get(name).ok_or(BadState::OtherChecks)?.load(check, plan)?;
        }
        judge.calm = state.calm;
        judge.step = Counts { n: state.to_n, e: state.to_e };
        judge.safe = Safe { capital: state.safe, ..judge.safe };
        Ok(judge)
    }
}
