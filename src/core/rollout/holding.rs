//! Why a rollout does not go on. Computed at each tick and never stored: a reason is gone when its cause is gone.

use std::{collections::BTreeSet, fmt};

use super::{
    Rollout,
    observe::Observations,
    plan::Mode,
    start::Refusal,
    state::{Latch, Phase},
};
use crate::{
    desired::PatternShare,
    fleet::NodeName,
    judge::{
        Bake, CALM_SECONDS, GREY,
        advance::{MIN_REQUESTS, is_proven},
    },
    model::Escaped,
    reasons::list,
};

/// The words of the reasons whose sentences never name nodes: all but those of [`Holding::names_nodes`].
const NAMELESS: [&str; 20] = [
    "paused",
    "latched",
    "queued",
    "protocol",
    "sessions",
    "baseline",
    "above_slo",
    "flapping",
    "source",
    "unmeasured",
    "window",
    "frozen",
    "approval",
    "breaker",
    "share",
    "no_control",
    "requests",
    "grey",
    "calm",
    "not_excluded",
];

/// A reason.
#[derive(Debug, Clone, PartialEq)]
pub enum Holding {
    /// A person paused it.
    Paused(String),
    /// It waits for a person.
    Latched(Latch),
    /// Too many rollouts are active.
    Queued,
    /// The document is no split of the two sides, nor weights that come close to one: a sentence. The first step would change
    /// more than the share of `to`.
    NotSplit(String),
    /// HAProxy has the backend in mode tcp, and the plan says http: it would be judged by answers that nobody sees.
    Protocol,
    /// `from` cannot take all requests.
    FromTooSmall(String),
    /// `to` still has sessions.
    Sessions(u64),
    /// The baseline is not long enough: seconds that it has, and needs.
    Baseline(u64, u64),
    /// In the baseline `from` itself fails more often than the SLO of the plan allows: its rate and the SLO, parts of 1. The
    /// first step would only show that.
    AboveSlo(f64, f64),
    /// Nodes have not applied the document.
    NotApplied(Vec<NodeName>),
    /// On nodes no server of `to` is usable.
    Unusable(Vec<NodeName>),
    /// No request reaches `to` on nodes where some should.
    Unwired(Vec<NodeName>),
    /// Nodes report no counts.
    NoData(Vec<NodeName>),
    /// Nodes that are late, or whose clock is off, carry more than a fifth of the requests; or cells were dropped for other
    /// reasons.
    Dropped(Vec<NodeName>),
    /// Usable servers of `to` change all the time.
    Flapping,
    /// A named check has no data.
    Source(String, String),
    /// A named check has judged nothing in this step yet: it warms up, or its first window is not over.
    Unmeasured(String),
    /// The window of the plan is closed.
    Window,
    /// Changes are frozen.
    Frozen(String),
    /// The next step needs an approval.
    Approval(u32),
    /// Three rollouts were rolled back in ten minutes.
    Breaker,
    /// `to` does not get the share that it should: real and wanted, percent.
    Share(f64, f64),
    /// `to` fails and nothing can be compared with it.
    NoControl,
    /// `to` had too few requests in this step.
    Requests(u64),
    /// There is evidence against `to`, less than a verdict needs.
    Grey(f64),
    /// There was such evidence a moment ago: seconds since.
    Calm(u64),
    /// "So many times worse" is not excluded yet.
    NotExcluded,
}

impl Holding {
    /// The stable word.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Paused(_) => "paused",
            Self::Latched(_) => "latched",
            Self::Queued => "queued",
            Self::NotSplit(_) => "not_split",
            Self::Protocol => "protocol",
            Self::FromTooSmall(_) => "from_too_small",
            Self::Sessions(_) => "sessions",
            Self::Baseline(..) => "baseline",
            Self::AboveSlo(..) => "above_slo",
            Self::NotApplied(_) => "not_applied",
            Self::Unusable(_) => "unusable",
            Self::Unwired(_) => "unwired",
            Self::NoData(_) => "no_data",
            Self::Dropped(_) => "dropped",
            Self::Flapping => "flapping",
            Self::Source(..) => "source",
            Self::Unmeasured(_) => "unmeasured",
            Self::Window => "window",
            Self::Frozen(_) => "frozen",
            Self::Approval(_) => "approval",
            Self::Breaker => "breaker",
            Self::Share(..) => "share",
            Self::NoControl => "no_control",
            Self::Requests(_) => "requests",
            Self::Grey(_) => "grey",
            Self::Calm(_) => "calm",
            Self::NotExcluded => "not_excluded",
        }
    }

    /// Whether its sentence can name nodes, which not everybody may read.
    pub const fn names_nodes(&self) -> bool {
        match self {
            Self::NotSplit(_)
            | Self::FromTooSmall(_)
            | Self::NotApplied(_)
            | Self::Unusable(_)
            | Self::Unwired(_)
            | Self::NoData(_)
            | Self::Dropped(_) => true,
            Self::Paused(_)
            | Self::Latched(_)
            | Self::Queued
            | Self::Protocol
            | Self::Sessions(_)
            | Self::Baseline(..)
            | Self::AboveSlo(..)
            | Self::Flapping
            | Self::Source(..)
            | Self::Unmeasured(_)
            | Self::Window
            | Self::Frozen(_)
            | Self::Approval(_)
            | Self::Breaker
            | Self::Share(..)
            | Self::NoControl
            | Self::Requests(_)
            | Self::Grey(_)
            | Self::Calm(_)
            | Self::NotExcluded => false,
        }
    }

    /// The same of a reason of which only the stable word is known; true for a word that this program does not know.
    pub fn word_names_nodes(word: &str) -> bool {
        !NAMELESS.contains(&word)
    }

    /// Whether it is a lack of evidence. While any other reason holds, good seconds stop at the length of the bake, so that
    /// a closed gate never latches.
    pub const fn is_evidence(&self) -> bool {
        matches!(self, Self::Requests(_) | Self::Grey(_) | Self::Calm(_) | Self::NotExcluded)
    }
}

impl fmt::Display for Holding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |nodes: &[NodeName]| list(nodes.iter().map(NodeName::as_str));
        match self {
            Self::Paused(by) => write!(f, "{} paused it", Escaped(by)),
            Self::Latched(why) => write!(f, "it waits for a person: {}", why.as_str()),
            Self::Queued => write!(f, "too many rollouts are active"),
            Self::NotSplit(why) => write!(f, "{}", Escaped(why)),
            // A start refuses the same two.
            Self::Protocol => Refusal::Protocol.fmt(f),
            Self::FromTooSmall(why) => write!(f, "the old side cannot take all requests: {}", Escaped(why)),
            Self::Sessions(sessions) => write!(f, "the new side still has {sessions} sessions"),
            Self::Baseline(has, needs) => write!(f, "the baseline has {has} s of {needs} s"),
            Self::AboveSlo(rate, slo) => Refusal::AboveSlo { rate: *rate, slo: *slo }.fmt(f),
            Self::NotApplied(nodes) => write!(f, "not applied on {}", names(nodes)),
            Self::Unusable(nodes) => write!(f, "no server of the new side is usable on {}", names(nodes)),
            Self::Unwired(nodes) => write!(f, "no request reaches the new side on {}", names(nodes)),
            Self::NoData(nodes) => write!(f, "no counts from {}", names(nodes)),
            Self::Dropped(nodes) if nodes.is_empty() => write!(f, "over 20 % of the counts were of no use"),
            Self::Dropped(nodes) => write!(f, "over 20 % of the counts were of no use; late: {}", names(nodes)),
            Self::Flapping => write!(f, "usable servers of the new side change all the time"),
            Self::Source(check, why) => write!(f, "check `{}` has no data: {}", Escaped(check), Escaped(why)),
            Self::Unmeasured(check) => write!(f, "check `{}` has judged nothing in this step yet", Escaped(check)),
            Self::Window => write!(f, "the window is closed"),
            Self::Frozen(why) => write!(f, "changes are frozen: {}", Escaped(why)),
            Self::Approval(step) => write!(f, "step {step} needs an approval"),
            Self::Breaker => write!(f, "three rollouts were rolled back in ten minutes"),
            Self::Share(real, wanted) => write!(f, "the new side gets {real:.1} % and should get {wanted:.1} %"),
            Self::NoControl => write!(f, "the new side fails, and the old side has too few requests to compare"),
            Self::Requests(n) => write!(f, "the new side had {n} of {MIN_REQUESTS} requests in this step"),
            Self::Grey(evidence) => write!(f, "evidence {evidence:.1}; it must be below {GREY}"),
            Self::Calm(seconds) => write!(f, "the evidence was above {GREY} {seconds} s ago"),
            Self::NotExcluded => {
                write!(f, "the step requires that \"many times worse\" is excluded, and it is not yet")
            }
        }
    }
}

/// All reasons why the rollout does not go on now. In `watch` and `guard` only those that people should know.
pub fn holding(rollout: &Rollout, seen: &Observations) -> Vec<Holding> {
    let (state, memory) = (&rollout.state, &rollout.memory);
    let mut reasons = Vec::new();
    let mut add = |is: bool, reason: Holding| {
        if is {
            reasons.push(reason);
        }
    };
    if state.phase.is_final() || state.phase == Phase::RollingBack {
        return reasons;
    }
    if let Some(paused) = &state.paused {
        add(true, Holding::Paused(paused.by.clone()));
    }
    if let Some(why) = state.latched {
        add(true, Holding::Latched(why));
    }
    if state.phase == Phase::Queued {
        add(!seen.active, Holding::Queued);
        return reasons;
    }
    add(seen.is_tcp && rollout.spec.plan.protocol.shows_failures(), Holding::Protocol);
    let late = seen.not_applied(rollout.document());
    add(!late.is_empty() || seen.counting().next().is_none(), Holding::NotApplied(late));
    let unusable = seen.unusable();
    add(!unusable.is_empty(), Holding::Unusable(unusable));
    let mut silent: BTreeSet<NodeName> = memory.blocks.silent(&seen.nodes).into_iter().collect();
    silent.extend(seen.unheard().cloned());
    let silent: Vec<NodeName> = silent.into_iter().collect();
    add(!silent.is_empty(), Holding::NoData(silent));
    if state.mode == Mode::Auto {
        add(seen.window_closed, Holding::Window);
        if let Some(why) = &seen.frozen {
            add(true, Holding::Frozen(why.clone()));
        }
        add(seen.breaker, Holding::Breaker);
        if let Some(next) = rollout.next_step()
            && rollout.spec.step(next).is_some_and(|step| step.approve)
        {
            add(state.approved != Some(next), Holding::Approval(next));
        }
    }
    if state.phase == Phase::Preflight {
        if let Some(why) = &seen.from_too_small {
            add(true, Holding::FromTooSmall(why.clone()));
        }
        let no_shares = || "the document gives no shares of the two sides".to_owned();
        if let Some(why) = seen.not_split.clone().or_else(|| seen.document.share.is_none().then(no_shares)) {
            add(true, Holding::NotSplit(why));
        }
        let sessions = if state.share == PatternShare::default() { seen.to_sessions() } else { 0 };
        add(sessions > 0 && !memory.waited_for_sessions, Holding::Sessions(sessions));
        let needs = rollout.baseline_seconds();
        add(memory.good < needs, Holding::Baseline(memory.good, needs));
        let baseline = memory.baseline();
        let slo = rollout.spec.plan.errors.slo.filter(|_| memory.good >= needs && state.mode != Mode::Watch);
        if let Some(slo) = slo.filter(|slo| baseline.is_above(*slo)) {
            add(true, Holding::AboveSlo(baseline.error_rate(), slo));
        }
        return reasons;
    }
    add(memory.no_control, Holding::NoControl);
    let (dropped, flapping) = memory.blocks.dropped();
    add(flapping, Holding::Flapping);
    let left_out = seen.nodes.iter().filter(|(name, node)| node.clock_off || memory.blocks.is_late(name));
    add(dropped && !flapping, Holding::Dropped(left_out.map(|(name, _)| name.clone()).collect()));
    for (name, why) in &memory.silent_sources {
        add(true, Holding::Source(name.clone(), why.clone()));
    }
    if state.phase == Phase::Bake {
        let unwired = memory.unwired(state.share, seen);
        add(!unwired.is_empty(), Holding::Unwired(unwired));
        if let Some((real, wanted)) = rollout.share_off().filter(|_| !seen.share_is_free) {
            add(true, Holding::Share(real, wanted));
        }
        if state.mode == Mode::Auto {
            let answered = |name: &str| memory.silent_sources.contains_key(name) || memory.counted.contains_key(name);
            for name in rollout.spec.plan.named.keys().filter(|name| !answered(name)) {
                add(true, Holding::Unmeasured(name.clone()));
            }
            evidence(&rollout.bake(true), &mut add);
        }
    }
    reasons
}

/// What the evidence lacks for an advance.
fn evidence(bake: &Bake, add: &mut impl FnMut(bool, Holding)) {
    add(bake.step.n < MIN_REQUESTS, Holding::Requests(bake.step.n));
    add(bake.total >= GREY, Holding::Grey(bake.total));
    add(bake.total < GREY && bake.calm < CALM_SECONDS.min(bake.bake), Holding::Calm(bake.calm));
    add(!is_proven(bake), Holding::NotExcluded);
}

#[cfg(test)]
mod tests;
