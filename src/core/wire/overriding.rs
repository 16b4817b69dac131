//! The bodies of `POST /v1/override` on the local socket.

use serde::{Deserialize, Serialize};

use crate::{desired::Weights, model::BackendName};

/// The body of `POST /v1/override`. The new override replaces an existing one of the backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OverrideRequest {
    /// The backend.
    pub backend: BackendName,
    /// The HAProxy instance, by its name in the configuration. If absent: all instances that have the backend.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The weights; none for the field `back` of the document in force.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<Weights>,
    /// Whether it may pass the guards.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force: bool,
    /// The duration in seconds, with the bounds of a pause.
    pub for_seconds: u64,
    /// The reason: at most [`MAX_TEXT`](super::pause::MAX_TEXT) characters, no control characters.
    pub reason: String,
    /// The author, with the same bounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The answer to an override: 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideAnswer {
    /// The overridden instances, and the weights there.
    pub instances: Vec<Overridden>,
    /// The backend.
    pub backend: BackendName,
    /// The duration in seconds until the alarm.
    pub for_seconds: u64,
}

/// One instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overridden {
    /// Its name.
    pub instance: String,
    /// The weights.
    pub weights: Weights,
    /// Whether HAProxy was read back with these weights.
    pub in_force: bool,
    /// Whether a restart of weightd keeps the override: it is on disk. Earlier versions do not say it.
    #[serde(default = "yes")]
    pub stored: bool,
}

fn yes() -> bool {
    true
}
