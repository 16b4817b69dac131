//! What survives a restart of weightd. The file itself is the daemon's.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{desired::Desired, model::BackendName};

/// What lies on disk for one instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stored {
    /// By backend.
    pub backends: BTreeMap<BackendName, StoredBackend>,
}

/// What lies on disk for one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBackend {
    /// What is enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Arc<Desired>>,
    /// The last valid document, where it is not what is enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Arc<Desired>>,
    /// Whether the guards keep `pending` back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guarded: bool,
}
