//! What happened, for the log and the counters.

use std::{sync::Arc, time::Duration};

use crate::{
    backend::Cause,
    desired::Desired,
    model::BackendName,
    observed::Owner,
    pauses::{Ended, Pause, Scope},
    plan::{Change, Plan},
    reasons::Reason,
};

/// Something that belongs into a log or a counter.
#[derive(Debug, Clone)]
pub enum Event {
    /// A weight was set and read back.
    Changed {
        /// The backend.
        backend: BackendName,
        /// The server and its weights.
        change: Change,
        /// Why.
        cause: Cause,
        /// What HAProxy shows to set this server's weight as well.
        owner: Option<Owner>,
        /// The document that it comes from.
        accepted: Arc<Desired>,
        /// From Consul's answer to the read-back, for a document that was not deferred.
        took: Option<Duration>,
    },
    /// A node in mode observe would set weights.
    Would {
        /// The backend.
        backend: BackendName,
        /// Why.
        cause: Cause,
        /// What it would send.
        plan: Plan,
    },
    /// A reason is new.
    Reason {
        /// The backend.
        backend: BackendName,
        /// The reason.
        reason: Reason,
    },
    /// A reason is gone.
    Cleared {
        /// The backend.
        backend: BackendName,
        /// The word of the reason.
        reason: String,
    },
    /// A pause began.
    Paused {
        /// What is paused.
        scope: Scope,
        /// Who, why, until when.
        pause: Pause,
        /// How long that is.
        lasts: Duration,
    },
    /// A pause ended.
    Resumed {
        /// What was paused.
        scope: Scope,
        /// Who paused it, and why.
        pause: Pause,
        /// How it ended.
        ended: Ended,
    },
    /// A HAProxy process answers that is not the one before.
    Process {
        /// Its Pid.
        pid: u32,
        /// Its version.
        version: String,
        /// How long it has been running, in seconds.
        uptime: u64,
    },
    /// HAProxy cannot be used, for a new reason.
    Down {
        /// A short word.
        reason: &'static str,
        /// A sentence.
        detail: String,
        /// What to do about it.
        remedy: &'static str,
    },
    /// HAProxy can be used again.
    Up {
        /// How long it could not be used.
        after: Duration,
    },
    /// Nothing was read from Consul in time after the start: what lies on disk is enforced.
    EnforcingFromDisk {
        /// Whether a read failed; else it was only late.
        failed: bool,
    },
}
