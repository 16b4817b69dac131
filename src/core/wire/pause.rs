//! The bodies of `POST /v1/pause` and `POST /v1/resume` on the local socket.

use serde::{Deserialize, Serialize};

use crate::model::BackendName;

/// The shortest pause, in seconds.
pub const MIN_PAUSE: u64 = 1;
/// The longest pause, in seconds: one week. Use a document in Consul for a longer time.
pub const MAX_PAUSE: u64 = 7 * 24 * 3600;
/// Maximum length of a reason or an author, in characters.
pub const MAX_TEXT: usize = 200;

/// The body of `POST /v1/pause`. The new pause replaces an existing pause of the same scope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseRequest {
    /// The backend. If absent: all backends, including future ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendName>,
    /// The HAProxy instance, by its name in the configuration. If absent: all instances of this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// The duration in seconds, from [`MIN_PAUSE`] to [`MAX_PAUSE`].
    pub for_seconds: u64,
    /// The reason: at most [`MAX_TEXT`] characters, no control characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The author: at most [`MAX_TEXT`] characters, no control characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The body of `POST /v1/resume`, which ends pauses at once.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeRequest {
    /// The backend. If absent: all pauses end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendName>,
    /// As in [`PauseRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// As in [`PauseRequest`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
}

/// The answer to a pause: 200. Guarantees that no command to HAProxy is in progress, and that the pause survives a
/// restart of weightd.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseAnswer {
    /// The names of the paused instances.
    pub instances: Vec<String>,
    /// The backend; null for all.
    pub backend: Option<BackendName>,
    /// The duration in seconds.
    pub for_seconds: u64,
}

/// The answer to a resume: 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeAnswer {
    /// The names of the instances in the request.
    pub instances: Vec<String>,
    /// The backend; null for all.
    pub backend: Option<BackendName>,
    /// The number of ended pauses; 0 if nothing was paused.
    pub lifted: usize,
}

/// The answer to a request that failed completely or in part: 400 for an invalid body, 404 for an unknown name, 409 for
/// one backend while all are paused, 413 for a body over 4 KiB, 500 if the write to disk failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiError {
    /// The error.
    pub error: String,
    /// The fix.
    pub hint: String,
}
