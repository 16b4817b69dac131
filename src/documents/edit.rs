//! Computes the new keys of a backend for a command. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;
use weightd_core::{
    desired::{Back, Document, Invalid, Kind, Pattern, Rejected, Split, Weights},
    history::{Entry, To, Token, Way},
    model::{BackendName, Escaped, ServerName, nearest},
    rollback,
};

use super::{
    stored::{Content, Layout, Leaf, Stored},
    view::View,
};

/// Maximum number of leaves in one transaction.
pub const MAX_LEAVES: usize = 48;

/// The author, the reason and the options of a change.
#[derive(Debug, Clone)]
pub struct Intent {
    /// The author.
    pub by: String,
    /// The reason.
    pub reason: Option<String>,
    /// The time, for people.
    pub at: String,
    /// Whether the document may pass the guards.
    pub force: bool,
    /// Whether the change may create a backend or a server.
    pub create: bool,
    /// By which way: the verb.
    pub way: Way,
    /// The writer's token, where ACLs are on.
    pub token: Option<Token>,
    /// Of a rollback: the index of the entry that it goes back to.
    pub target: Option<u64>,
    /// Of a rollback: the servers or patterns that it takes traffic from.
    pub raised: Vec<Pattern>,
    /// The entries of the history, newest first; the first one is the current state of the backend.
    pub history: Vec<Entry>,
}

impl Default for Intent {
    fn default() -> Self {
        Self {
            by: String::new(),
            reason: None,
            at: String::new(),
            force: false,
            create: false,
            way: Way::Set,
            token: None,
            target: None,
            raised: Vec::new(),
            history: Vec::new(),
        }
    }
}

impl Intent {
    /// The entry of the history for a change to `to`.
    fn entry(&self, to: To, stored: Option<&Stored>) -> Entry {
        // The first document is a resting point of rollbacks.
        let way = if stored.is_none() && self.way == Way::Set { Way::Create } else { self.way.clone() };
        Entry {
            at: self.at.parse().ok(),
            by: Some(self.by.clone()),
            token: self.token.clone(),
            why: self.reason.clone(),
            target: self.target,
            raised: self.raised.clone(),
            ..Entry::new(way, to)
        }
    }

    /// Where a rollback goes after a change with this entry: the field `back` of its document.
    fn back(&self, entry: &Entry) -> Option<Back> {
        let entries: Vec<_> = [entry.clone()].into_iter().chain(self.history.iter().cloned()).collect();
        rollback::back(&entries)
    }
}

/// The computed change of a backend's keys.
#[derive(Debug)]
pub struct Edit {
    /// The backend before the change; none if it has no key.
    pub before: Option<View>,
    /// The backend after the change.
    pub after: View,
    /// The write for the change.
    pub write: Write,
    /// The entry of the history for the change; none if nothing is written.
    pub entry: Option<Entry>,
}

impl Edit {
    /// Whether a freeze does not stop it: the way back is always open.
    pub fn passes_freeze(&self) -> bool {
        self.entry.as_ref().is_some_and(|entry| entry.way == Way::Rollback)
    }
}

/// The keys to write, with their conditions.
#[derive(Debug, PartialEq, Eq)]
pub enum Write {
    /// Nothing: Consul already has this state.
    Nothing,
    /// Write the document, and delete the leaves, if any.
    Document {
        /// The text of the document.
        value: Vec<u8>,
        /// The expected `ModifyIndex` of the document; 0 means that it must not exist.
        index: u64,
        /// The leaves to delete, with their expected `ModifyIndex`.
        leaves: Vec<(ServerName, u64)>,
    },
    /// Write leaves in one transaction, if there is no document.
    Leaves {
        /// The leaves to set, with their expected `ModifyIndex`; 0 means that the leaf must not exist.
        set: Vec<(ServerName, String, u64)>,
        /// The other leaves, with their expected `ModifyIndex`.
        keep: Vec<(ServerName, u64)>,
    },
}

/// The change is refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The backend has no key.
    #[error("backend `{0}` has no key in Consul")]
    NoSuchBackend(BackendName),
    /// The document, or the leaves, do not have the server.
    #[error("backend `{backend}` has no server `{server}` in Consul; its servers are {known}")]
    NoSuchServer {
        /// The backend.
        backend: BackendName,
        /// The server in the command.
        server: ServerName,
        /// The first servers of the backend.
        known: String,
        /// The server with the most similar name.
        nearest: Option<ServerName>,
    },
    /// All servers would have weight 0.
    #[error("all servers of backend `{0}` would have weight 0; requests would fail")]
    AllZero(BackendName),
    /// Every weightd rejects the current document or leaves, so the effect of a change is undefined.
    #[error("{key} is rejected: {reason}", key = Escaped(key))]
    Rejected {
        /// The rejected key.
        key: String,
        /// The reason for the rejection.
        reason: Invalid,
        /// Whether a new document may replace it.
        replaceable: bool,
    },
    /// The backend was released.
    #[error("backend `{0}` is released: weightd does not manage it")]
    Released(BackendName),
    /// The document is a split, so that single weights would replace it.
    #[error("backend `{0}` has shares by pattern (a split) in Consul; weights would replace it")]
    Split(BackendName),
    /// The change has a reason, but leaves are plain numbers.
    #[error("backend `{0}` has leaves; leaves cannot store a reason")]
    NoReason(BackendName),
    /// The backend has more leaves than fit into one transaction.
    #[error("backend `{backend}` has {leaves} leaves; one transaction can write at most {MAX_LEAVES}")]
    TooManyLeaves {
        /// The backend.
        backend: BackendName,
        /// The number of leaves.
        leaves: usize,
    },
    /// Every weightd would reject the new document.
    #[error("weightd would reject the new document: {0}")]
    Invalid(Invalid),
}

impl EditError {
    /// Returns the fix, for hints. `prefix` is the prefix of the documents.
    pub fn hint(&self, prefix: &str) -> String {
        match self {
            Self::NoSuchBackend(backend) => {
                format!("check the name; to create `{backend}`, add --create")
            }
            Self::NoSuchServer { nearest: Some(nearest), .. } => {
                format!("did you mean `{nearest}`? To create a server, add --create")
            }
            Self::NoSuchServer { nearest: None, .. } => "check the name; to create a server, add --create".to_owned(),
            Self::AllZero(_) => "set a weight above 0 for one server, or add --force to stop all traffic".to_owned(),
            Self::Rejected { replaceable: true, .. } => {
                "to replace it with a new document, name all servers and add --create".to_owned()
            }
            Self::Split(backend) => format!(
                "to change the shares, use `weightctl shift` with the patterns that `weightctl get {backend}` shows; to replace \
                 the split with weights, name all servers and add --create"
            ),
            Self::Released(_) => "to manage it again, name all servers and add --create".to_owned(),
            Self::NoReason(backend) => format!(
                "remove --reason; or use a document, which stores a reason: delete the leaves with \
                 `consul kv delete -recurse {prefix}{backend}/` (HAProxy keeps its weights), then name all \
                 servers in `weightctl set {backend} --create …`"
            ),
            Self::TooManyLeaves { backend, .. } => format!(
                "use a document: delete the leaves with `consul kv delete -recurse {prefix}{backend}/` \
                 (HAProxy keeps its weights), then name all servers in `weightctl set {backend} --create …`"
            ),
            Self::Rejected { reason, .. } | Self::Invalid(reason) => reason.remedy().to_owned(),
        }
    }
}

/// Computes the edit that sets the weights in `requested`. A server that is not in `requested` keeps its weight.
pub fn set(
    backend: &BackendName,
    stored: Option<&Stored>,
    requested: &Weights,
    intent: &Intent,
) -> Result<Edit, EditError> {
    let current = Current::of(backend, stored, intent.create)?;
    if current.released && !intent.create {
        return Err(EditError::Released(backend.clone()));
    }
    if current.split.is_some() && !intent.create {
        return Err(EditError::Split(backend.clone()));
    }
    if !intent.create
        && let Some(server) = requested.keys().find(|server| !current.weights.contains_key(*server))
    {
        let known = current.weights.keys().map(ServerName::as_str);
        let nearest = nearest(server.as_str(), known).and_then(|name| current.weights.get_key_value(name));
        return Err(EditError::NoSuchServer {
            backend: backend.clone(),
            server: server.clone(),
            known: first_names(&current.weights),
            nearest: nearest.map(|(name, _)| name.clone()),
        });
    }
    let mut weights = current.weights.clone();
    weights.extend(requested.iter().map(|(server, weight)| (server.clone(), *weight)));
    let becomes_document = current.layout != Layout::Leaves || intent.force;
    if intent.reason.is_some() && !becomes_document {
        return Err(EditError::NoReason(backend.clone()));
    }
    if current.enforced && weights == current.weights && intent.force == current.force && current.has_reason(intent) {
        return Ok(Edit::nothing(stored, current));
    }
    if weights.values().all(|weight| weight.is_zero()) && !intent.force {
        return Err(EditError::AllZero(backend.clone()));
    }
    if !becomes_document {
        return leaves(backend, stored, current.leaves, weights, intent);
    }
    current.document(backend, stored, &Kind::Weights(weights), intent.force, intent)
}

/// Computes the edit that writes `split`. It replaces weights and leaves.
pub fn split(
    backend: &BackendName,
    stored: Option<&Stored>,
    split: &Split,
    intent: &Intent,
) -> Result<Edit, EditError> {
    let current = Current::of(backend, stored, intent.create)?;
    if current.released && !intent.create {
        return Err(EditError::Released(backend.clone()));
    }
    let same = current.split == Some(split) && intent.force == current.force;
    if same && current.has_reason(intent) {
        return Ok(Edit::nothing(stored, current));
    }
    current.document(backend, stored, &Kind::Split(split.clone()), intent.force, intent)
}

/// Lists the first 8 server names, and the number of the others.
fn first_names(weights: &Weights) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<_> = weights.keys().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if weights.len() > SHOWN {
        names.push(format!("{} more", weights.len() - SHOWN));
    }
    names.join(", ")
}

/// Computes the edit that releases the backend. HAProxy keeps its weights.
pub fn release(backend: &BackendName, stored: Option<&Stored>, intent: &Intent) -> Result<Edit, EditError> {
    let current = Current::of(backend, stored, intent.create)?;
    if current.released && current.has_reason(intent) {
        return Ok(Edit::nothing(stored, current));
    }
    current.document(backend, stored, &Kind::Release, false, intent)
}

/// The current state of a backend's keys, as the base of an edit.
struct Current<'s> {
    layout: Layout,
    /// Whether the keys have weights to enforce.
    enforced: bool,
    released: bool,
    weights: Weights,
    split: Option<&'s Split>,
    force: bool,
    index: u64,
    leaves: &'s BTreeMap<ServerName, Leaf>,
    unknown: &'s BTreeMap<String, Box<RawValue>>,
    view: View,
}

static NO_LEAVES: BTreeMap<ServerName, Leaf> = BTreeMap::new();
static NO_FIELDS: BTreeMap<String, Box<RawValue>> = BTreeMap::new();

impl<'s> Current<'s> {
    fn of(backend: &BackendName, stored: Option<&'s Stored>, create: bool) -> Result<Self, EditError> {
        let nothing = Self {
            layout: Layout::Document,
            enforced: false,
            released: false,
            weights: Weights::new(),
            split: None,
            force: false,
            index: 0,
            leaves: &NO_LEAVES,
            unknown: &NO_FIELDS,
            view: View::of_leaves(backend, Weights::new()),
        };
        let Some(stored) = stored else {
            return if create { Ok(nothing) } else { Err(EditError::NoSuchBackend(backend.clone())) };
        };
        let present = Self { layout: stored.layout, index: stored.index, view: View::of(stored), ..nothing };
        Ok(match &stored.content {
            Content::Rejected(rejected) => {
                let replaceable = replaceable(stored.layout, rejected);
                if !(create && replaceable) {
                    let Rejected { key, index: _, reason } = &**rejected;
                    return Err(EditError::Rejected { key: key.clone(), reason: reason.clone(), replaceable });
                }
                present
            }
            Content::Leaves(leaves) => {
                let weights = leaves.iter().map(|(server, leaf)| (server.clone(), leaf.weight)).collect();
                Self { enforced: true, weights, index: 0, leaves, ..present }
            }
            Content::Document(document) => {
                let present = Self { force: document.force, unknown: &document.unknown, ..present };
                match &document.kind {
                    Kind::Release => Self { released: true, ..present },
                    Kind::Weights(weights) => Self { enforced: true, weights: weights.clone(), ..present },
                    Kind::Split(split) => Self { split: Some(split), ..present },
                }
            }
        })
    }

    /// Whether the document already has the reason of the change. A change without a reason keeps the current one.
    fn has_reason(&self, intent: &Intent) -> bool {
        intent.reason.is_none() || intent.reason == self.view.reason
    }

    fn document(
        self,
        backend: &BackendName,
        stored: Option<&Stored>,
        kind: &Kind,
        force: bool,
        intent: &Intent,
    ) -> Result<Edit, EditError> {
        if self.leaves.len() > MAX_LEAVES {
            return Err(EditError::TooManyLeaves { backend: backend.clone(), leaves: self.leaves.len() });
        }
        let entry = intent.entry(To::from(kind), stored);
        let back = intent.back(&entry);
        let text = DocumentText { kind, force, intent, back: back.as_ref(), unknown: self.unknown };
        let malformed = |error: serde_json::Error| EditError::Invalid(Invalid::Malformed(error.to_string()));
        let value = serde_json::to_vec(&text).map_err(malformed)?;
        // weightd's own parser validates the text before the write.
        let document = Document::parse(&value).map_err(EditError::Invalid)?;
        let leaves = self.leaves.iter().map(|(server, leaf)| (server.clone(), leaf.index)).collect();
        Ok(Edit {
            before: stored.map(|_| self.view),
            after: View::of_document(backend, &document),
            write: Write::Document { value, index: self.index, leaves },
            entry: Some(entry),
        })
    }
}

impl Edit {
    /// See [`View::limit_shares_to`].
    #[must_use]
    pub fn limit_shares_to(mut self, active: &BTreeSet<ServerName>) -> Self {
        self.before.iter_mut().for_each(|view| view.limit_shares_to(active));
        self.after.limit_shares_to(active);
        self
    }

    fn nothing(stored: Option<&Stored>, current: Current<'_>) -> Self {
        Self { before: stored.map(|_| current.view.clone()), after: current.view, write: Write::Nothing, entry: None }
    }
}

/// Whether a new document may replace a rejected one. Not if a newer version may support it, and not if the problem is
/// in other keys.
fn replaceable(layout: Layout, rejected: &Rejected) -> bool {
    layout == Layout::Document && !matches!(rejected.reason, Invalid::Version(_) | Invalid::FolderValue)
}

fn leaves(
    backend: &BackendName,
    stored: Option<&Stored>,
    current: &BTreeMap<ServerName, Leaf>,
    weights: Weights,
    intent: &Intent,
) -> Result<Edit, EditError> {
    if weights.len() > MAX_LEAVES {
        return Err(EditError::TooManyLeaves { backend: backend.clone(), leaves: weights.len() });
    }
    let mut set = Vec::new();
    let mut keep = Vec::new();
    for (server, weight) in &weights {
        match current.get(server) {
            Some(leaf) if leaf.weight == *weight => keep.push((server.clone(), leaf.index)),
            leaf => set.push((server.clone(), weight.to_string(), leaf.map_or(0, |leaf| leaf.index))),
        }
    }
    let entry = Some(intent.entry(To::Weights(weights.clone()), stored));
    Ok(Edit {
        entry,
        before: stored.map(View::of),
        after: View::of_leaves(backend, weights),
        write: Write::Leaves { set, keep },
    })
}

/// The JSON text of a document, with the fields in an order for people.
struct DocumentText<'a> {
    kind: &'a Kind,
    force: bool,
    intent: &'a Intent,
    back: Option<&'a Back>,
    unknown: &'a BTreeMap<String, Box<RawValue>>,
}

impl Serialize for DocumentText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("v", &1)?;
        match self.kind {
            Kind::Weights(weights) => map.serialize_entry("weights", weights)?,
            Kind::Split(split) => map.serialize_entry("split", split)?,
            Kind::Release => map.serialize_entry("release", &true)?,
        }
        if self.force {
            map.serialize_entry("force", &true)?;
        }
        map.serialize_entry("by", &self.intent.by)?;
        if let Some(reason) = &self.intent.reason {
            map.serialize_entry("reason", reason)?;
        }
        map.serialize_entry("at", &self.intent.at)?;
        if let Some(back) = self.back {
            map.serialize_entry("back", back)?;
        }
        // A malformed `back` of another writer is replaced, not kept beside this one.
        for (field, value) in self.unknown.iter().filter(|(field, _)| *field != "back") {
            map.serialize_entry(field, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests;
