//! The text and the fields of a notification.

use serde_json::json;
use weightd_core::{
    desired::PatternShare,
    model::{BackendName, Escaped, Timestamp},
    rollout::EventKind,
};

use crate::rolloutd::config::WebhookConfig;

/// A notification about one event of one rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The kind of the event.
    pub kind: EventKind,
    /// The backend.
    pub backend: BackendName,
    /// The id of the rollout.
    pub rollout: String,
    /// The share of the new side after the event, if it is known.
    pub share: Option<PatternShare>,
    /// For people, with the numbers.
    pub detail: String,
    /// Who caused it; none if it was the controller.
    pub by: Option<String>,
    /// When.
    pub at: Timestamp,
}

impl Message {
    /// The JSON that is sent: `text` for chat systems, and the fields for programs.
    pub fn json(&self) -> String {
        let Self { kind, backend, rollout, share, detail, by, at } = self;
        json!({
            "text": self.text(),
            "kind": kind.as_str(),
            "backend": backend.as_str(),
            "rollout": rollout,
            "share": share,
            "detail": detail,
            "by": by,
            "at": at,
        })
        .to_string()
    }

    /// One line for people: `web: rolled back, 0 %: 4 errors of 100, allowed 0.3`.
    fn text(&self) -> String {
        let kind = self.kind.as_str().replace('_', " ");
        let share = self.share.map(|share| format!(", {} %", share.percent())).unwrap_or_default();
        let detail = if self.detail.is_empty() { String::new() } else { format!(": {}", Escaped(&self.detail)) };
        let by = self.by.as_deref().map(|by| format!(" (by {})", Escaped(by))).unwrap_or_default();
        format!("{}: {kind}{share}{detail}{by}", self.backend)
    }

    /// Whether the webhook is told about it.
    pub(super) fn is_wanted_by(&self, webhook: &WebhookConfig) -> bool {
        let patterns = &webhook.backends;
        webhook.events.contains(&self.kind)
            && (patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(self.backend.as_str())))
    }
}
