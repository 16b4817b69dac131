//! What a command makes of a backend's keys. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::value::RawValue;
use weightd_core::{
    desired::{Document, Invalid, Kind, Rejected, Weights},
    model::{BackendName, Escaped, ServerName, nearest},
};

use super::{
    stored::{Content, Layout, Leaf, Stored},
    view::View,
};

/// The most leaves that one transaction changes.
pub const MAX_LEAVES: usize = 48;

/// Who changes something, why and when; what they are sure of.
#[derive(Debug, Clone, Default)]
pub struct Intent {
    /// Who.
    pub by: String,
    /// Why.
    pub reason: Option<String>,
    /// When, for people.
    pub at: String,
    /// Whether the document may pass the guards.
    pub force: bool,
    /// Whether something may come into being: a backend, a server.
    pub create: bool,
}

/// What a command makes of a backend's keys.
#[derive(Debug)]
pub struct Edit {
    /// What they say.
    pub before: Option<View>,
    /// What they will say.
    pub after: View,
    /// What has to be written for that.
    pub write: Write,
}

/// What has to be written, under which conditions.
#[derive(Debug, PartialEq, Eq)]
pub enum Write {
    /// Nothing: it is there already.
    Nothing,
    /// The document, in place of the leaves if there are any.
    Document {
        /// Its text.
        value: Vec<u8>,
        /// `ModifyIndex` it must have; 0 means that it must not exist.
        index: u64,
        /// The leaves to delete, with the `ModifyIndex` they must have.
        leaves: Vec<(ServerName, u64)>,
    },
    /// Leaves, all in one transaction, while there is no document.
    Leaves {
        /// The leaves to set, with the `ModifyIndex` they must have; 0 means that they must not exist.
        set: Vec<(ServerName, String, u64)>,
        /// The leaves that must not have changed.
        keep: Vec<(ServerName, u64)>,
    },
}

/// Why a change is not made.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// There is no key for the backend.
    #[error("backend `{0}` has no key in Consul")]
    NoSuchBackend(BackendName),
    /// The document or the leaves do not have the server.
    #[error("backend `{backend}` has no server `{server}` in Consul; it has {known}")]
    NoSuchServer {
        /// The backend.
        backend: BackendName,
        /// The server that was named.
        server: ServerName,
        /// The first few servers that there are.
        known: String,
        /// The one that was probably meant.
        nearest: Option<ServerName>,
    },
    /// No server would get traffic.
    #[error("every server of `{0}` would weigh 0: nobody would answer")]
    AllZero(BackendName),
    /// What is there is refused by every weightd, so nobody can say what a change of it would mean.
    #[error("{key} is rejected: {reason}", key = Escaped(key))]
    Rejected {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: Invalid,
        /// Whether a new document may be written in its place.
        replaceable: bool,
    },
    /// The backend was released.
    #[error("backend `{0}` is released: weightd does not manage it")]
    Released(BackendName),
    /// Leaves are plain numbers.
    #[error("backend `{0}` has leaves, which cannot hold a reason")]
    NoReason(BackendName),
    /// More leaves than are written together.
    #[error("backend `{backend}` has {leaves} leaves, and at most {MAX_LEAVES} are written together")]
    TooManyLeaves {
        /// The backend.
        backend: BackendName,
        /// How many it has.
        leaves: usize,
    },
    /// The outcome would be refused by every weightd.
    #[error("the outcome would be rejected: {0}")]
    Invalid(Invalid),
}

impl EditError {
    /// What to do about it. `prefix` is where documents lie.
    pub fn hint(&self, prefix: &str) -> String {
        match self {
            Self::NoSuchBackend(backend) => {
                format!("add --create if `{backend}` is right")
            }
            Self::NoSuchServer { nearest: Some(nearest), .. } => {
                format!("did you mean `{nearest}`? To add a server, add --create")
            }
            Self::NoSuchServer { nearest: None, .. } => "add --create to add a server".to_owned(),
            Self::AllZero(_) => "leave one server above 0, or add --force if nobody is to answer".to_owned(),
            Self::Rejected { replaceable: true, .. } => {
                "name every server and add --create to write a new document in its place".to_owned()
            }
            Self::Released(_) => "name every server and add --create to manage it again".to_owned(),
            Self::NoReason(backend) => format!(
                "leave out --reason; or use a document, which holds one: delete the leaves with \
                 `consul kv delete -recurse {prefix}{backend}/` (HAProxy keeps its weights meanwhile), then name every \
                 server in `weightctl set {backend} --create …`"
            ),
            Self::TooManyLeaves { backend, .. } => format!(
                "use a document: delete the leaves with `consul kv delete -recurse {prefix}{backend}/` \
                 (HAProxy keeps its weights meanwhile), then name every server in `weightctl set {backend} --create …`"
            ),
            Self::Rejected { reason, .. } | Self::Invalid(reason) => reason.remedy().to_owned(),
        }
    }
}

/// Sets the weights in `asked`; a server that is not named there keeps its own.
pub fn set(
    backend: &BackendName,
    stored: Option<&Stored>,
    asked: &Weights,
    intent: &Intent,
) -> Result<Edit, EditError> {
    let current = Current::of(backend, stored, intent.create)?;
    if current.released && !intent.create {
        return Err(EditError::Released(backend.clone()));
    }
    if !intent.create
        && let Some(server) = asked.keys().find(|server| !current.weights.contains_key(*server))
    {
        let known = current.weights.keys().map(ServerName::as_str);
        let nearest = nearest(server.as_str(), known).and_then(|name| current.weights.get_key_value(name));
        return Err(EditError::NoSuchServer {
            backend: backend.clone(),
            server: server.clone(),
            known: some(&current.weights),
            nearest: nearest.map(|(name, _)| name.clone()),
        });
    }
    let mut weights = current.weights.clone();
    weights.extend(asked.iter().map(|(server, weight)| (server.clone(), *weight)));
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
        return leaves(backend, stored, current.leaves, weights);
    }
    current.document(backend, stored, &Kind::Weights(weights), intent.force, intent)
}

/// The names of the servers, the first few of them.
fn some(weights: &Weights) -> String {
    const SHOWN: usize = 8;
    let mut names: Vec<_> = weights.keys().take(SHOWN).map(|name| format!("`{name}`")).collect();
    if weights.len() > SHOWN {
        names.push(format!("{} more", weights.len() - SHOWN));
    }
    names.join(", ")
}

/// Stops managing the backend; HAProxy keeps what it has.
pub fn release(backend: &BackendName, stored: Option<&Stored>, intent: &Intent) -> Result<Edit, EditError> {
    let current = Current::of(backend, stored, intent.create)?;
    if current.released && current.has_reason(intent) {
        return Ok(Edit::nothing(stored, current));
    }
    current.document(backend, stored, &Kind::Release, false, intent)
}

/// What there is to start from.
struct Current<'s> {
    layout: Layout,
    /// Whether the keys say which weights to enforce.
    enforced: bool,
    released: bool,
    weights: Weights,
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
            force: false,
            index: 0,
            leaves: &NO_LEAVES,
            unknown: &NO_FIELDS,
            view: View::of_leaves(backend, Weights::new()),
        };
        let Some(stored) = stored else {
            return if create { Ok(nothing) } else { Err(EditError::NoSuchBackend(backend.clone())) };
        };
        let there = Self { layout: stored.layout, index: stored.index, view: View::of(stored), ..nothing };
        Ok(match &stored.content {
            Content::Rejected(rejected) => {
                let replaceable = replaceable(stored.layout, rejected);
                if !(create && replaceable) {
                    let Rejected { key, index: _, reason } = &**rejected;
                    return Err(EditError::Rejected { key: key.clone(), reason: reason.clone(), replaceable });
                }
                there
            }
            Content::Leaves(leaves) => {
                let weights = leaves.iter().map(|(server, leaf)| (server.clone(), leaf.weight)).collect();
                Self { enforced: true, weights, index: 0, leaves, ..there }
            }
            Content::Document(document) => {
                let there = Self { force: document.force, unknown: &document.unknown, ..there };
                match &document.kind {
                    Kind::Release => Self { released: true, ..there },
                    Kind::Weights(weights) => Self { enforced: true, weights: weights.clone(), ..there },
                }
            }
        })
    }

    /// Whether the reason of the change is already there. A change without one keeps what is there.
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
        let text = DocumentText { kind, force, intent, unknown: self.unknown };
        let malformed = |error: serde_json::Error| EditError::Invalid(Invalid::Malformed(error.to_string()));
        let value = serde_json::to_vec(&text).map_err(malformed)?;
        // What is written is what every weightd reads, or it is not written.
        let document = Document::parse(&value).map_err(EditError::Invalid)?;
        let leaves = self.leaves.iter().map(|(server, leaf)| (server.clone(), leaf.index)).collect();
        Ok(Edit {
            before: stored.map(|_| self.view),
            after: View::of_document(backend, &document),
            write: Write::Document { value, index: self.index, leaves },
        })
    }
}

impl Edit {
    /// See [`View::served_by`].
    #[must_use]
    pub fn served_by(mut self, active: &BTreeSet<ServerName>) -> Self {
        self.before.iter_mut().for_each(|view| view.served_by(active));
        self.after.served_by(active);
        self
    }

    fn nothing(stored: Option<&Stored>, current: Current<'_>) -> Self {
        Self { before: stored.map(|_| current.view.clone()), after: current.view, write: Write::Nothing }
    }
}

/// Whether a document may be written in place of one that is refused: not if a later version may understand
/// it, and not if other keys are what is wrong.
fn replaceable(layout: Layout, rejected: &Rejected) -> bool {
    layout == Layout::Document
        && !matches!(rejected.reason, Invalid::Version(_) | Invalid::SplitUnsupported | Invalid::FolderValue)
}

fn leaves(
    backend: &BackendName,
    stored: Option<&Stored>,
    current: &BTreeMap<ServerName, Leaf>,
    weights: Weights,
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
    Ok(Edit {
        before: stored.map(View::of),
        after: View::of_leaves(backend, weights),
        write: Write::Leaves { set, keep },
    })
}

/// The text of a document, its fields in the order in which people read them.
struct DocumentText<'a> {
    kind: &'a Kind,
    force: bool,
    intent: &'a Intent,
    unknown: &'a BTreeMap<String, Box<RawValue>>,
}

impl Serialize for DocumentText<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("v", &1)?;
        match self.kind {
            Kind::Weights(weights) => map.serialize_entry("weights", weights)?,
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
        for (field, value) in self.unknown {
            map.serialize_entry(field, value)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests;
