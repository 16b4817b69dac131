//! A backend as `get`, `list` and `set` show it, and its JSON. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use serde::Serialize;
use weightd_core::{
    desired::{Document, Kind, Rejected, Weights},
    model::{BackendName, Escaped, ServerName, Weight},
    share::Share,
};

use super::stored::{Content, Everything, Layout, Stored};

/// What the keys of a backend say, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Weights to enforce.
    Weights,
    /// Nothing any more: HAProxy keeps what it has.
    Released,
    /// Something that every weightd refuses: what was accepted stays in force.
    Rejected,
}

/// One backend as `get`, `list` and `set` show it. In JSON:
///
/// ```json
/// {
///   "backend": "app1",
///   "layout": "document",        "document", "leaves", or "both", which is rejected
///   "state": "weights",          "weights", "released", "rejected"
///   "index": 42,                 ModifyIndex, of leaves the greatest; null if it is not written
///   "weights": {"blue": 90, "green": 10},          null unless the state is "weights"
///   "shares": {"blue": 90.0, "green": 10.0},       in percent; null for each server if none gets traffic. With a
///                                                  weightd on this host, of the servers that serve there
///   "force": false,              whether the document may pass the guards
///   "by": "alice",               who, why and when, as the document says; null if it does not
///   "reason": "10 % canary",
///   "at": "2026-11-21T10:00:00Z",
///   "rejected": null             if rejected: {"key": …, "reason": …, "remedy": …}
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct View {
    /// Its name.
    pub backend: BackendName,
    /// How its keys are laid out.
    pub layout: Layout,
    /// What they say, in a word.
    pub state: State,
    /// `ModifyIndex`, of leaves the greatest; none before it is written.
    pub index: Option<u64>,
    /// The weights; none unless the state is [`State::Weights`].
    pub weights: Option<Weights>,
    /// The share of each server in percent; none for each server if none gets traffic.
    pub shares: Option<BTreeMap<ServerName, Share>>,
    /// Whether the document may pass the guards.
    pub force: bool,
    /// Who wrote it.
    pub by: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// When.
    pub at: Option<String>,
    /// What is wrong with it.
    pub rejected: Option<RejectedView>,
}

/// A key that is refused. In JSON: `{"key": …, "reason": …, "remedy": …}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RejectedView {
    /// The full key.
    pub key: String,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl RejectedView {
    /// As it is shown.
    pub fn of(rejected: &Rejected) -> Self {
        Self {
            key: rejected.key.clone(),
            reason: rejected.reason.to_string(),
            remedy: rejected.reason.remedy().to_owned(),
        }
    }
}

/// All backends. In JSON: `{"backends": [<backend>…], "stray": [{"key", "reason", "remedy"}…], "stray_total": 0}`,
/// where `stray` are keys that belong to no backend HAProxy could have, the first hundred of them.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// Each backend, by name.
    pub backends: Vec<View>,
    /// Keys that belong to no backend, the first hundred of them.
    pub stray: Vec<RejectedView>,
    /// How many such keys there are.
    pub stray_total: usize,
}

impl Overview {
    /// Of what Consul holds.
    pub fn of(everything: &Everything) -> Self {
        Self {
            backends: everything.backends.iter().map(View::of).collect(),
            stray: everything.stray.iter().map(|rejected| RejectedView::of(rejected)).collect(),
            stray_total: everything.stray_total,
        }
    }

    /// What deserves a word beside the table: that there is nothing, that something is hidden, and each key
    /// that is refused, the first few of them.
    pub fn notes(&self, prefix: &str, filtered: bool) -> Vec<String> {
        const SHOWN: usize = 20;
        let mut notes = Vec::new();
        if filtered {
            notes.push("Consul hides keys that this token may not read".to_owned());
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
    /// What is wrong with which key.
    pub fn sentence(&self) -> String {
        format!("{} is rejected: {}", Escaped(&self.key), self.reason)
    }
}

impl View {
    /// Of what Consul holds.
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

    /// Of a document that is not written yet.
    pub fn of_document(backend: &BackendName, document: &Document) -> Self {
        let mut view = Self::empty(backend, Layout::Document);
        match &document.kind {
            Kind::Release => view.state = State::Released,
            Kind::Weights(weights) => view.weigh(weights.clone()),
        }
        view.force = document.force;
        view.by.clone_from(&document.by);
        view.reason.clone_from(&document.reason);
        view.at.clone_from(&document.at);
        view
    }

    /// Of leaves that are not written yet.
    pub fn of_leaves(backend: &BackendName, weights: Weights) -> Self {
        let mut view = Self::empty(backend, Layout::Leaves);
        view.weigh(weights);
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
            force: false,
            by: None,
            reason: None,
            at: None,
            rejected: None,
        }
    }

    fn weigh(&mut self, weights: Weights) {
        let share = |(server, weight): (&ServerName, &Weight)| (server.clone(), Share::of(*weight, &weights));
        self.shares = Some(weights.iter().map(share).collect());
        self.weights = Some(weights);
    }

    /// Counts only these servers: those that take traffic when their weight is above 0. The others get none, whatever
    /// their weight. If none of these has a weight, nobody knows which backup server takes the traffic.
    pub fn served_by(&mut self, active: &BTreeSet<ServerName>) {
        let Some(weights) = &self.weights else { return };
        let counted: Weights =
            weights.iter().filter(|(server, _)| active.contains(*server)).map(|(s, w)| (s.clone(), *w)).collect();
        let share = |(server, weight): (&ServerName, &Weight)| {
            let weight = if counted.contains_key(server) { *weight } else { Weight::ZERO };
            (server.clone(), Share::of(weight, &counted))
        };
        self.shares = Some(weights.iter().map(share).collect());
    }

    /// The share of a server, as it is shown.
    pub fn share(&self, server: &ServerName) -> String {
        let share = self.shares.as_ref().and_then(|shares| shares.get(server));
        share.map_or_else(|| "-".to_owned(), Share::to_string)
    }

    /// Whether it says the same, whatever its index.
    pub fn says_the_same(&self, other: &Self) -> bool {
        *self == Self { index: self.index, ..other.clone() }
    }

    /// What it says, on one line.
    pub fn summary(&self) -> String {
        const SHOWN: usize = 8;
        match (self.state, &self.weights) {
            (State::Rejected, _) => "rejected".to_owned(),
            (State::Released, _) | (State::Weights, None) => "released".to_owned(),
            (State::Weights, Some(weights)) => {
                let mut text =
                    weights.iter().take(SHOWN).map(|(s, w)| format!("{s}={w}")).collect::<Vec<_>>().join(" ");
                if weights.len() > SHOWN {
                    let _ = write!(text, " and {} more", weights.len() - SHOWN);
                }
                if self.force {
                    text.push_str(" (force)");
                }
                text
            }
        }
    }

    /// Who wrote it, when and why, on one line; empty if it does not say.
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

/// Foreign text for a cell; empty if there is none.
pub fn foreign(text: Option<&String>) -> String {
    text.map_or_else(String::new, |text| Escaped(text).to_string())
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
    fn what_is_refused_is_noted_and_the_list_is_bounded() {
        let overview = Overview::of(&everything(&[("app1", "{}"), ("a b", "1"), ("ok/a", "1")]));
        insta::assert_snapshot!(overview.notes("weightd/weights/", false).join("\n"), @r#"
        weightd/weights/app1 is rejected: the document has none of `weights`, `split` and `release`; write a document such as {"weights": {"blue": 90, "green": 10}}, or use `weightctl set`
        weightd/weights/a b is rejected: the backend's name is invalid: the name `a b` contains ` `; HAProxy's names are made of A-Z a-z 0-9 _ . : -; delete the key; write the backend's name as haproxy.cfg has it
        "#);
        let many: Vec<_> = (0..30).map(|n| (format!("app{n}"), "x".to_owned())).collect();
        let many: Vec<_> = many.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        let notes = Overview::of(&everything(&many)).notes("", false);
        assert_eq!((notes.len(), notes[20].as_str()), (21, "10 more keys are rejected"));
    }

    #[test]
    fn foreign_text_cannot_act_on_the_terminal() {
        let view = View::of(&stored(&[("a", r#"{"weights":{"x":1},"by":"\u001b[2J","reason":"a\nb","at":"\u202e"}"#)]));
        assert_eq!(view.origin(), r"by \u{1b}[2J at \u{202e}: a\nb");
    }
}
