//! How a person starts a rollout: from what is wanted, the document, and what the nodes report, to a proposal or to the
//! reasons why not.
//!
//! | file | owns |
//! |---|---|
//! | `start` | the order of the checks, and the proposal |
//! | `sides` | which servers are on which side |
//! | `compare` | how far a document is from a split of the sides |
//! | `words` | the reasons and the cautions, as sentences |

mod compare;
mod sides;
mod words;

use std::collections::BTreeMap;

pub(super) use self::compare::difference;
pub use self::{
    compare::Difference,
    words::{Blind, Caution, Refusal},
};
use super::{
    Controller, Mode, Plan, Spec,
    known::pins_users,
    plan::{OnRegression, Protocol, Step, Traffic},
    spec,
};
use crate::{
    desired::{Desired, Instruction, Pattern, PatternShare, Published, Split},
    fleet::{
        NodeName,
        counters::{Counted, Flag, Instance, Protocol as Seen},
    },
    model::{ServerName, Timestamp},
};

/// What a person wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Wish {
    /// The new side.
    pub to: Vec<Pattern>,
    /// The old side; none: the servers that are above 0 now.
    pub from: Option<Vec<Pattern>>,
    /// What it may do.
    pub mode: Mode,
    /// The plan; for watch and guard it may have no steps.
    pub plan: Plan,
    /// Whether steps that cannot reach enough requests are left out: those of presets are.
    pub fit: bool,
    /// Whether a document that is no split of the sides is replaced by one first.
    pub convert: bool,
    /// Whether an SLO below the present error rate is replaced by twice that rate.
    pub slo_from_baseline: bool,
}

/// What is known at the start.
#[derive(Debug, Clone, Copy)]
pub struct Known<'a> {
    /// The keys of the backend; none if it has no key.
    pub document: Option<&'a Published>,
    /// What each counting node reports of the backend.
    pub nodes: &'a BTreeMap<NodeName, Counted>,
    /// The counting nodes that do not answer.
    pub silent: &'a [NodeName],
    /// The controller; none if nobody leads.
    pub controller: Option<&'a Controller>,
    /// The traffic; none if it was not measured.
    pub baseline: Option<Baseline>,
}

/// The traffic before the start, as far as it was measured.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Baseline {
    /// Requests of all servers in a second.
    pub per_second: f64,
    /// Requests of `from` that were counted.
    pub requests: u64,
    /// Those of them that failed.
    pub errors: u64,
}

impl Baseline {
    /// The rate of errors, a part of 1; 0 without requests.
    #[expect(clippy::cast_precision_loss, reason = "counts of some minutes")]
    pub fn error_rate(self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.errors as f64 / self.requests as f64 }
    }

    /// The same as the forecast of a plan wants it.
    pub fn traffic(self) -> Traffic {
        Traffic { per_second: self.per_second, error_rate: self.error_rate() }
    }

    /// Whether so many errors occur in less than 1 of 100 such samples of a service whose rate is `slo`.
    #[expect(clippy::cast_precision_loss, reason = "counts of some minutes")]
    pub(super) fn is_above(self, slo: f64) -> bool {
        let mean = self.requests as f64 * slo;
        if self.errors as f64 <= mean {
            return false;
        }
        if mean > 500.0 {
            // The Poisson distribution is a normal one there.
            return self.errors as f64 > mean + 2.33 * mean.sqrt();
        }
        let (mut probability, mut below) = ((-mean).exp(), 0.0);
        for count in 0..self.errors {
            below += probability;
            if below > 0.99 {
                return true;
            }
            probability *= mean / (count + 1) as f64;
        }
        1.0 - below < 0.01
    }
}

/// A rollout that can begin.
#[derive(Debug, Clone, PartialEq)]
pub struct Proposal {
    /// The new side.
    pub to: Vec<Pattern>,
    /// The old side.
    pub from: Vec<Pattern>,
    /// The share of `to` now, to which it goes back.
    pub back: PatternShare,
    /// What it may do.
    pub mode: Mode,
    /// The plan, complete.
    pub plan: Plan,
    /// What a verdict by evidence does.
    pub regression: OnRegression,
    /// The servers on neither side.
    pub unnamed: Vec<ServerName>,
    /// The split that must be written before, because the document is none of the sides; none if it is close enough.
    pub convert: Option<Split>,
    /// What a person should know.
    pub cautions: Vec<Caution>,
}

impl Proposal {
    /// The spec. `id` is random.
    pub fn spec(&self, id: String, by: String, at: Timestamp, reason: Option<String>) -> Spec {
        Spec {
            id,
            to: self.to.clone(),
            from: self.from.clone(),
            back: self.back,
            mode: self.mode,
            plan: self.plan.clone(),
            regression: self.regression,
            by,
            at,
            reason,
        }
    }
}

/// What HAProxy speaks in this backend, as far as the nodes say it.
pub fn protocol(nodes: &BTreeMap<NodeName, Counted>) -> Protocol {
    if instances(nodes).any(|(_, instance)| instance.mode == Seen::Tcp) { Protocol::Tcp } else { Protocol::Http }
}

/// Each HAProxy that can be read and has the backend, with its node.
fn instances(nodes: &BTreeMap<NodeName, Counted>) -> impl Iterator<Item = (&NodeName, &Instance)> {
    let all = nodes.iter().flat_map(|(node, counted)| counted.instances.iter().map(move |instance| (node, instance)));
    all.filter(|(_, instance)| instance.down.is_none())
}

/// What a rollout would be.
///
/// # Errors
/// Every reason why it cannot begin; at least one.
pub fn propose(wish: &Wish, known: &Known<'_>) -> Result<Proposal, Vec<Refusal>> {
    let (desired, leaves) = match known.document {
        None => return Err(vec![Refusal::NoDocument]),
        Some(Published::Rejected(rejected)) => return Err(vec![Refusal::Rejected(rejected.reason.to_string())]),
        Some(Published::Valid(Instruction::Release { .. })) => return Err(vec![Refusal::Released]),
        Some(Published::Valid(Instruction::Weights(desired))) => (desired, false),
        Some(Published::Valid(Instruction::Leaves(desired))) => (desired, true),
    };
    let from = sides::from(wish, desired, known.nodes).map_err(|refusal| vec![refusal])?;
    let mut proposal = Proposal {
        to: wish.to.clone(),
        from,
        back: PatternShare::default(),
        mode: wish.mode,
        plan: wish.plan.clone(),
        regression: regression(&wish.plan, known.nodes),
        unnamed: Vec::new(),
        convert: None,
        cautions: Vec::new(),
    };
    let mut refusals = sides::check(&proposal.to, &proposal.from, desired, known.nodes);
    if !refusals.is_empty() {
        // Without two sides nothing else has a meaning.
        return Err(refusals);
    }
    proposal.unnamed = sides::unnamed(&proposal.to, &proposal.from, desired, known.nodes);
    proposal.back = spec::share_in(&proposal.to, &proposal.from, desired).unwrap_or_default();
    document(wish, known, desired, leaves, &mut proposal, &mut refusals);
    usable(known, &proposal, &mut refusals);
    plan(wish, known, &mut proposal, &mut refusals);
    slo(wish, known, &mut proposal, &mut refusals);
    proposal.cautions.extend(cautions(known, &proposal, desired));
    if refusals.is_empty() { Ok(proposal) } else { Err(refusals) }
}

/// What a verdict by evidence does: where users are pinned to sides, it stops, and does not move users to and fro.
fn regression(plan: &Plan, nodes: &BTreeMap<NodeName, Counted>) -> OnRegression {
    let default = || {
        if instances(nodes).any(|(_, instance)| pins_users(instance)) {
            OnRegression::Hold
        } else {
            OnRegression::Rollback
        }
    };
    plan.regression.unwrap_or_else(default)
}

/// Whether the document is close enough to a split of the sides.
fn document(
    wish: &Wish,
    known: &Known<'_>,
    desired: &Desired,
    leaves: bool,
    proposal: &mut Proposal,
    refusals: &mut Vec<Refusal>,
) {
    let split = match compare::split(&proposal.to, &proposal.from, proposal.back) {
        Ok(split) => split,
        Err(what) => return refusals.push(Refusal::NoSplit(what)),
    };
    let differs = difference(&proposal.to, &proposal.from, desired, &split, instances(known.nodes));
    let refusal = match differs {
        _ if leaves => Refusal::Leaves,
        Some(difference) => Refusal::Differs(difference),
        None => return,
    };
    if wish.convert {
        proposal.convert = Some(split);
    } else {
        refusals.push(refusal);
    }
}

/// Whether both sides can take requests on each node.
fn usable(known: &Known<'_>, proposal: &Proposal, refusals: &mut Vec<Refusal>) {
    let without = |side: &[Pattern]| -> Vec<NodeName> {
        let usable = |instance: &Instance| {
            instance.servers.iter().any(|server| sides::is_on(side, &server.name) && server.usable())
        };
        let mut nodes: Vec<_> =
            instances(known.nodes).filter(|(_, instance)| !usable(instance)).map(|(node, _)| node.clone()).collect();
        nodes.dedup();
        nodes
    };
    let (to, from) = (without(&proposal.to), without(&proposal.from));
    if !to.is_empty() {
        refusals.push(Refusal::ToUnusable(to));
    }
    if !from.is_empty() {
        refusals.push(Refusal::FromUnusable(from));
    }
}

/// Whether the plan fits the backend and the controller.
fn plan(wish: &Wish, known: &Known<'_>, proposal: &mut Proposal, refusals: &mut Vec<Refusal>) {
    let tcp = protocol(known.nodes) == Protocol::Tcp;
    if tcp && wish.plan.protocol == Protocol::Http {
        refusals.push(Refusal::Protocol);
    }
    if wish.mode == Mode::Auto {
        if wish.plan.is_blind() || (tcp && wish.plan.named.is_empty()) {
            refusals.push(Refusal::Blind);
        }
        if let Some(baseline) = known.baseline.filter(|_| wish.fit) {
            let (fitted, left) = wish.plan.fitted(baseline.traffic());
            if !left.is_empty() {
                proposal.cautions.push(Caution::LeftOut(left, baseline.per_second));
            }
            proposal.plan = fitted;
        }
        let above = |step: &Step| step.share > proposal.back;
        if wish.plan.steps.is_empty() {
            refusals.push(Refusal::NoSteps);
        } else if proposal.plan.steps.is_empty() {
            refusals.push(Refusal::TooFewRequests(known.baseline.map_or(0.0, |baseline| baseline.per_second)));
        } else if !proposal.plan.steps.iter().any(above) {
            refusals.push(Refusal::NoStepAbove(proposal.back));
        }
    }
    match known.controller {
        Some(controller) => {
            if let Err(problem) = wish.plan.known_checks(controller.checks.iter().map(String::as_str)) {
                refusals.push(Refusal::Check(problem));
            }
        }
        None if !wish.plan.named.is_empty() => proposal.cautions.push(Caution::ChecksUnknown),
        None => {}
    }
}

/// Whether `from` itself keeps the SLO.
fn slo(wish: &Wish, known: &Known<'_>, proposal: &mut Proposal, refusals: &mut Vec<Refusal>) {
    let Some(slo) = proposal.plan.errors.slo else { return };
    let Some(baseline) = known.baseline.filter(|baseline| baseline.requests > 0) else {
        if wish.slo_from_baseline {
            refusals.push(Refusal::NoBaseline);
        }
        return;
    };
    let rate = baseline.error_rate();
    if rate <= slo {
        return;
    }
    if wish.slo_from_baseline {
        let twice = (2.0 * rate).min(1.0);
        proposal.plan.errors.slo = Some(twice);
        proposal.cautions.push(Caution::SloRaised { rate, before: slo, slo: twice });
    } else if baseline.is_above(slo) {
        refusals.push(Refusal::AboveSlo { rate, slo });
    } else {
        proposal.cautions.push(Caution::SloNear { rate, slo, requests: baseline.requests });
    }
}

/// What a person should know, beside what the plan said.
fn cautions(known: &Known<'_>, proposal: &Proposal, desired: &Desired) -> Vec<Caution> {
    let mut cautions = Vec::new();
    let serving = sides::above_zero(&proposal.unnamed, desired, known.nodes);
    if !serving.is_empty() {
        cautions.push(Caution::Unnamed(serving));
    }
    if known.nodes.is_empty() {
        cautions.push(Caution::NothingKnown);
    } else if !known.silent.is_empty() {
        cautions.push(Caution::Silent(known.silent.to_vec()));
    }
    let down: Vec<_> = known
        .nodes
        .iter()
        .filter(|(_, counted)| counted.instances.iter().any(|instance| instance.down.is_some()))
        .map(|(node, _)| node.clone())
        .collect();
    if !down.is_empty() {
        cautions.push(Caution::Down(down));
    }
    cautions.extend(blind(known.nodes, proposal).into_iter().map(Caution::Blind));
    cautions
}

/// What the judge cannot see in this backend.
fn blind(nodes: &BTreeMap<NodeName, Counted>, proposal: &Proposal) -> Vec<Blind> {
    let any = |of: &dyn Fn(&Instance) -> bool| instances(nodes).any(|(_, instance)| of(instance));
    let flag = |flag: Flag| any(&|instance| instance.flags.contains(&flag));
    let found = [
        (any(&pins_users), Blind::Pinned { holds: proposal.regression == OnRegression::Hold }),
        (flag(Flag::Cookie), Blind::Cookie),
        (any(&|instance| instance.algorithm == "leastconn"), Blind::Leastconn),
        (flag(Flag::Maxconn), Blind::Queue),
        (!proposal.plan.protocol.shows_failures(), Blind::Answers(proposal.plan.protocol)),
    ];
    found.into_iter().filter(|(is, _)| *is).map(|(_, blind)| blind).collect()
}

#[cfg(test)]
mod tests;
