//! Writes of one small key: a freeze, a mark in a history, the entry of a node. Each is read back before it counts as
//! written.

use super::{Documents, DocumentsError, MAX_BACKEND, may_have_happened};
use crate::consul::client::{ConsulError, Operation};

/// The result of a conditional write of one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyWrite {
    /// The read-back confirms it: the `ModifyIndex` of the key; 0 if it is gone.
    Yes(u64),
    /// Nothing was written, because another writer changed the key first.
    Conflict,
    /// Consul confirmed the write, but the read-back is different: another writer changed the key since.
    Superseded,
}

/// What the key has after the write.
enum After<'a> {
    Value(&'a [u8]),
    Nothing,
}

impl Documents {
    /// Writes `key` if its `ModifyIndex` still is `index`, and reads it back; 0 means that the key must not exist. `hint`
    /// says how to find out what the key has.
    ///
    /// # Errors
    /// [`DocumentsError::Write`] if nothing was written, [`DocumentsError::UnknownResult`] if the result is unknown.
    pub(super) async fn put_one(
        &self,
        key: &str,
        value: Vec<u8>,
        index: u64,
        hint: &str,
    ) -> Result<KeyWrite, DocumentsError> {
        let answer = self.client.put(key, value.clone(), index).await;
        self.confirm_one(key, After::Value(&value), answer, hint).await
    }

    /// Deletes `key` if its `ModifyIndex` still is `index`, and reads it back. `hint` says how to find out whether it is
    /// gone.
    ///
    /// # Errors
    /// As [`Self::put_one`].
    pub(super) async fn delete_one(&self, key: &str, index: u64, hint: &str) -> Result<KeyWrite, DocumentsError> {
        let delete = Operation::DeleteCas { key: key.to_owned(), index };
        let answer = self.client.all_or_none(&[delete]).await.map(|done| done.is_some());
        self.confirm_one(key, After::Nothing, answer, hint).await
    }

    async fn confirm_one(
        &self,
        key: &str,
        after: After<'_>,
        answer: Result<bool, ConsulError>,
        hint: &str,
    ) -> Result<KeyWrite, DocumentsError> {
        let unknown = |source| DocumentsError::UnknownResult { key: key.to_owned(), hint: hint.to_owned(), source };
        match answer {
            Ok(false) => Ok(KeyWrite::Conflict),
            Ok(true) => match self.has_one(key, &after).await {
                Ok(Some(index)) => Ok(KeyWrite::Yes(index)),
                Ok(None) => Ok(KeyWrite::Superseded),
                Err(error) => Err(unknown(error)),
            },
            // Only a read shows whether Consul did the write.
            Err(error) if may_have_happened(&error) => match self.has_one(key, &after).await {
                Ok(Some(index)) => Ok(KeyWrite::Yes(index)),
                Ok(None) | Err(_) => Err(unknown(error)),
            },
            Err(source) => {
                let rule = format!("key \"{key}\" {{ policy = \"write\" }}");
                Err(DocumentsError::Write { key: key.to_owned(), rule, source })
            }
        }
    }

    /// The `ModifyIndex` of `key` if it is as it should be; 0 if it should be gone and is.
    async fn has_one(&self, key: &str, after: &After<'_>) -> Result<Option<u64>, ConsulError> {
        match after {
            After::Value(value) => self.index_of(key, value).await,
            After::Nothing => {
                let listing = self.client.get_at_most(key, MAX_BACKEND).await?;
                Ok(listing.entries()?.is_empty().then_some(0))
            }
        }
    }

    /// The `ModifyIndex` of `key` if it has this value; none if it has another one or none.
    pub(super) async fn index_of(&self, key: &str, value: &[u8]) -> Result<Option<u64>, ConsulError> {
        let listing = self.client.get_at_most(key, MAX_BACKEND).await?;
        let entries = listing.entries()?;
        let Some(entry) = entries.first() else { return Ok(None) };
        let found = entry.bytes().map_err(ConsulError::BadResponse)?;
        Ok((found == value).then_some(entry.modify_index))
    }
}
