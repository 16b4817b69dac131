//! What happened, for the log and the counters. Pure.

use std::{sync::Arc, time::Duration};

use super::{
    backend::Why,
    pauses::{Ended, Pause, Scope},
    reasons::Reason,
};
use crate::{
    desired::Desired,
    model::{BackendName, Moment},
    plan::{Change, Plan},
};

/// Something that a log or a counter should know of.
#[derive(Debug, Clone)]
pub enum Event {
    /// A weight was set and read back.
    Changed {
        /// The backend.
        backend: BackendName,
        /// The server and its weights.
        change: Change,
        /// Why.
        why: Why,
        /// The document it comes from.
        accepted: Arc<Desired>,
        /// When it was read back.
        at: Moment,
    },
    /// A node that only observes would set weights.
    Would {
        /// The backend.
        backend: BackendName,
        /// Why.
        why: Why,
        /// What it would send.
        plan: Plan,
    },
    /// Something is newly not as it should be.
    Reason {
        /// The backend.
        backend: BackendName,
        /// What.
        reason: Reason,
    },
    /// It is as it should be again.
    Cleared {
        /// The backend.
        backend: BackendName,
        /// The word of the reason that is gone.
        reason: &'static str,
    },
    /// Somebody told this node to keep its hands off.
    Paused {
        /// What.
        scope: Scope,
        /// Who, why, until when.
        pause: Pause,
        /// How long that is.
        lasts: Duration,
    },
    /// Hands are on again.
    Resumed {
        /// What.
        scope: Scope,
        /// Who had paused it, and why.
        pause: Pause,
        /// How it ended.
        ended: Ended,
    },
}
