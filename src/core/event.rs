//! Events for the log and the counters.

use std::{sync::Arc, time::Duration};

use crate::{
    backend::Cause,
    desired::Desired,
    model::BackendName,
    observed::Owner,
    overrides::Override,
    pauses::{Ended, Pause, Scope},
    plan::{Change, Plan},
    reasons::Reason,
};

/// An event for the log or a counter.
#[derive(Debug, Clone)]
pub enum Event {
    /// A weight was set and read back.
    Changed {
        /// The backend.
        backend: BackendName,
        /// The server and its weights.
        change: Change,
        /// The cause.
        cause: Cause,
        /// The other owner of this server's weight, if HAProxy reports one.
        owner: Option<Owner>,
        /// The document with the weight.
        accepted: Arc<Desired>,
        /// The time from Consul's answer to the read-back; none for a deferred document.
        took: Option<Duration>,
    },
    /// In mode observe: the changes that mode enforce would send.
    WouldChange {
        /// The backend.
        backend: BackendName,
        /// The cause.
        cause: Cause,
        /// The plan that mode enforce would apply.
        plan: Plan,
    },
    /// A reason is new.
    Reason {
        /// The backend.
        backend: BackendName,
        /// The reason.
        reason: Reason,
    },
    /// A reason no longer applies.
    Cleared {
        /// The backend.
        backend: BackendName,
        /// The code of the reason.
        reason: String,
    },
    /// A pause started.
    Paused {
        /// The paused backend, or all.
        scope: Scope,
        /// The pause.
        pause: Pause,
        /// The duration of the pause.
        lasts: Duration,
    },
    /// A pause ended.
    Resumed {
        /// The paused backend, or all.
        scope: Scope,
        /// The pause.
        pause: Pause,
        /// How the pause ended.
        ended: Ended,
    },
    /// An override started.
    Overridden {
        /// The backend.
        backend: BackendName,
        /// The override.
        over: Override,
        /// The duration until the alarm.
        lasts: Duration,
    },
    /// An override ended.
    OverrideEnded {
        /// The backend.
        backend: BackendName,
        /// The override.
        over: Override,
        /// Who ended it; none for a newer document.
        ended: Option<Ended>,
    },
    /// A new HAProxy process answers.
    Process {
        /// Its Pid.
        pid: u32,
        /// Its version.
        version: String,
        /// Its uptime, in seconds.
        uptime: u64,
    },
    /// HAProxy cannot be used, for a new reason.
    Down {
        /// The stable reason code.
        reason: &'static str,
        /// The error, for people.
        detail: String,
        /// The fix.
        remedy: &'static str,
    },
    /// HAProxy can be used again.
    Up {
        /// The duration of the failure.
        after: Duration,
    },
    /// After the start no read of Consul succeeded in time: weightd enforces the state on disk.
    EnforcingFromDisk {
        /// True if a read failed; false if the read is only late.
        failed: bool,
    },
}
