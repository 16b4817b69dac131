//! All checks of a rollout, and the verdict.

use std::collections::BTreeMap;

use super::{
    ERRORS, GREY, THRESHOLD,
    cell::{Cell, Counts},
    check::{Bet, Check, Limits},
    safe::Safe,
};

/// The checks of a rollout and its length. Fixed at the start: a check that joined later would break the guarantee.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// H, in blocks, at least 1: twice the sum of all bakes; [`super::GUARD_HORIZON`] if unknown.
    pub horizon: u32,
    /// Raises in the plan; 0 if unknown.
    pub steps: u32,
    /// The check `errors`.
    pub errors: Limits,
    /// All other checks, by name.
    pub others: BTreeMap<String, Limits>,
    /// The ratio that [`Safe`] excludes; above 1.
    pub safe_ratio: f64,
}

/// What the evidence says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// Nothing.
    Ok,
    /// Something, not enough for a verdict. The rollout does not advance.
    Grey,
    /// A rate is too high, and it is not clear that `to` is the cause: stop and call a person.
    Hold,
    /// `to` is worse than tolerated: take it back.
    Rollback,
}

impl Verdict {
    /// The word of the reference and of outputs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Grey => "grey",
            Self::Hold => "hold",
            Self::Rollback => "rollback",
        }
    }
}

/// The cells of each check in one block, by the name of the check. A check that is not there has no data.
pub type Block<'b> = BTreeMap<&'b str, &'b [Cell]>;

/// All checks of a rollout. Fed with one block after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    pub(super) horizon: u32,
    pub(super) steps: u32,
    pub(super) errors: Check,
    pub(super) others: BTreeMap<String, Check>,
    pub(super) safe: Safe,
    /// Seconds since the evidence was last at or above [`GREY`].
    pub(super) calm: u64,
    /// Requests and errors of `to` since the step began, of the check `errors`.
    pub(super) step: Counts,
}

impl Judge {
    /// A judge without evidence. `errors` is not among the other checks.
    pub fn new(plan: &Plan) -> Self {
        let check = |limits: &Limits| Check::new(*limits, plan.horizon, plan.steps);
        let others = plan.others.iter().filter(|(name, _)| *name != ERRORS);
        Self {
            horizon: plan.horizon,
            steps: plan.steps,
            errors: check(&plan.errors),
            others: others.map(|(name, limits)| (name.clone(), check(limits))).collect(),
            safe: Safe::new(plan.safe_ratio),
            calm: 0,
            step: Counts::default(),
        }
    }

    /// Takes one block, which may be several merged ones: `seconds` is its length. `raised`: the share of `to` grew before
    /// it. `share`: the share of `to`, in percent. Returns the verdict.
    pub fn block(&mut self, block: &Block<'_>, raised: bool, share: f64, seconds: u64) -> Verdict {
        self.block_with(block, raised, share, seconds, |_, _| ())
    }

    /// As [`Judge::block`]; `each` gets what each check made of the block.
    pub fn block_with(
        &mut self,
        block: &Block<'_>,
        raised: bool,
        share: f64,
        seconds: u64,
        mut each: impl FnMut(&str, Bet),
    ) -> Verdict {
        if raised {
            self.safe = self.safe.restarted();
            self.step = Counts::default();
        }
        let cells = |name: &str| block.get(name).copied().unwrap_or_default();
        each(ERRORS, self.errors.step(cells(ERRORS), raised, share));
        for (name, check) in &mut self.others {
            each(name, check.step(cells(name), raised, share));
        }
        let main = cells(ERRORS);
        self.safe.step(main);
        self.step = self.step.plus(Cell::sum(main).to);
        self.calm = if self.total() < GREY { self.calm.saturating_add(seconds) } else { 0 };
        self.verdict(main.iter().any(|cell| cell.from.n > 0))
    }

    /// The evidence of all checks: `errors` has one half of the weight, all others share the other half. More checks never
    /// slow the main one.
    pub fn total(&self) -> f64 {
        let main = self.errors.evidence();
        if self.others.is_empty() {
            return main;
        }
        let others: f64 = self.others.values().map(Check::evidence).sum();
        f64::midpoint(main, others / super::number(self.others.len() as u64))
    }

    /// The verdict of the evidence so far. `control`: `from` had requests in the last block. Without a control nothing moves
    /// by itself.
    pub fn verdict(&self, control: bool) -> Verdict {
        let is_broken = self.checks().any(|(_, check)| check.is_broken());
        if self.total() >= THRESHOLD || self.broken_by_to().next().is_some() {
            return if control { Verdict::Rollback } else { Verdict::Hold };
        }
        match () {
            () if is_broken => Verdict::Hold,
            () if self.total() >= GREY => Verdict::Grey,
            () => Verdict::Ok,
        }
    }

    /// The checks whose SLO is broken and that have evidence against `to`: each of them is a verdict.
    pub fn broken_by_to(&self) -> impl Iterator<Item = &str> {
        let broken = self.checks().filter(|(_, check)| check.is_broken() && check.evidence() >= GREY);
        broken.map(|(name, _)| name)
    }

    /// Whether an SLO is broken and nothing else is found: it is not clear that `to` is the cause.
    pub fn is_slo_alone(&self) -> bool {
        let is_broken = self.checks().any(|(_, check)| check.is_broken());
        is_broken && self.total() < THRESHOLD && self.broken_by_to().next().is_none()
    }

    /// All checks by name, `errors` first.
    pub fn checks(&self) -> impl Iterator<Item = (&str, &Check)> {
        std::iter::once((ERRORS, &self.errors)).chain(self.others.iter().map(|(name, check)| (name.as_str(), check)))
    }

    pub(super) fn checks_mut(&mut self) -> impl Iterator<Item = (&str, &mut Check)> {
        let errors = std::iter::once((ERRORS, &mut self.errors));
        errors.chain(self.others.iter_mut().map(|(name, check)| (name.as_str(), check)))
    }

    /// Takes the errors of `from` in a block before the rollout gave `to` a share. Ignored for a check that is not there.
    pub fn baseline(&mut self, name: &str, from_errors: f64) {
        if let Some((_, check)) = self.checks_mut().find(|(other, _)| *other == name) {
            check.baseline(from_errors);
        }
    }

    /// The evidence that `to` is not many times worse, since the step began.
    pub fn safe(&self) -> f64 {
        self.safe.value()
    }

    /// Seconds since the evidence was last at or above [`GREY`].
    pub fn calm_seconds(&self) -> u64 {
        self.calm
    }

    /// Requests and errors of `to` since the step began.
    pub fn step_counts(&self) -> Counts {
        self.step
    }

    /// A person has seen that an SLO was broken and goes on: the evidence for broken SLOs starts anew.
    pub fn resume_slo(&mut self) {
        self.checks_mut().for_each(|(_, check)| check.resume_slo());
    }

    /// A person goes on after a regression: all evidence starts anew, with another 1 % of false verdicts.
    pub fn restart(&mut self) {
        self.checks_mut().for_each(|(_, check)| check.restart());
        self.calm = 0;
    }
}
