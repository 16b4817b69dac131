//! What should be: the documents of Consul KV, parsed strictly.
//!
//! Owns the meaning of a key and of a value below `<root>weights/`, and what is wrong with each that is rejected. Must
//! never do I/O, and must never turn something absent, empty or unreadable into an instruction: only an explicit, valid
//! document acts.

mod decode;
mod document;
mod rejected;

use std::{collections::BTreeMap, sync::Arc};

pub use decode::{BadResponse, Decoder, Entry, KeyKind, key_kind};
pub use document::{Document, Kind};
pub use rejected::{Invalid, Rejected};
use serde::{Deserialize, Serialize};

use crate::model::{BackendName, ServerName, Weight};

/// The weight of each named server, ordered by name.
pub type Weights = BTreeMap<ServerName, Weight>;

/// The last valid document of one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// The weight of each named server. Servers of the backend that are not named here are left alone.
    pub weights: Weights,
    /// Whether this document may pass the guards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Consul's `ModifyIndex`; for leaves the greatest of theirs. Nothing else orders documents.
    pub index: u64,
    /// Who wrote it, as the document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// Why, as the document says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When, as the document says. For people; decides nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

impl Desired {
    /// Whether no named server gets weight 0. Such a document stops no server, so it cannot take the last one away.
    pub fn stops_no_server(&self) -> bool {
        self.weights.values().all(|weight| !weight.is_zero())
    }
}

/// What a valid key, or the valid keys of a backend together, tell a node to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// A document: enforce these weights. It is complete.
    Weights(Arc<Desired>),
    /// Leaves: enforce these weights. A leaf that existed before and is missing now is no instruction: it may have been
    /// deleted, or hidden by an ACL.
    Leaves(Arc<Desired>),
    /// Stop managing the backend and leave HAProxy as it is.
    Release {
        /// Consul's `ModifyIndex` of the document.
        index: u64,
    },
}

/// What Consul has for one backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// A valid document, or valid leaves.
    Valid(Instruction),
    /// Something invalid; what was accepted stays in force.
    Rejected(Arc<Rejected>),
}

/// Everything that one read of the prefix said.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DesiredState {
    /// What Consul has for each backend that it has any key of.
    pub backends: BTreeMap<BackendName, Published>,
    /// Keys whose backend name HAProxy cannot have, at most [`DesiredState::MAX_STRAY`] of them.
    pub stray: Vec<Arc<Rejected>>,
    /// How many such keys there are in total.
    pub stray_total: usize,
    /// The names of unknown fields, by backend: they are preserved and reported.
    pub unknown_fields: BTreeMap<BackendName, Arc<[String]>>,
}

impl DesiredState {
    /// How many stray keys are kept by name.
    pub const MAX_STRAY: usize = 100;
}
