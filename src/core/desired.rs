//! What should be: the documents of Consul KV, read strictly.
//!
//! Owns the meaning of a key and of a value below `<root>weights/`, and what is wrong with each that is
//! refused. Must never do I/O, and must never turn something absent, empty or unreadable into an
//! instruction: only an explicit, valid document acts.

mod decode;
mod document;
mod rejected;

use std::{collections::BTreeMap, sync::Arc};

pub use decode::{BadResponse, Decoder, Entry, Place, Source, place};
pub use document::{Document, Kind};
pub use rejected::{Reason, Rejected};
use serde::{Deserialize, Serialize};

use crate::model::{BackendName, ServerName, Weight};

/// The weight of each server that is named, in the order of their names.
pub type Weights = BTreeMap<ServerName, Weight>;

/// The last valid document of one backend: the weights somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Desired {
    /// What each named server should weigh. Servers of the backend that are not named here are left alone.
    pub weights: Weights,
    /// Whether this document may pass the guards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// Consul's `ModifyIndex`; for leaves the greatest of theirs. The only thing that orders documents.
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
    /// Whether each server it names keeps a weight above 0. Such a document takes traffic away from nobody who could
    /// serve it alone, however the servers are by now.
    pub fn stops_no_server(&self) -> bool {
        self.weights.values().all(|weight| !weight.is_zero())
    }
}

/// What a valid document tells a node to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Instruction {
    /// Enforce these weights.
    Weights(Arc<Desired>),
    /// Stop managing the backend and leave HAProxy as it is.
    Release {
        /// Consul's `ModifyIndex` of the document.
        index: u64,
    },
}

/// Everything one read of the prefix said.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct DesiredState {
    /// What Consul says about each backend that it says anything about.
    pub backends: BTreeMap<BackendName, Source>,
    /// Keys that belong to no backend HAProxy could have, at most [`DesiredState::MAX_STRAY`] of them.
    pub stray: Vec<Arc<Rejected>>,
    /// How many such keys there are in all.
    pub stray_total: usize,
    /// Names of fields that no version up to this one knows, by backend: kept, and noted.
    pub unknown_fields: BTreeMap<BackendName, Arc<[String]>>,
}

impl DesiredState {
    /// How many stray keys are kept by name.
    pub const MAX_STRAY: usize = 100;
}
