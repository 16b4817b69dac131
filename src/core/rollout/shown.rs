//! What the leader sees of a rollout, for people: part of the value of `rollouts/evidence/<b>`. No decision reads it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    Rollout,
    holding::{Holding, holding},
    observe::{Now, Observations},
    state::Phase,
};
use crate::{
    judge::{Cell, ERRORS},
    model::Timestamp,
};

/// What the leader sees. What is older than [`Shown::FRESH_SECONDS`] says nothing of now.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Shown {
    /// When.
    pub at: Timestamp,
    /// The `seq` of the state to which it belongs.
    pub seq: u64,
    /// Good seconds of this step; in preflight those of the baseline.
    pub good: u64,
    /// The seconds that are needed.
    pub needed: u64,
    /// Why it does not go on; empty if nothing holds. At most [`Shown::MAX_HOLDING`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub holding: Vec<Held>,
    /// The evidence against `to`: 100 is a verdict.
    pub evidence: f64,
    /// The checks, `errors` among them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub checks: BTreeMap<String, CheckShown>,
    /// The real share of `to` of the started requests in this step, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub share: Option<f64>,
    /// The blocks that paid most recently, newest last. At most [`Shown::MAX_PAID`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub paid: Vec<PaidShown>,
    /// How many nodes count.
    pub counting: usize,
    /// How many of those have the document.
    pub applied: usize,
    /// The users who may stay on `to` when it goes back: words, such as "users that a cookie pins". None: no node says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stays: Option<String>,
}

/// A reason why a rollout does not go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The stable word.
    pub word: String,
    /// A sentence.
    pub text: String,
}

/// A check in the present step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CheckShown {
    /// The evidence against `to` since the start of the rollout.
    pub evidence: f64,
    /// Requests and errors of `to` that were judged in this step.
    pub to: (u64, u64),
    /// Requests and errors of `from` beside them.
    pub from: (u64, u64),
}

/// A block that paid: it showed more errors than were allowed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PaidShown {
    /// When it began: unix time / 10.
    pub block: u64,
    /// The check.
    pub check: String,
    /// Errors that were observed.
    pub observed: f64,
    /// Errors that were allowed.
    pub allowed: f64,
}

impl Shown {
    /// The most reasons.
    pub const MAX_HOLDING: usize = 10;
    /// The longest sentence of a reason, in bytes.
    pub const MAX_TEXT: usize = 300;
    /// The most blocks that paid.
    pub const MAX_PAID: usize = 5;
    /// A leader writes it at least once in this time while the rollout is under way, and some more for a slow Consul.
    pub const FRESH_SECONDS: u64 = 90;

    /// What the leader sees of `rollout` now.
    pub fn of(rollout: &Rollout, seen: &Observations, now: Now) -> Self {
        let memory = &rollout.memory;
        let preflight = rollout.state.phase == Phase::Preflight;
        let sentence = |reason: &Holding| Held {
            word: reason.word().to_owned(),
            text: super::state::short(&reason.to_string(), Self::MAX_TEXT),
        };
        let counts = |counts: crate::judge::Counts| (counts.n, counts.e);
        let checks = rollout.judge.checks().map(|(name, of)| {
            let cell = memory.counted.get(name).copied().unwrap_or_default();
            let row = CheckShown { evidence: rounded(of.evidence()), to: counts(cell.to), from: counts(cell.from) };
            (name.to_owned(), row)
        });
        let paid = memory.paid.iter().rev().take(Self::MAX_PAID).rev().map(|paid| PaidShown {
            block: paid.block,
            check: paid.check.clone(),
            observed: rounded(paid.observed),
            allowed: rounded(paid.allowed),
        });
        let counting = seen.counting().count();
        Self {
            at: now.wall,
            seq: rollout.state.seq,
            good: memory.good,
            needed: if preflight { rollout.baseline_seconds() } else { rollout.bake_seconds() },
            holding: holding(rollout, seen).iter().take(Self::MAX_HOLDING).map(sentence).collect(),
            evidence: rounded(rollout.judge.total()),
            checks: checks.collect(),
            share: rollout.real_share().map(rounded),
            paid: paid.collect(),
            counting,
            applied: counting.saturating_sub(seen.not_applied(rollout.document()).len()),
            stays: seen.stays.clone(),
        }
    }

    /// The requests of both sides that were judged in this step: `to`, `from`.
    pub fn requests(&self) -> (u64, u64) {
        self.checks.get(ERRORS).map_or((0, 0), |check| (check.to.0, check.from.0))
    }

    /// Whether it can still be true.
    pub fn is_fresh(&self, now: Timestamp) -> bool {
        now.seconds().saturating_sub(self.at.seconds()) <= Self::FRESH_SECONDS
    }

    /// Whether people would want to see `new` at once: another reason holds, or the evidence doubled.
    pub(super) fn differs(&self, new: &Self) -> bool {
        let words = |shown: &Self| shown.holding.iter().map(|held| held.word.clone()).collect::<Vec<_>>();
        self.seq != new.seq || words(self) != words(new) || (new.evidence >= 2.0 * self.evidence && new.evidence > 1.0)
    }
}

/// Three digits after the point are enough for people.
fn rounded(number: f64) -> f64 {
    (number * 1000.0).round() / 1000.0
}

/// Adds the cells of a block to the sums of this step.
pub(super) fn add(counted: &mut BTreeMap<String, Cell>, check: &str, cells: &[Cell]) {
    let sum = counted.entry(check.to_owned()).or_default();
    *sum = cells.iter().fold(*sum, |sum, cell| sum.plus(*cell));
}
