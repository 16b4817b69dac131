//! The reasons for every state other than plain success: stable codes for status, logs and metrics, and their severity.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The severity of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Severity {
    /// Normal in a fleet with different HAProxy configurations.
    #[default]
    Normal,
    /// Useful to know.
    Info,
    /// A person should investigate.
    Warning,
    /// Requests fail.
    Error,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reason {
    /// The stable code; one of [`WORDS`].
    pub reason: Cow<'static, str>,
    /// The description, for people.
    pub detail: String,
    /// The fix.
    pub remedy: Cow<'static, str>,
    /// The severity.
    #[serde(skip)]
    pub severity: Severity,
}

impl Reason {
    /// Creates a reason.
    pub fn new(severity: Severity, reason: &'static str, detail: impl Into<String>, remedy: &'static str) -> Self {
        Self { reason: Cow::Borrowed(reason), detail: detail.into(), remedy: Cow::Borrowed(remedy), severity }
    }
}

/// All values of [`Reason::reason`].
pub const WORDS: [&str; 29] = [
    "agent_check",
    "backup",
    "contended",
    "cookie",
    "first",
    "guarded",
    "hash",
    "leastconn",
    "no_usable_server",
    "only_backups",
    "orphaned",
    "overridden",
    "override_expired",
    "paused",
    "refused",
    "rejected",
    "slowstart",
    "split_down",
    "split_inexact",
    "split_overlap",
    "split_unmatched",
    "srv_record",
    "stick_table",
    "unmatched_backend",
    "unmatched_server",
    "unnamed",
    "unreadable",
    "unsupported",
    "withheld",
];

/// Lists the first 5 names, and the number of the others.
pub fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}
