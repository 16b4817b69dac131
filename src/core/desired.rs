//! The desired state: the documents of Consul KV, parsed strictly.
//!
//! Owns the meaning of the keys and values below `<root>weights/`, and the reasons for rejecting them. Must not do I/O.
//! Must not turn an absent, empty or unreadable value into an instruction: only an explicit, valid document has an
//! effect.

mod decode;
mod document;
mod rejected;
mod split;

use std::{collections::BTreeMap, sync::Arc};

pub use decode::{BadResponse, Decoder, Entry, KeyKind, key_kind};
pub use document::{Document, Kind};
pub use rejected::{Invalid, Rejected};
use serde::{Deserialize, Serialize};
pub use split::{Back, Pattern, PatternShare, Split};

use crate::model::{BackendName, ServerName, Weight};

/// The weight of each named server, ordered by name.
pub type Weights = BTreeMap<ServerName, Weight>;

/// The last valid document of one backend.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// The weight of each named server. weightd does not change other servers of the backend. Of a split, its expansion for
    /// the servers of this HAProxy; empty until it is expanded.
    pub weights: Weights,
    /// The split that `weights` are expanded from; none for a document that names weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub split: Option<Split>,
    /// Whether this document may pass the guards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Consul's `ModifyIndex`; of leaves the greatest. It alone orders documents.
    pub index: u64,
    /// `by` of the document: the author.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// `reason` of the document.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `at` of the document: a time for people. No decision uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Where the present shift began, as the document says. Enforcement ignores it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back: Option<Back>,
}

impl Desired {
    /// Whether all weights are above 0. Such a document stops no server, so it cannot stop the last usable one. Of a split
    /// that is not known: its weights depend on the servers.
    pub fn stops_no_server(&self) -> bool {
        self.split.is_none() && self.weights.values().all(|weight| !weight.is_zero())
    }

    /// Whether both are the same document. The expansion of a split is not a part of it.
    pub fn is_same_document(&self, other: &Self) -> bool {
        if self.split.is_none() {
            return self == other;
        }
        let Self { weights: _, split, force, index, by, reason, at, back } = self;
        (split, force, index, by, reason, at, back)
            == (&other.split, &other.force, &other.index, &other.by, &other.reason, &other.at, &other.back)
    }
}

/// The instruction in the valid keys of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// A document: enforce these weights. A document is complete.
    Weights(Arc<Desired>),
    /// Leaves: enforce these weights. A missing leaf is not an instruction: it may be deleted, or hidden by an ACL.
    Leaves(Arc<Desired>),
    /// Stop managing the backend. HAProxy keeps its weights.
    Release {
        /// Consul's `ModifyIndex` of the document.
        index: u64,
    },
}

impl Instruction {
    /// Consul's `ModifyIndex`; of leaves the greatest.
    pub fn index(&self) -> u64 {
        match self {
            Self::Weights(desired) | Self::Leaves(desired) => desired.index,
            Self::Release { index } => *index,
        }
    }
}

/// The content of one backend's keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// A valid document, or valid leaves.
    Valid(Instruction),
    /// Invalid keys. The accepted weights stay in force.
    Rejected(Arc<Rejected>),
}

impl Published {
    /// Consul's `ModifyIndex`; of leaves the greatest.
    pub fn index(&self) -> u64 {
        match self {
            Self::Valid(instruction) => instruction.index(),
            Self::Rejected(rejected) => rejected.index,
        }
    }
}

/// The content of the prefix in one read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DesiredState {
    /// The content by backend, for each backend with at least one key.
    pub backends: BTreeMap<BackendName, Published>,
    /// Keys with an invalid backend name, at most [`DesiredState::MAX_STRAY`].
    pub stray: Vec<Arc<Rejected>>,
    /// Total number of such keys.
    pub stray_total: usize,
    /// The names of unknown fields by backend. They are preserved and reported.
    pub unknown_fields: BTreeMap<BackendName, Arc<[String]>>,
}

impl DesiredState {
    /// Maximum number of keys in [`DesiredState::stray`].
    pub const MAX_STRAY: usize = 100;
}
