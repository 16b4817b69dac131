//! The history and the freezes of backends: reading many histories, marking a resting point, freezing.

use std::collections::BTreeMap;

use weightd_core::{
    fleet::{BadValue, Freeze, Keys},
    history::{Before, Entry, History},
    model::BackendName,
};

use super::{
    Documents, DocumentsError, MAX_BACKEND, Optional,
    context::{self, before},
    read_error,
    single::KeyWrite,
};
use crate::consul::client::ConsulError;

/// The result of a write of one small key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Marked {
    /// The read-back confirms it.
    Yes,
    /// There is nothing to mark.
    Nothing,
    /// Another writer was faster in each attempt.
    Conflict,
    /// It was written, and another writer replaced it since.
    Superseded,
    /// The key cannot be read, so that it is not overwritten: why.
    Unreadable(String),
}

/// Attempts of a write that clashes with another writer.
const ATTEMPTS: usize = 5;

impl Documents {
    /// Reads the entries of all backends that have a history, newest first. A history that cannot be read has its error.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn histories(&self) -> Result<BTreeMap<BackendName, Result<Vec<Entry>, String>>, DocumentsError> {
        let prefix = Keys(&self.root).histories();
        let everything = self.all().await?;
        let mut present: BTreeMap<BackendName, Before> =
            everything.backends.iter().map(|stored| (stored.backend.clone(), before(stored))).collect();
        let (mut histories, _) = self
            .read_prefix(&prefix, |entries| {
                let mut histories = BTreeMap::new();
                for entry in entries {
                    let Some(backend) = Keys::backend_of(&prefix, &entry.key) else { continue };
                    let document = present.remove(&backend);
                    let history =
                        History::parse(&entry.bytes()?, entry.modify_index).map_err(|error| error.to_string());
                    histories
                        .insert(backend, history.map(|history| history.with_document(document).entries().to_vec()));
                }
                Ok(histories)
            })
            .await?;
        // Documents that were only written past these tools.
        for (backend, document) in present {
            histories.insert(backend, Ok(History::default().with_document(Some(document)).entries().to_vec()));
        }
        Ok(histories)
    }

    /// Marks the newest entry of a backend's history as a resting point. Writes history only.
    ///
    /// # Errors
    /// [`DocumentsError`].
    pub async fn settle(&self, backend: &BackendName) -> Result<Marked, DocumentsError> {
        let key = Keys(&self.root).history(backend);
        for _ in 0..ATTEMPTS {
            let (history, index) = match context::history(&self.client, &self.root, backend).await? {
                Optional::Present(history, index) => (history, index),
                Optional::Absent => (History::default(), 0),
                Optional::Off(why) => {
                    self.is_readable(&key).await?;
                    return Ok(Marked::Unreadable(why));
                }
            };
            // After the history: a write of these tools between the two readings changes the history as well, and the write
            // below then fails. In the other order, the document would be an older one that the history knows already.
            let document = self.backend(backend).await?.as_ref().map(before);
            let Some(settled) = history.with_document(document).settle() else { return Ok(Marked::Nothing) };
            let hint = format!("`weightctl history {backend}` shows whether it is settled");
            match self.put_one(&key, settled.to_value(), index, &hint).await? {
                KeyWrite::Yes(_) => return Ok(Marked::Yes),
                KeyWrite::Superseded => return Ok(Marked::Superseded),
                KeyWrite::Conflict => {}
            }
        }
        Ok(Marked::Conflict)
    }

    /// Writes the freeze of a backend, or of all backends. Replaces a value that nobody can read, but none of a newer version.
    /// `seen` is the `ModifyIndex` of the freeze that the person saw, 0 for none: another one is not replaced. A key that says
    /// that nothing is frozen is no freeze, whatever its index. With `seen`, a freeze never replaces another freeze. Without it,
    /// the freeze is replaced whatever it is.
    ///
    /// # Errors
    /// [`DocumentsError`].
    pub async fn set_freeze(
        &self,
        backend: Option<&BackendName>,
        freeze: &Freeze,
        seen: Option<u64>,
    ) -> Result<Marked, DocumentsError> {
        let keys = Keys(&self.root);
        let key = backend.map_or_else(|| keys.freeze_all(), |backend| keys.freeze(backend));
        for _ in 0..ATTEMPTS {
            let (index, replaces) = match self.freeze_of(&key).await? {
                Some((Ok(present), _)) if present == *freeze => return Ok(Marked::Nothing),
                Some((Err(newer @ BadValue::Version(_)), _)) => return Ok(Marked::Unreadable(newer.to_string())),
                // The person who freezes saw that nothing was frozen.
                Some((Ok(present), _)) if seen.is_some() && freeze.frozen.is_some() && present.frozen.is_some() => {
                    return Ok(Marked::Conflict);
                }
                Some((Ok(present), index)) => (index, present.frozen.is_some()),
                Some((Err(_), index)) => (index, true),
                None if freeze.frozen.is_none() => return Ok(Marked::Nothing),
                None => (0, false),
            };
            if replaces && seen.is_some_and(|seen| seen != index) {
                return Ok(Marked::Conflict);
            }
            match self.put_one(&key, freeze.to_value(), index, "run the command again; that does no harm").await? {
                KeyWrite::Yes(_) => return Ok(Marked::Yes),
                KeyWrite::Superseded => return Ok(Marked::Superseded),
                KeyWrite::Conflict => {}
            }
        }
        Ok(Marked::Conflict)
    }

    /// The freeze at `key`, and its `ModifyIndex`; none if there is no key.
    async fn freeze_of(&self, key: &str) -> Result<Option<(Result<Freeze, BadValue>, u64)>, DocumentsError> {
        self.is_readable(key).await?;
        let read = async {
            let listing = self.client.get_at_most(key, MAX_BACKEND).await?;
            let entries = listing.entries()?;
            let Some(entry) = entries.first() else { return Ok(None) };
            let value = entry.bytes().map_err(ConsulError::BadResponse)?;
            Ok(Some((Freeze::parse(&value), entry.modify_index)))
        };
        read.await.map_err(|source| read_error(key, source))
    }

    /// Fails if the token may not read a key that it has to write.
    async fn is_readable(&self, key: &str) -> Result<(), DocumentsError> {
        let rule = || format!("key \"{key}\" {{ policy = \"write\" }}");
        let not_written = |source| DocumentsError::Write { key: key.to_owned(), rule: rule(), source };
        self.client.may_read(key).await.map_err(not_written)
    }

    /// The history of one backend, newest first, with the document as its first entry.
    ///
    /// # Errors
    /// [`DocumentsError::Read`], also for a history that cannot be read.
    pub async fn history(&self, backend: &BackendName) -> Result<Result<Vec<Entry>, String>, DocumentsError> {
        let context = self.context(backend).await?;
        if let Optional::Off(why) = &context.history {
            let key = Keys(&self.root).history(backend);
            // A denial has an exit code of its own.
            self.client.may_read(&key).await.map_err(|source| read_error(&key, source))?;
            return Ok(Err(why.clone()));
        }
        Ok(Ok(context.entries()))
    }
}
