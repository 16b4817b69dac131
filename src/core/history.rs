//! Who changed a backend, when, why and to what: the value of `history/<backend>`.
//!
//! Owns the form of the value and how it grows. History never decides about a write of a document: where it cannot be
//! read, [`BadHistory`] says why and the write goes on without it. An entry holds only what the change went *to*. The
//! index of the newest entry is the `ModifyIndex` of the history key itself, since document and history are written in one
//! transaction; the next writer stamps it.

mod entry;
mod trim;

pub use entry::{Entry, To, Token, Way};
use serde::{Deserialize, Serialize};

use crate::{
    desired::{Document, Weights},
    model::{Escaped, Timestamp},
};

/// The entries of one backend, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct History {
    entries: Vec<Entry>,
}

/// Why a history cannot be read. It never blocks a write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHistory {
    /// More bytes than [`History::MAX_BYTES`].
    #[error("the history has {0} bytes, more than {max}", max = History::MAX_BYTES)]
    TooLarge(usize),
    /// A version that this program cannot read.
    #[error("the history has version {0}, this program reads version 1")]
    Version(u64),
    /// Not JSON, or not the shape of a history.
    #[error("the history is malformed: {}", Escaped(.0))]
    Malformed(String),
}

/// The document that a writer read before it writes: what the newest entry is compared with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// Its `ModifyIndex`; of leaves the greatest.
    pub index: u64,
    /// What it says.
    pub to: To,
    /// Who wrote it, as it says.
    pub by: Option<String>,
    /// When, as it says.
    pub at: Option<Timestamp>,
    /// Why, as it says.
    pub why: Option<String>,
}

impl Before {
    /// A valid document with its `ModifyIndex`.
    pub fn of(document: &Document, index: u64) -> Self {
        Self {
            index,
            to: To::from(&document.kind),
            by: document.by.clone(),
            at: document.at.as_deref().and_then(|at| at.parse().ok()),
            why: document.reason.clone(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Wire<E> {
    v: u64,
    entries: E,
}

impl History {
    /// The most entries that are kept.
    pub const MAX_ENTRIES: usize = 50;
    /// The most bytes of the value.
    pub const MAX_BYTES: usize = 16 * 1024;

    /// Reads the value of a history key. `modify_index` is the key's own, and stamps the newest entry.
    ///
    /// # Errors
    /// [`BadHistory`] says why it cannot be read.
    pub fn parse(value: &[u8], modify_index: u64) -> Result<Self, BadHistory> {
        #[derive(Deserialize)]
        struct Version {
            v: u64,
        }

        if value.len() > Self::MAX_BYTES {
            return Err(BadHistory::TooLarge(value.len()));
        }
        let malformed = |error: serde_json::Error| BadHistory::Malformed(error.to_string());
        // The version comes first: a later one may change what everything else means.
        match serde_json::from_slice::<Version>(value).map_err(malformed)?.v {
            1 => {}
            other => return Err(BadHistory::Version(other)),
        }
        let Wire { v: _, mut entries } = serde_json::from_slice::<Wire<Vec<Entry>>>(value).map_err(malformed)?;
        if let Some(newest) = entries.first_mut() {
            newest.index.get_or_insert(modify_index);
        }
        Ok(Self { entries })
    }

    /// The history of a backend that had no document: entry 0 holds the weights that all nodes observe, or those that the
    /// operator names.
    pub fn first(observed: Weights, at: Option<Timestamp>, by: Option<String>) -> Self {
        let entry = Entry { index: Some(0), at, by, ..Entry::new(Way::Observed, To::Weights(observed)) };
        Self { entries: vec![entry] }
    }

    /// The entries, newest first.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// The history as it is known together with the document: a document that is newer than the newest entry was written
    /// past these tools, and becomes an entry marked as [`Way::Direct`]. The same for a document that is gone.
    #[must_use]
    pub fn with_document(mut self, document: Option<Before>) -> Self {
        let newest = self.entries.first();
        let past = match (document, newest) {
            (None, None) => None,
            // Entry 0 comes before the first document.
            (None, Some(newest)) if newest.way == Way::Observed || newest.to == To::Gone => None,
            (None, Some(_)) => Some(Entry::new(Way::Direct, To::Gone)),
            (Some(document), newest) => {
                let known = newest.is_some_and(|newest| {
                    newest.index.is_some_and(|index| document.index == index)
                        // An older document is one that a restored snapshot brought back, if it says something else.
                        || newest.index.is_some_and(|index| document.index < index) && newest.to == document.to
                });
                let Before { index, to, by, at, why } = document;
                (!known).then(|| Entry { index: Some(index), at, by, why, ..Entry::new(Way::Direct, to) })
            }
        };
        self.entries.splice(0..0, past);
        self
    }

    /// The history after one more write: `before` is the document that is replaced, `entry` what is written. The result is
    /// within [`History::MAX_ENTRIES`] and [`History::MAX_BYTES`].
    #[must_use]
    pub fn append(self, before: Option<Before>, entry: Entry) -> Self {
        let mut history = self.with_document(before);
        history.entries.insert(0, Entry { index: None, anchor: false, ..entry });
        trim::trim(&mut history.entries);
        history
    }

    /// Marks the newest entry as a resting point, which a rollback does not go behind. The entry keeps its index, since the
    /// key's own then belongs to this mark. None if there is no entry.
    #[must_use]
    pub fn settle(mut self) -> Option<Self> {
        self.entries.first_mut()?.settled = true;
        trim::trim(&mut self.entries);
        Some(self)
    }

    /// Marks the newest entry as the end of a rollout, which a rollback does not go behind. None if the newest write is not
    /// that of a rollout, or is marked already.
    #[must_use]
    pub fn end_rollout(mut self) -> Option<Self> {
        let newest = self.entries.first_mut().filter(|newest| newest.way == Way::Rollout && !newest.ended)?;
        newest.ended = true;
        trim::trim(&mut self.entries);
        Some(self)
    }

    /// The value of the key.
    pub fn to_value(&self) -> Vec<u8> {
        value_of(&self.entries)
    }
}

/// The value that these entries make.
fn value_of(entries: &[Entry]) -> Vec<u8> {
    // Strings, numbers and maps with text keys: there is nothing that JSON could not hold.
    serde_json::to_vec(&Wire { v: 1, entries }).unwrap_or_default()
}

#[cfg(test)]
mod tests;
