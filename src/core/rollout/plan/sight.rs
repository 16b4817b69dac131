//! What a plan would see at given traffic: how many requests each step judges, what it would catch and how fast. Estimates
//! for people; no decision uses them.

use super::{Plan, Step};
use crate::judge::{BLOCK_SECONDS, GREY, Limits, Safe, THRESHOLD, advance::MIN_REQUESTS, evidence::BETS};

/// The traffic of a backend.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Traffic {
    /// Requests a second, of all servers.
    pub per_second: f64,
    /// The error rate of `from` (the check `errors`), a part of 1.
    pub error_rate: f64,
}

/// What one step sees.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepSight {
    /// The step.
    pub step: Step,
    /// Requests of `to` in one bake.
    pub requests: f64,
    /// Seconds until errors of 1 % are found.
    pub one_percent: Option<f64>,
    /// Seconds until five times the errors of `from` are found.
    pub five_times: Option<f64>,
    /// Seconds until "four times worse" is excluded while both sides are equal.
    pub excluded: Option<f64>,
    /// Whether the step can end: whether `to` gets 300 requests within two bakes.
    pub reachable: bool,
}

/// What a plan sees.
#[derive(Debug, Clone, PartialEq)]
pub struct Sight {
    /// Each step.
    pub steps: Vec<StepSight>,
    /// Whether `from` itself is above the SLO: every rollout would hold.
    pub above_slo: bool,
}

/// Whether `to` gets 300 requests within two bakes.
pub fn requests_reachable(step: &Step, traffic: Traffic) -> bool {
    2.0 * requests(step, traffic) >= f64::from(u32::try_from(MIN_REQUESTS).unwrap_or(u32::MAX))
}

fn seconds(step: &Step) -> f64 {
    f64::from(u32::try_from(step.bake.seconds()).unwrap_or(u32::MAX))
}

fn requests(step: &Step, traffic: Traffic) -> f64 {
    traffic.per_second * step.share.percent() / 100.0 * seconds(step)
}

impl Plan {
    /// The plan without the steps that cannot reach 300 requests within two bakes, and those steps.
    pub fn fitted(&self, traffic: Traffic) -> (Self, Vec<Step>) {
        let (kept, left): (Vec<_>, Vec<_>) =
            self.steps.iter().copied().partition(|step| requests_reachable(step, traffic));
        (Self { steps: kept, ..self.clone() }, left)
    }
}

/// What the plan would see.
pub fn sight(plan: &Plan, traffic: Traffic) -> Sight {
    let raises = f64::from(u32::try_from(plan.steps.len().max(1)).unwrap_or(u32::MAX));
    // `errors` has half of the weight of the total, all of it if it is alone.
    let weight = if plan.counted.is_empty() && plan.named.is_empty() { 1.0 } else { 2.0 };
    let steps = plan.steps.iter().map(|step| {
        let share = step.share.percent() / 100.0;
        let find = |rate: f64| find(&plan.errors, traffic, share, rate, raises, weight);
        StepSight {
            step: *step,
            requests: requests(step, traffic),
            one_percent: find(0.01),
            five_times: find(5.0 * traffic.error_rate),
            excluded: exclude(&plan.errors, traffic, share, step.must_exclude.unwrap_or(Safe::RATIO)),
            reachable: requests_reachable(step, traffic),
        }
    });
    Sight { steps: steps.collect(), above_slo: plan.errors.slo.is_some_and(|slo| traffic.error_rate > slo) }
}

/// The length of a block as a number.
fn block() -> f64 {
    f64::from(u32::try_from(BLOCK_SECONDS).unwrap_or(u32::MAX))
}

/// Seconds until the evidence finds errors of `to` at `rate`; none if it does not grow.
fn find(limits: &Limits, traffic: Traffic, share: f64, rate: f64, raises: f64, weight: f64) -> Option<f64> {
    let (to, from) = (traffic.per_second * block() * share, traffic.per_second * block() * (1.0 - share));
    // Errors at or below what is tolerated are not found.
    if rate <= limits.floor.max(limits.ratio * traffic.error_rate) || to <= 0.0 {
        return None;
    }
    let errors = to * rate;
    let theta = limits.ratio * to / (limits.ratio * to + from);
    let others = from * traffic.error_rate;
    let relative = |b: f64| growth(errors, others, b, |observed, other| theta * (observed + other));
    let floor = |b: f64| growth(errors, 0.0, b, |_, _| to * limits.floor);
    // The evidence of a check is the smaller one of both.
    let blocks = |target: f64, grows: &dyn Fn(f64) -> f64| {
        let best = BETS.into_iter().map(grows).fold(0.0, f64::max);
        // One sixth of half the stake, for this raise, is on each bet.
        (best > 0.0).then(|| ((target * 12.0 * raises).ln() / best).max(1.0))
    };
    let both = |target: f64| Some(blocks(target, &relative)?.max(blocks(target, &floor)?));
    let bet = both(THRESHOLD * weight);
    let slo = limits.slo.and_then(|slo| {
        let broken = blocks(THRESHOLD, &|b| growth(errors, 0.0, b, |_, _| to * slo))?;
        Some(broken.max(both(GREY)?))
    });
    let first = [bet, slo].into_iter().flatten().fold(f64::INFINITY, f64::min);
    first.is_finite().then(|| first.ceil() * block())
}

/// Seconds until "so many times worse" is excluded while both sides have the error rate of `from`: by the bet or by the SLO.
fn exclude(limits: &Limits, traffic: Traffic, share: f64, ratio: f64) -> Option<f64> {
    let (to, from) = (traffic.per_second * block() * share, traffic.per_second * block() * (1.0 - share));
    let (to_errors, from_errors) = (to * traffic.error_rate, from * traffic.error_rate);
    let theta = from / (ratio * to + from);
    let grows = |b: f64| growth(from_errors, to_errors, b, |observed, other| theta * (observed + other));
    let best = BETS.into_iter().map(grows).fold(0.0, f64::max);
    let by_bet = (best > 0.0).then(|| (Safe::EXCLUDED * 6.0).ln() / best);
    // n slo ≥ 4 + 2 e.
    let slo = limits.slo.and_then(|slo| {
        let gain = to * slo - 2.0 * to_errors;
        (gain > 0.0).then(|| 4.0 / gain)
    });
    let first = [by_bet, slo].into_iter().flatten().fold(f64::INFINITY, f64::min);
    first.is_finite().then(|| first.ceil() * block())
}

/// The mean growth of a bet's logarithm per block: `E ln((O + b) / (X + b))`. O is Poisson with mean `errors`, and X follows
/// from O and from the errors of the other side, Poisson with mean `others`.
fn growth(errors: f64, others: f64, b: f64, allowed: impl Fn(f64, f64) -> f64) -> f64 {
    let mut sum = 0.0;
    poisson(errors, |observed, probability| {
        poisson(others, |other, of_other| {
            sum += probability * of_other * ((observed + b) / (allowed(observed, other) + b)).ln();
        });
    });
    sum
}

/// Calls `each` with the counts of a Poisson variable and their probabilities; above a mean of 50 only with the mean.
fn poisson(mean: f64, mut each: impl FnMut(f64, f64)) {
    if mean > 50.0 {
        return each(mean, 1.0);
    }
    let (mut count, mut probability) = (0.0, (-mean).exp());
    while count < mean + 8.0 * mean.sqrt() + 8.0 {
        each(count, probability);
        count += 1.0;
        probability *= mean / count;
    }
}
