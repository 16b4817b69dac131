//! The bodies of `POST /v1/pause` and `POST /v1/resume` on the local socket.

use serde::{Deserialize, Serialize};

use crate::model::BackendName;

/// The shortest pause, in seconds.
pub const MIN_PAUSE: u64 = 1;
/// The longest pause, in seconds: a week. What lasts longer belongs into a document in Consul.
pub const MAX_PAUSE: u64 = 7 * 24 * 3600;
/// The most characters of a reason, or of a name.
pub const MAX_TEXT: usize = 200;

/// `POST /v1/pause`. It replaces the pause of the same backend, or of all backends, if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// The backend; if absent all of them, including future ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendName>,
    /// The HAProxy, by its name in the configuration; if absent each of this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// How long it lasts, from [`MIN_PAUSE`] to [`MAX_PAUSE`] seconds.
    pub for_seconds: u64,
    /// Why: at most [`MAX_TEXT`] characters, no control characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who: the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// `POST /v1/resume`: ends a pause at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// The backend whose pause ends; if absent every pause ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendName>,
    /// As in [`PauseRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// As in [`PauseRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The answer to a pause: 200. No command is under way to HAProxy any more, and a restart of weightd keeps the pause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseAnswer {
    /// The names of the instances on which it is in force.
    pub instances: Vec<String>,
    /// The backend; null for all.
    pub backend: Option<BackendName>,
    /// For how long.
    pub for_seconds: u64,
}

/// The answer to a resume: 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeAnswer {
    /// The names of the instances that were asked.
    pub instances: Vec<String>,
    /// The backend; null for all.
    pub backend: Option<BackendName>,
    /// How many pauses this ended; 0 if nothing was paused.
    pub lifted: usize,
}

/// The answer to a request that was not carried out, or not in full: 400 for an invalid body, 404 for an unknown name, 409
/// for one backend while all are paused, 413 for a body over 4 KiB, 500 if it could not be written to disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// What is wrong.
    pub error: String,
    /// What to do about it.
    pub hint: String,
}
