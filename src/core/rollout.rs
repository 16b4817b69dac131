//! Rollouts: the share of a backend moves from one side to the other by a plan, judged at every moment, and goes back when
//! the new side is worse.
//!
//! Owns the decision as one pure function, [`tick()`]: a rollout, what is seen, and the time give a rollout and actions. What
//! is not confirmed did not happen: a transition counts when its transaction was answered, so the same observations never do
//! anything twice, and a leader that lost its lock changes nothing.
//!
//! | module | owns |
//! |---|---|
//! | [`plan`] | steps, checks and windows; what a plan would see |
//! | [`spec`], [`request`], [`state`], [`log`] | the values of the keys |
//! | [`controller`] | who leads |
//! | [`keys`] | the names of the keys and their sizes |
//! | [`intake`] | how reports of nodes become blocks and slots |
//! | [`known`] | how reports of nodes and documents become what a tick sees |
//! | [`source`] | the queries of named checks, and what their answers are worth |
//! | [`observe`] | what a tick sees |
//! | [`action`] | what a tick wants done |
//! | [`blocks`] | how the blocks of the nodes become blocks of the judge |
//! | [`windows`] | the windows of HARD, SEVERE and HANG |
//! | [`mod@holding`] | why a rollout does not go on |
//! | [`shown`] | what the leader sees, for people |
//! | [`mod@begin`] | how a spec becomes a rollout |
//! | [`start`], [`mod@abort`] | how a person starts one, and takes it back |

pub mod abort;
pub mod action;
pub mod begin;
pub mod blocks;
pub mod controller;
pub mod holding;
pub mod intake;
pub mod keys;
pub mod known;
pub mod log;
mod memory;
pub mod observe;
pub mod plan;
pub mod request;
pub mod shown;
pub mod source;
pub mod spec;
pub mod start;
pub mod state;
mod stored;
mod tick;
pub mod windows;

pub use action::{Action, Event, EventKind, Transaction};
pub use begin::{begin, digest};
pub use controller::Controller;
pub use holding::{Holding, holding};
pub use memory::{Memory, Paid};
pub use observe::{Now, Observations};
pub use plan::{Mode, Plan};
pub use request::{Request, Verb};
pub use shown::Shown;
pub use spec::Spec;
pub use state::{Evidence, Latch, Phase, State};
pub use stored::BadValue;
pub use tick::tick;

use crate::judge::{Bake, ERRORS, Judge};

/// A rollout as its leader knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Rollout {
    /// What it is.
    pub spec: Spec,
    /// Where it is, as it was read or as its last transaction wrote it.
    pub state: State,
    /// The evidence.
    pub judge: Judge,
    /// What this leader saw.
    pub memory: Memory,
}

/// The longest baseline, in seconds.
const BASELINE_SECONDS: u64 = 300;

impl Rollout {
    /// A rollout as a new leader finds it. Nothing is sent again. `evidence` is what was persisted, if it can be read and is
    /// of this rollout; without it the evidence starts anew, which costs time and no safety. Answers of transactions that were
    /// proposed before belong to nobody.
    pub fn load(spec: Spec, state: State, evidence: Option<&Evidence>, now: Now) -> Self {
        let plan = spec.plan.judge(spec.mode);
        let evidence = evidence.filter(|evidence| evidence.rollout == spec.id);
        let judge = evidence.and_then(|evidence| Judge::restore(&plan, &evidence.judge).ok());
        let known = evidence.filter(|_| judge.is_some());
        let wall = now.wall.seconds();
        let current = wall / crate::judge::BLOCK_SECONDS;
        let mut memory = Memory { entered: now.moment, ..Memory::default() };
        // Blocks that were judged are not read again. A number in the future comes from another clock.
        let judged = known.map_or(0, |evidence| evidence.block.min(current));
        memory.blocks = blocks::Blocks::after(judged.max(current.saturating_sub(1)));
        memory.raised = known.is_none_or(|known| known.raised || known.step != state.step);
        // The counts of a baseline are not kept: it starts anew.
        let same = known.filter(|known| known.step == state.step && state.step > 0);
        memory.good = same.map_or(0, |known| known.good);
        if state.phase.is_moving() {
            // The windows of the old leader are lost: they start now.
            memory.windows.want(state.share.percent(), wall);
            memory.raised_at = Some(wall);
        }
        let judge = judge.unwrap_or_else(|| Judge::new(&plan));
        Self { spec, state, judge, memory }
    }

    /// What people are shown since the last tick of this leader.
    pub fn shown(&self) -> &Shown {
        &self.memory.shown
    }

    /// The evidence as a value, without what people are shown.
    pub fn evidence(&self) -> Evidence {
        Evidence {
            rollout: self.spec.id.clone(),
            step: self.state.step,
            block: self.memory.blocks.last(),
            good: self.memory.good,
            raised: self.memory.raised,
            judge: self.judge.state(),
            shown: Shown::default(),
        }
    }

    /// The `ModifyIndex` of the document that belongs to the state.
    pub fn document(&self) -> u64 {
        self.state.document.unwrap_or_default()
    }

    /// The step that comes next, counted from 1; none after the last one.
    pub fn next_step(&self) -> Option<u32> {
        self.spec.next_step(self.state.share)
    }

    /// The length of the present bake, in seconds.
    pub fn bake_seconds(&self) -> u64 {
        let step = self.spec.step(self.state.step).or_else(|| self.spec.step(1));
        step.map_or(0, |step| step.bake.seconds())
    }

    /// The length of the baseline: five minutes, or one bake where that is shorter.
    pub fn baseline_seconds(&self) -> u64 {
        self.spec.step(1).map_or(BASELINE_SECONDS, |step| step.bake.seconds().min(BASELINE_SECONDS))
    }

    /// The present bake. `ready`: whether all gates are open.
    pub fn bake(&self, ready: bool) -> Bake {
        let bake = self.bake_seconds();
        let promoted = self.state.promoted == Some(self.state.step);
        Bake {
            good: if promoted { self.memory.good.max(bake) } else { self.memory.good },
            bake,
            step: self.judge.step_counts(),
            total: self.judge.total(),
            calm: self.judge.calm_seconds(),
            safe: self.judge.safe(),
            must_exclude: self.spec.step(self.state.step).is_some_and(|step| step.must_exclude.is_some()),
            slo: self.spec.plan.errors.slo,
            ready,
        }
    }

    /// Started requests of both sides in this step; none before its first block.
    fn started(&self) -> Option<(f64, f64)> {
        let since = self.memory.first_block? * crate::judge::BLOCK_SECONDS;
        let (to, from) = self.memory.windows.started_since(since);
        let number = |count: u64| f64::from(u32::try_from(count).unwrap_or(u32::MAX));
        Some((number(to), number(to) + number(from)))
    }

    /// The real share of `to` of the started requests in this step, in percent; none without a request.
    pub fn real_share(&self) -> Option<f64> {
        let (to, all) = self.started()?;
        (all > 0.0).then(|| 100.0 * to / all)
    }

    /// The real and the wanted share of `to` in percent, where they differ by more than half of the smaller wanted share and
    /// at least 20 requests were expected on that side.
    pub fn share_off(&self) -> Option<(f64, f64)> {
        let (to, all) = self.started()?;
        let wanted = self.state.share.percent();
        let smaller = wanted.min(100.0 - wanted);
        if all * smaller / 100.0 < 20.0 {
            return None;
        }
        let real = 100.0 * to / all;
        ((real - wanted).abs() > smaller / 2.0).then_some((real, wanted))
    }

    /// The share up to which redirects are judged, in percent.
    fn redirects_up_to(&self) -> f64 {
        self.spec.plan.counted.get("redirected").map_or(0.0, |limits| limits.max_share)
    }

    /// One line for people: observed and allowed are in the log; this is the evidence now.
    pub fn evidence_line(&self) -> String {
        let check = |(name, check): (&str, &crate::judge::Check)| format!("{name} {:.2}", check.evidence());
        let checks: Vec<_> = self.judge.checks().map(check).collect();
        let main = self.judge.checks().find(|(name, _)| *name == ERRORS);
        let track =
            main.map_or("", |(_, check)| if check.relative().is_since_raise() { "since the raise" } else { "late" });
        format!("evidence {:.2} of 100 ({}; {track})", self.judge.total(), checks.join(", "))
    }
}

#[cfg(test)]
mod tests;
