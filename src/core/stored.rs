//! The content of the state file, which survives a restart of weightd. The daemon owns the file itself.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{desired::Desired, model::BackendName, overrides::Override};

/// The state on disk of one instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Stored {
    /// The backends.
    pub backends: BTreeMap<BackendName, StoredBackend>,
}

/// The state on disk of one backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBackend {
    /// The accepted document, which is enforced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Arc<Desired>>,
    /// The last valid document, if it is not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<Arc<Desired>>,
    /// Whether a guard rejects `pending`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guarded: bool,
    /// The override, if there is one. `pending` is then the document behind it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overridden: Option<Override>,
}
