//! The values of `rollouts/state/<b>` and `rollouts/evidence/<b>`: where a rollout is, and what the judge knows. Only the
//! leader writes them.

use serde::{Deserialize, Serialize};

use super::{
    keys::{MAX_EVIDENCE, MAX_STATE},
    plan::Mode,
    shown::Shown,
    stored::{self, BadValue},
};
use crate::{desired::PatternShare, fleet::NodeName, judge, model::Timestamp};

/// Where a rollout is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The identifier of the rollout.
    pub id: String,
    /// The SHA-256 of its spec.
    pub spec: String,
    /// Grows by 1 with each write.
    pub seq: u64,
    /// The phase.
    pub phase: Phase,
    /// How many steps it made; in mode auto the step of the plan, counted from 1.
    pub step: u32,
    /// What it may do.
    pub mode: Mode,
    /// The share of `to` in the document.
    pub share: PatternShare,
    /// The share of `to` to which it goes back.
    pub back: PatternShare,
    /// The `ModifyIndex` of the document. None while it is that of this key: both were written in one transaction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub document: Option<u64>,
    /// A person paused it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<Paused>,
    /// It stopped and waits for a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latched: Option<Latch>,
    /// The step that a person approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approved: Option<u32>,
    /// The step whose bake counts as full.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub promoted: Option<u32>,
    /// The last request that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Answered>,
    /// The last approval that was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<Answered>,
    /// Since when it is in this phase.
    pub since: Timestamp,
    /// Why it ended or goes back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether a person took it back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub aborted: bool,
    /// The nodes that had not applied the last document when it ended.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<NodeName>,
}

/// A phase of a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Too many rollouts are active.
    Queued,
    /// It checks whether it can begin, and records a baseline.
    Preflight,
    /// A document is written; not all nodes have it.
    Shift,
    /// `to` is judged.
    Bake,
    /// The document that goes back is written; not all nodes have it.
    RollingBack,
    /// It ended with the last step.
    Done,
    /// It ended where it began.
    RolledBack,
    /// It ended because somebody else wrote other shares.
    TakenOver,
}

impl Phase {
    /// All phases.
    pub const ALL: [Self; 8] = [
        Self::Queued,
        Self::Preflight,
        Self::Shift,
        Self::Bake,
        Self::RollingBack,
        Self::Done,
        Self::RolledBack,
        Self::TakenOver,
    ];

    /// Whether nothing moves any more.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::RolledBack | Self::TakenOver)
    }

    /// Whether `to` has a share that this rollout gave it.
    pub const fn is_moving(self) -> bool {
        matches!(self, Self::Shift | Self::Bake)
    }

    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Preflight => "preflight",
            Self::Shift => "shift",
            Self::Bake => "bake",
            Self::RollingBack => "rolling_back",
            Self::Done => "done",
            Self::RolledBack => "rolled_back",
            Self::TakenOver => "taken_over",
        }
    }
}

/// A person paused it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// Who.
    pub by: String,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Why it waits for a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Latch {
    /// Twice the bake is over without enough evidence.
    Inconclusive,
    /// The SLO is broken, not clearly by `to`.
    Slo,
    /// `to` is worse, and the spec says "hold".
    Regression,
    /// The spec is not the one that was started, or cannot be read.
    SpecChanged,
}

impl Latch {
    /// The word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Inconclusive => "inconclusive",
            Self::Slo => "slo",
            Self::Regression => "regression",
            Self::SpecChanged => "spec_changed",
        }
    }
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// The request.
    pub id: String,
    /// Why it was refused; none if it was done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

impl State {
    /// The most names in `late`; the rest is only counted in the log.
    pub const MAX_LATE: usize = 20;

    /// Reads the value of a key. `modify_index` is the key's own.
    ///
    /// # Errors
    /// [`BadValue`] says why it cannot be read.
    pub fn parse(value: &[u8], modify_index: u64) -> Result<Self, BadValue> {
        let mut state: Self = stored::read(value, MAX_STATE)?;
        state.document.get_or_insert(modify_index);
        Ok(state)
    }

    /// The value of the key.
    pub fn to_value(&self) -> Vec<u8> {
        stored::write(self)
    }
}

/// What the judge knows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// The identifier of the rollout.
    pub rollout: String,
    /// The step to which `good` belongs.
    pub step: u32,
    /// The last block that was judged: unix time / 10.
    pub block: u64,
    /// Good seconds of the step.
    pub good: u64,
    /// Whether the share grew and no block was judged since.
    #[serde(default)]
    pub raised: bool,
    /// The evidence.
    pub judge: judge::State,
    /// What the leader sees, for people.
    #[serde(default)]
    pub shown: Shown,
}

impl Evidence {
    /// Reads the value of a key.
    ///
    /// # Errors
    /// [`BadValue`] says why it cannot be read.
    pub fn parse(value: &[u8]) -> Result<Self, BadValue> {
        stored::read(value, MAX_EVIDENCE)
    }

    /// The value of the key.
    pub fn to_value(&self) -> Vec<u8> {
        stored::write(self)
    }
}

/// The longest text of the field `why`, in bytes.
pub(super) const WHY: usize = 300;

/// The start of a text, at most `most` bytes.
pub(super) fn short(text: &str, most: usize) -> String {
    text.chars()
        .scan(0, |bytes, c| {
            *bytes += c.len_utf8();
            (*bytes <= most).then_some(c)
        })
        .collect()
}
