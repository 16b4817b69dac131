//! The view of a backend for `get`, `list` and `set`, and its JSON. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::Serialize;
use weightd_core::{
    desired::{Document, Kind, Rejected, Split, Weights},
    model::{BackendName, Escaped, ServerName, Weight},
    share::{Percent, Share},
};

use super::stored::{Content, Everything, Layout, Stored};

/// The state of a backend's keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// The keys have weights to enforce.
    Weights,
    /// The keys have shares by pattern, which each node expands for the servers that it has.
    Split,
    /// The backend is released. HAProxy keeps its weights.
    Released,
    /// The keys are invalid. The accepted weights stay in force.
    Rejected,
}

/// The view of one backend for `get`, `list` and `set`. Its JSON:
///
/// ```json
/// {
///   "backend": "app1",
///   "layout": "document",        "document", "leaves", or "both", which is rejected
///   "state": "weights",          "weights", "split", "released", "rejected"
///   "index": 42,                 ModifyIndex, of leaves the greatest; null if not written
///   "weights": {"blue": 90, "green": 10},          null unless the state is "weights"
///   "shares": {"blue": 90.0, "green": 10.0},       in percent; null for each server if none gets traffic. With a
///                                                  weightd on this host, only of the servers that serve there
///   "split": null,               if the state is "split": {"blue-*": 90, "green-*": 10}, in percent
///   "force": false,              whether the document may pass the guards
///   "by": "alice",               author, reason and time in the document; null if missing
///   "reason": "10 % canary",
///   "at": "2026-11-21T10:00:00Z",
///   "rejected": null             if rejected: {"key": …, "reason": …, "remedy": …}
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// Its name.
    pub backend: BackendName,
    /// The layout of its keys.
    pub layout: Layout,
    /// The state of its keys.
    pub state: State,
    /// `ModifyIndex`, of leaves the greatest; none before the write.
    pub index: Option<u64>,
    /// The weights; none unless the state is [`State::Weights`].
    pub weights: Option<Weights>,
    /// The share of each server in percent; none for each server if none gets traffic.
    pub shares: Option<BTreeMap<ServerName, Share>>,
    /// The share of each pattern; none unless the state is [`State::Split`].
    pub split: Option<Split>,
    /// Whether the document may pass the guards.
    pub force: bool,
    /// The author.
    pub by: Option<String>,
    /// The reason.
    pub reason: Option<String>,
    /// The time, for people.
    pub at: Option<String>,
    /// The rejected key.
    pub rejected: Option<RejectedView>,
}

/// A rejected key. Its JSON: `{"key": …, "reason": …, "remedy": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedView {
    /// The full key.
    pub key: String,
    /// The reason for the rejection.
    pub reason: String,
    /// The fix.
    pub remedy: String,
}

impl RejectedView {
    /// Creates the view of a rejected key.
    pub fn of(rejected: &Rejected) -> Self {
        Self {
            key: rejected.key.clone(),
            reason: rejected.reason.to_string(),
            remedy: rejected.reason.remedy().to_owned(),
        }
    }
}

/// All backends. Its JSON: `{"backends": [<backend>…], "stray": [{"key", "reason", "remedy"}…], "stray_total": 0}`.
/// `stray` has the first 100 keys with an invalid backend name.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// The backends, by name.
    pub backends: Vec<View>,
    /// Keys with an invalid backend name; the first 100.
    pub stray: Vec<RejectedView>,
    /// Total number of such keys.
    pub stray_total: usize,
}

impl Overview {
    /// Creates the overview of all backends.
    pub fn of(everything: &Everything) -> Self {
        Self {
            backends: everything.backends.iter().map(View::of).collect(),
            stray: everything.stray.iter().map(|rejected| RejectedView::of(rejected)).collect(),
            stray_total: everything.stray_total,
        }
    }

    /// Returns the notes for the table: no backend, keys hidden by ACLs, and the first rejected keys.
    pub fn notes(&self, prefix: &str, filtered: bool) -> Vec<String> {
        const SHOWN: usize = 20;
        let mut notes = Vec::new();
        if filtered {
            notes.push("Consul hides keys, because this token may not read them".to_owned());
        }
        if self.backends.is_empty() && self.stray_total == 0 {
            notes.push(format!("there is no backend below {prefix}"));
        }
        let refused = self.backends.iter().filter_map(|view| view.rejected.as_ref());
        let total = refused.clone().count() + self.stray_total;
        let shown: Vec<_> = refused.chain(&self.stray).take(SHOWN).collect();
        notes.extend(shown.iter().map(|rejected| format!("{}; {}", rejected.sentence(), rejected.remedy)));
        if total > shown.len() {
            notes.push(format!("{} more keys are rejected", total - shown.len()));
        }
        notes
    }
}

impl RejectedView {
    /// Returns the key and the reason as one sentence.
    pub fn sentence(&self) -> String {
        format!("{} is rejected: {}", Escaped(&self.key), self.reason)
    }
}

impl View {
    /// Creates the view of a backend in Consul.
    pub fn of(stored: &Stored) -> Self {
        let mut view = match &stored.content {
            Content::Document(document) => Self::of_document(&stored.backend, document),
            Content::Leaves(leaves) => {
                let weights = leaves.iter().map(|(server, leaf)| (server.clone(), leaf.weight)).collect();
                Self::of_leaves(&stored.backend, weights)
            }
            Content::Rejected(rejected) => Self {
                state: State::Rejected,
                rejected: Some(RejectedView::of(rejected)),
                ..Self::empty(&stored.backend, stored.layout)
            },
        };
        view.index = Some(stored.index);
        view
    }

    /// Creates the view of a document that is not written yet.
    pub fn of_document(backend: &BackendName, document: &Document) -> Self {
        let mut view = Self::empty(backend, Layout::Document);
        match &document.kind {
            Kind::Release => view.state = State::Released,
            Kind::Weights(weights) => view.set_weights(weights.clone()),
            Kind::Split(split) => {
                view.state = State::Split;
                view.split = Some(split.clone());
            }
        }
        view.force = document.force;
        view.by.clone_from(&document.by);
        view.reason.clone_from(&document.reason);
        view.at.clone_from(&document.at);
        view
    }

    /// Creates the view of leaves that are not written yet.
    pub fn of_leaves(backend: &BackendName, weights: Weights) -> Self {
        let mut view = Self::empty(backend, Layout::Leaves);
        view.set_weights(weights);
        view
    }

    fn empty(backend: &BackendName, layout: Layout) -> Self {
        Self {
            backend: backend.clone(),
            layout,
            state: State::Weights,
            index: None,
            weights: None,
            shares: None,
            split: None,
            force: false,
            by: None,
            reason: None,
            at: None,
            rejected: None,
        }
    }

    fn set_weights(&mut self, weights: Weights) {
        let share = |(server, weight): (&ServerName, &Weight)| (server.clone(), Share::of(*weight, &weights));
        self.shares = Some(weights.iter().map(share).collect());
        self.weights = Some(weights);
    }

    /// Computes the shares again, only for the servers in `active`, which serve traffic with a weight above 0. All
    /// other servers get no traffic. If no active server has a weight above 0, the shares are unknown: a backup server
    /// serves.
    pub fn limit_shares_to(&mut self, active: &BTreeSet<ServerName>) {
        let Some(weights) = &self.weights else { return };
        let counted: Weights =
            weights.iter().filter(|(server, _)| active.contains(*server)).map(|(s, w)| (s.clone(), *w)).collect();
        let share = |(server, weight): (&ServerName, &Weight)| {
            let weight = if counted.contains_key(server) { *weight } else { Weight::ZERO };
            (server.clone(), Share::of(weight, &counted))
        };
        self.shares = Some(weights.iter().map(share).collect());
    }

    /// Returns the share of a server as text; `-` if unknown.
    pub fn share(&self, server: &ServerName) -> String {
        let share = self.shares.as_ref().and_then(|shares| shares.get(server));
        share.map_or_else(|| "-".to_owned(), Share::to_string)
    }

    /// Whether both views are equal except for the index.
    pub fn has_same_content(&self, other: &Self) -> bool {
        *self == Self { index: self.index, ..other.clone() }
    }

    /// Returns the content on one line.
    pub fn summary(&self) -> String {
        let mut text = match (self.state, &self.weights, &self.split) {
            (State::Rejected, ..) => return "rejected".to_owned(),
            (State::Weights, Some(weights), _) => weights_summary(weights),
            (State::Split, _, Some(split)) => split_summary(split),
            _ => return "released".to_owned(),
        };
        if self.force {
            text.push_str(" (force)");
        }
        text
    }

    /// Returns author, time and reason on one line; empty if the document has none of them.
    pub fn origin(&self) -> String {
        let mut text = self.by.as_deref().map_or_else(String::new, |by| format!("by {}", Escaped(by)));
        if let Some(at) = &self.at {
            let _ = write!(text, "{}at {}", if text.is_empty() { "" } else { " " }, Escaped(at));
        }
        if let Some(reason) = &self.reason {
            let _ = write!(text, "{}{}", if text.is_empty() { "" } else { ": " }, Escaped(reason));
        }
        text
    }
}

/// Escapes text from outside for a table cell; empty if there is none.
pub fn foreign(text: Option<&String>) -> String {
    text.map_or_else(String::new, |text| Escaped(text).to_string())
}

/// The first 8 servers with their weights on one line, and the number of the others.
pub fn weights_summary(weights: &Weights) -> String {
    const SHOWN: usize = 8;
    let mut text = weights.iter().take(SHOWN).map(|(s, w)| format!("{s}={w}")).collect::<Vec<_>>().join(" ");
    if weights.len() > SHOWN {
        let _ = write!(text, " and {} more", weights.len() - SHOWN);
    }
    text
}

/// The first 8 patterns with their shares on one line, and the number of the others.
pub fn split_summary(split: &Split) -> String {
    const SHOWN: usize = 8;
    let shares = split.shares();
    let shown = shares.iter().take(SHOWN).map(|(pattern, share)| format!("{pattern}={}", Percent(share.percent())));
    let mut text = format!("split {}", shown.collect::<Vec<_>>().join(" "));
    if shares.len() > SHOWN {
        let _ = write!(text, " and {} more", shares.len() - SHOWN);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::{
        super::stored::tests::{everything, stored},
        *,
    };

    fn json(keys: &[(&str, &str)]) -> String {
        serde_json::to_string_pretty(&View::of(&stored(keys))).unwrap()
    }

    #[test]
    fn a_backend_as_json() {
        let document = r#"{"weights":{"blue":2,"green":1},"force":true,"by":"alice","reason":"canary","at":"2026-11-21T10:00:00Z"}"#;
        insta::assert_snapshot!(json(&[("app1", document)]));
        insta::assert_snapshot!(json(&[("app1/blue", "0"), ("app1/green", "0")]));
        insta::assert_snapshot!(json(&[("app1", r#"{"release":true,"by":"alice"}"#)]));
        insta::assert_snapshot!(json(&[("app1", "50%")]));
    }

    #[test]
    fn rejected_keys_are_noted_and_the_list_is_bounded() {
        let overview = Overview::of(&everything(&[("app1", "{}"), ("a b", "1"), ("ok/a", "1")]));
        insta::assert_snapshot!(overview.notes("weightd/weights/", false).join("\n"), @r#"
        weightd/weights/app1 is rejected: the document has none of `weights`, `split` and `release`; write a document such as {"weights": {"blue": 90, "green": 10}}, or use `weightctl set`
        weightd/weights/a b is rejected: the backend's name is invalid: the name `a b` contains ` `; valid characters are A-Z a-z 0-9 _ . : -; delete the key; use the name of the backend in haproxy.cfg
        "#);
        let many: Vec<_> = (0..30).map(|n| (format!("app{n}"), "x".to_owned())).collect();
        let many: Vec<_> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let notes = Overview::of(&everything(&many)).notes("", false);
        assert_eq!((notes.len(), notes[20].as_str()), (21, "10 more keys are rejected"));
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let view = View::of(&stored(&[("a", r#"{"weights":{"x":1},"by":"\u001b[2J","reason":"a\nb","at":"\u202e"}"#)]));
        assert_eq!(view.origin(), r"by \u{1b}[2J at \u{202e}: a\nb");
    }
}
