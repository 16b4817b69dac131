//! The states of a backend: its key in Consul, its presence in HAProxy, the progress of its weights, and the cause of
//! changes.

use std::sync::Arc;

use crate::{accept::Guarded, desired::Rejected, expand::Misfit};

/// The cause of a change of weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// A document was accepted.
    Document,
    /// The first reading since weightd started showed a difference.
    Start,
    /// A new HAProxy process started with other weights.
    NewProcess,
    /// A server was added at runtime with another weight.
    NewServer,
    /// The servers of a split changed, so that its expansion did.
    Servers,
    /// Another program or a person changed the weights.
    Drift,
    /// A pause or an override ended: deferred changes and differences.
    Resume,
    /// A person overrode the document on this node.
    Override,
}

impl Cause {
    /// Returns the stable word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Start => "start",
            Self::NewProcess => "new_process",
            Self::NewServer => "new_server",
            Self::Servers => "servers",
            Self::Drift => "drift",
            Self::Resume => "resume",
            Self::Override => "override",
        }
    }
}

/// The state of the backend's key in Consul.
#[derive(Debug, Clone, Default)]
pub enum KeyState {
    /// Consul has not answered since the start.
    #[default]
    Unknown,
    /// The key does not exist, or the token may not read it.
    Absent,
    /// A valid document, or valid leaves.
    Valid,
    /// An invalid document or leaf.
    Rejected(Arc<Rejected>),
    /// A release document.
    Released,
}

/// Whether this HAProxy has the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Matched {
    /// Unknown: this process was not read yet.
    #[default]
    Unknown,
    /// HAProxy has the backend.
    Yes,
    /// HAProxy does not have the backend. This is normal in a fleet with different configurations.
    No,
}

/// Why the desired weights are not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotAccepted {
    /// A guard rejects them.
    Guarded(Guarded),
    /// This HAProxy has none of the named servers.
    Unmatched,
    /// The split does not fit the servers of this HAProxy.
    Misfit(Misfit),
}

/// The progress of HAProxy's weights towards the accepted ones.
///
/// ```text
///               a reading shows a difference              the read-back shows none
///   Fresh ──────────────────────────────────▶ Changing ────────────────────────▶ Converged
///     │                                        │    ▲                                │
///     │ it shows none                 withheld │    │ a reading shows a difference   │
///     └───────────▶ Converged                  ▼    └────────────────────────────────┘
///                                           Withheld ──────── no longer withheld ──▶ Changing
/// ```
///
/// From every state, a new process and the end of a pause lead back to `Fresh`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The weights were not compared yet. The value is the cause of a change, if they differ.
    Fresh(Cause),
    /// A reading showed the accepted weights. A later difference is drift or a new server.
    Converged,
    /// Changes are being sent.
    Changing(Cause),
    /// All changes are done, except for the withheld ones.
    Withheld(Cause),
}

impl Default for Progress {
    fn default() -> Self {
        Self::Fresh(Cause::Start)
    }
}
