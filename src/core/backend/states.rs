//! The states of a backend: what Consul has for it, whether HAProxy has it, how far its weights are, and why they change.

use std::sync::Arc;

use crate::{accept::Guarded, desired::Rejected};

/// Why weights are changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Cause {
    /// A document was accepted.
    Document,
    /// The first reading since weightd started showed a difference.
    Start,
    /// A new HAProxy process started with other weights.
    NewProcess,
    /// A server was added at runtime, with a weight of its own.
    NewServer,
    /// Something else changed them.
    Drift,
    /// A pause ended: changes that were pending meanwhile.
    Resume,
}

impl Cause {
    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Document => "document",
            Self::Start => "start",
            Self::NewProcess => "new_process",
            Self::NewServer => "new_server",
            Self::Drift => "drift",
            Self::Resume => "resume",
        }
    }
}

/// What Consul has for the backend now.
#[derive(Debug, Clone, Default)]
pub enum KeyState {
    /// Consul has not answered since the start.
    #[default]
    Unknown,
    /// There is no key, or the token may not read it.
    Absent,
    /// There is a valid document, or there are valid leaves.
    Valid,
    /// There is something invalid.
    Rejected(Arc<Rejected>),
    /// There is a release.
    Released,
}

/// Whether this HAProxy has the backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Matched {
    /// Not known: it was not read in this process.
    #[default]
    Unknown,
    /// It does.
    Yes,
    /// It does not, which is normal where not every HAProxy has every backend.
    No,
}

/// Why the desired weights are not the accepted ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotAccepted {
    /// A guard.
    Guarded(Guarded),
    /// They name no server that this HAProxy has.
    Unmatched,
}

/// How far HAProxy's weights are.
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
/// A new process and the end of a pause lead back to `Fresh`, from every state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// Not compared yet. The cause of the change, if they differ.
    Fresh(Cause),
    /// They were read back as accepted: a difference from now on is drift, or a new server.
    Converged,
    /// They are being changed.
    Changing(Cause),
    /// They are as accepted, except for changes that are withheld.
    Withheld(Cause),
}
