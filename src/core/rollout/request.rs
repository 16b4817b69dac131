//! The values of `rollouts/request/<b>` and `rollouts/approval/<b>`: what a person wants of a rollout.

use serde::{Deserialize, Serialize};

use super::{
    keys::MAX_REQUEST,
    plan::Mode,
    state::short,
    stored::{self, BadValue, is_id},
};
use crate::model::Timestamp;

/// What a person wants of a rollout. One at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Its identifier, random: the same request is never answered twice.
    pub id: String,
    /// What is wanted; in JSON the field `verb`, with `wrote` or `mode` beside it.
    #[serde(flatten)]
    pub verb: Verb,
    /// The identifier of the rollout.
    pub rollout: String,
    /// The `seq` of the state that the person saw.
    pub at: u64,
    /// Who.
    pub by: String,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Timestamp>,
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case")]
pub enum Verb {
    /// Do not advance.
    Pause,
    /// Go on: clears what paused or latched it.
    Resume,
    /// The bake counts as full; all other gates stay.
    Promote,
    /// The next step may begin. Only in `rollouts/approval/<b>`, so that an ACL can separate who approves.
    Approve,
    /// Take `to` back and end.
    Abort {
        /// Whether the writer wrote the document that goes back in the same transaction.
        #[serde(default)]
        wrote: bool,
    },
    /// Change what it may do.
    Mode {
        /// To this.
        mode: Mode,
    },
}

impl Verb {
    /// The word.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Promote => "promote",
            Self::Approve => "approve",
            Self::Abort { .. } => "abort",
            Self::Mode { .. } => "mode",
        }
    }

    /// Whether it is refused if the state is no longer the one that the person saw.
    pub const fn needs_same_state(&self) -> bool {
        matches!(self, Self::Promote | Self::Approve | Self::Resume)
    }
}

impl Request {
    /// The longest `by`, in bytes. What a person writes is repeated in the state, which must stay small.
    pub const MAX_BY: usize = 200;
    /// The longest `reason`, in bytes.
    pub const MAX_REASON: usize = 500;

    /// A request that a leader can read: `by` and `reason` are cut to their longest length. `id` is random, `at` the `seq` of
    /// the state that the person saw.
    pub fn new(id: String, verb: Verb, rollout: String, at: u64, by: &str, reason: Option<&str>) -> Self {
        let reason = reason.map(|reason| short(reason, Self::MAX_REASON));
        Self { id, verb, rollout, at, by: short(by, Self::MAX_BY), when: None, reason }
    }

    /// Reads the value of a key. None for `{}`, which says that there is no request.
    ///
    /// # Errors
    /// [`BadValue`] says why it cannot be read.
    pub fn parse(value: &[u8]) -> Result<Option<Self>, BadValue> {
        if value.len() <= MAX_REQUEST && value.trim_ascii() == b"{}" {
            return Ok(None);
        }
        let request: Self = stored::read(value, MAX_REQUEST)?;
        let what = match () {
            () if !is_id(&request.id) => "`id` is not an identifier",
            () if !is_id(&request.rollout) => "`rollout` is not an identifier",
            () if request.by.len() > Self::MAX_BY => "`by` is too long",
            () if request.reason.as_ref().is_some_and(|reason| reason.len() > Self::MAX_REASON) => {
                "`reason` is too long"
            }
            () => return Ok(Some(request)),
        };
        Err(BadValue::Malformed(what.to_owned()))
    }

    /// The value of the key.
    pub fn to_value(&self) -> Vec<u8> {
        stored::write(self)
    }
}
