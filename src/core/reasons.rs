//! Why something is not simply as Consul says: the words that status, logs and metrics use, and how much each matters.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// How much a reason matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Severity {
    /// Normal where not every HAProxy has every backend.
    #[default]
    Normal,
    /// Worth knowing.
    Info,
    /// A person should look into it.
    Warning,
    /// Requests fail.
    Error,
}

/// One reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Reason {
    /// A word, stable; one of [`WORDS`].
    pub reason: Cow<'static, str>,
    /// A sentence, for people.
    pub detail: String,
    /// What to do about it.
    pub remedy: Cow<'static, str>,
    /// How much it matters.
    #[serde(skip)]
    pub severity: Severity,
}

impl Reason {
    /// A reason of this severity.
    pub fn new(severity: Severity, reason: &'static str, detail: impl Into<String>, remedy: &'static str) -> Self {
        Self { reason: Cow::Borrowed(reason), detail: detail.into(), remedy: Cow::Borrowed(remedy), severity }
    }
}

/// Every word that [`Reason::reason`] can be.
pub const WORDS: [&str; 23] = [
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
    "paused",
    "refused",
    "rejected",
    "slowstart",
    "srv_record",
    "stick_table",
    "unmatched_backend",
    "unmatched_server",
    "unnamed",
    "unreadable",
    "unsupported",
    "withheld",
];

/// The first few names, and how many more there are.
pub fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const SHOWN: usize = 5;
    let names: Vec<&str> = names.collect();
    let shown = names.iter().take(SHOWN).copied().collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN { format!("{shown} and {} more", names.len() - SHOWN) } else { shown }
}
