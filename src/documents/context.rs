//! What belongs to a backend beside its document: its history, the freezes, and the writer's token.
//!
//! All of it is optional: a part that is denied or cannot be read never blocks a write. The write then goes without it and
//! reports that. A Consul that does not answer is another matter: nothing is known of that part, so it is an error.

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use weightd_core::{
    desired::Weights,
    fleet::{Freeze, Frozen, Keys},
    history::{Before, Entry, History, To, Token},
    model::{BackendName, Root, Timestamp},
};

use super::{
    Documents, DocumentsError,
    edit::Intent,
    read_error,
    stored::{Content, Stored},
};
use crate::{
    base::chain::Chain,
    consul::{Client, ConsulError, rights::Identity},
};

/// Maximum size of the answer for one key in bytes. A value has at most 16 KiB, and base64 adds a third.
const MAX_ANSWER: usize = 64 * 1024;

/// One backend with all that belongs to it.
#[derive(Debug)]
pub struct Context {
    /// The document or the leaves; none if there is no key.
    pub stored: Option<Stored>,
    /// The history.
    pub history: Optional<History>,
    /// The freeze of all backends.
    pub freeze_all: Optional<Freeze>,
    /// The freeze of this backend.
    pub freeze: Optional<Freeze>,
    /// The writer's token, where ACLs are on.
    pub token: Option<Token>,
    /// Consul's time at the reading; none if its answers had none.
    pub time: Option<Timestamp>,
    /// What the backend had before its first document, as its first write records it: see [`Context::with_first`].
    pub(super) first: Option<Box<History>>,
}

/// A key that may be missing, or that the token may not read.
#[derive(Debug, Clone)]
pub enum Optional<T> {
    /// The key and its `ModifyIndex`.
    Present(T, u64),
    /// There is no such key.
    Absent,
    /// It cannot be used: why.
    Off(String),
}

/// A freeze that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InForce {
    /// The backend; none for the freeze of all backends.
    pub backend: Option<BackendName>,
    /// Who froze it, and why.
    pub frozen: Frozen,
}

impl From<Option<Stored>> for Context {
    /// A backend without history, freezes and token.
    fn from(stored: Option<Stored>) -> Self {
        let (freeze_all, freeze) = (Optional::Absent, Optional::Absent);
        Self { stored, history: Optional::Absent, freeze_all, freeze, token: None, time: None, first: None }
    }
}

impl Context {
    /// The entries of the history, newest first. The first one is the current state of the backend, also after a write past
    /// these tools. Empty if the history cannot be read.
    pub fn entries(&self) -> Vec<Entry> {
        let Ok((history, _)) = self.history() else { return Vec::new() };
        history.with_document(self.before()).entries().to_vec()
    }

    /// The history that the next write continues, with its `ModifyIndex`, 0 if there is no key; or why it cannot be used.
    pub(super) fn history(&self) -> Result<(History, u64), &str> {
        match &self.history {
            Optional::Present(history, index) => Ok((history.clone(), *index)),
            Optional::Absent => Ok((self.first.as_deref().cloned().unwrap_or_default(), 0)),
            Optional::Off(why) => Err(why),
        }
    }

    /// Whether the backend has neither a document nor a history, so that the next write is its first one.
    pub fn is_new(&self) -> bool {
        self.stored.is_none() && matches!(self.history, Optional::Absent)
    }

    /// The same with the weights from before the first document, which then are the oldest entry of the history. `by` is who
    /// names them; none if the nodes observe them. Of no effect unless the backend [is new](Self::is_new).
    #[must_use]
    pub fn with_first(self, weights: Weights, by: Option<String>) -> Self {
        let first = self.is_new().then(|| Box::new(History::first(weights, self.time, by)));
        Self { first, ..self }
    }

    /// The same backend, read `again`: what was before the first document does not change.
    pub(super) fn again(&self, again: Self) -> Self {
        Self { first: self.first.clone(), ..again }
    }

    /// The document as the newest entry of the history is compared with.
    pub fn before(&self) -> Option<Before> {
        self.stored.as_ref().map(before)
    }

    /// `intent` for this backend: with its history, the writer's token, and Consul's time. A rollback compares the times of
    /// the entries, and writers with clocks of their own may differ by days.
    pub fn intent(&self, intent: Intent) -> Intent {
        let at = self.time.map_or_else(|| intent.at.clone(), |time| time.to_string());
        Intent { history: self.entries(), token: self.token.clone(), at, ..intent }
    }

    /// The freeze that stops a write; none if there is none.
    pub fn frozen(&self, backend: &BackendName) -> Option<InForce> {
        let of = |freeze: &Optional<Freeze>, backend: Option<&BackendName>| match freeze {
            Optional::Present(Freeze { frozen: Some(frozen) }, _) => {
                Some(InForce { backend: backend.cloned(), frozen: frozen.clone() })
            }
            _ => None,
        };
        of(&self.freeze_all, None).or_else(|| of(&self.freeze, Some(backend)))
    }
}

/// Backends that are read at the same time. Each takes five requests, and an agent allows 200 connections of one host.
const PARALLEL: usize = 8;

impl Documents {
    /// Reads several backends, each as [`Documents::context`] does. The results are in the order of `backends`.
    ///
    /// # Errors
    /// As [`Documents::context`].
    pub async fn contexts(&self, backends: &[BackendName]) -> Result<Vec<Context>, DocumentsError> {
        let reads = backends.iter().map(|backend| self.context(backend));
        stream::iter(reads).buffered(PARALLEL).try_collect().await
    }
}

/// The state of a backend's keys before a write.
pub fn before(stored: &Stored) -> Before {
    let without_document = |to| Before { index: stored.index, to, by: None, at: None, why: None };
    match &stored.content {
        Content::Document(document) => Before::of(document, stored.index),
        Content::Leaves(leaves) => {
            let weights = leaves.iter().map(|(server, leaf)| (server.clone(), leaf.weight)).collect();
            without_document(To::Weights(weights))
        }
        Content::Rejected(rejected) => {
            without_document(To::Unreadable(serde_json::Value::String(rejected.reason.to_string())))
        }
    }
}

/// Reads the history of a backend.
pub(super) async fn history(
    client: &Client,
    root: &Root,
    backend: &BackendName,
) -> Result<Optional<History>, DocumentsError> {
    optional(client, &Keys(root).history(backend), |value, index| {
        History::parse(value, index).map_err(|error| error.to_string())
    })
    .await
}

/// Reads a freeze; that of all backends without `backend`.
pub(super) async fn freeze(
    client: &Client,
    root: &Root,
    backend: Option<&BackendName>,
) -> Result<Optional<Freeze>, DocumentsError> {
    let keys = Keys(root);
    let key = backend.map_or_else(|| keys.freeze_all(), |backend| keys.freeze(backend));
    optional(client, &key, |value, _| Freeze::parse(value).map_err(|error| error.to_string())).await
}

/// The accessor and the description of the client's token; none without ACLs.
pub(super) async fn token(client: &Client) -> Option<Token> {
    if !client.has_token() {
        return None;
    }
    match client.identity().await {
        Ok(Identity::Known { accessor, description, .. }) => Some(Token { accessor, description }),
        Ok(Identity::NoAcls | Identity::Unknown) | Err(_) => None,
    }
}

async fn optional<T>(
    client: &Client,
    key: &str,
    parse: impl FnOnce(&[u8], u64) -> Result<T, String>,
) -> Result<Optional<T>, DocumentsError> {
    let listing = match client.get_at_most(key, MAX_ANSWER).await {
        Ok(listing) => listing,
        Err(ConsulError::Denied(_)) => {
            let why = format!("the token may not read it: `key \"{key}\" {{ policy = \"write\" }}`");
            return Ok(Optional::Off(why));
        }
        Err(error) if is_of_the_answer(&error) => return Ok(Optional::Off(Chain(&error).to_string())),
        Err(error) => return Err(read_error(key, error)),
    };
    let read = || {
        let entries = listing.entries().map_err(|error| error.to_string())?;
        let Some(entry) = entries.first() else { return Ok(Optional::Absent) };
        let bytes = entry.bytes().map_err(|error| error.to_string())?;
        Ok(Optional::Present(parse(&bytes, entry.modify_index)?, entry.modify_index))
    };
    Ok(read().unwrap_or_else(Optional::Off))
}

/// Whether there is an answer, but not a usable one. Without any answer, a freeze could be in force.
fn is_of_the_answer(error: &ConsulError) -> bool {
    matches!(
        error,
        ConsulError::TooLarge(_)
            | ConsulError::Json(_)
            | ConsulError::BadResponse(_)
            | ConsulError::Encoded(_)
            | ConsulError::NoIndex
            | ConsulError::Status(..)
    )
}

#[cfg(test)]
mod tests;
