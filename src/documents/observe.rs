//! An observation of one backend: the nodes report on it in `counters/<node>` while its key is renewed.
//!
//! The key is deleted at the end, also after an error and after Ctrl-C: [`Documents::leave`] waits for that. A node forgets a
//! key that nobody renews, so an observer that was killed leaves a key behind and no cost.

use std::{
    collections::{BTreeMap, hash_map::RandomState},
    hash::{BuildHasher as _, Hasher as _},
    time::Duration,
};

use tokio::time::{Instant, timeout};
use weightd_core::{
    fleet::{CountersRead, Keys, NodeName, Observation, View, counters::Counters},
    model::BackendName,
};

use super::{Documents, DocumentsError, read_error};
use crate::consul::client::ConsulError;

/// Between two writes of the key.
const RENEW: Duration = Duration::from_secs(Observation::RENEW_SECONDS);
/// The time that the deletion of the keys may take at the end.
const LEAVE: Duration = Duration::from_secs(2);
/// Maximum size of the answer for one observation in bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// An observation. The nodes stop to report after [`Observer::end`], or when this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Observer {
    documents: Documents,
    backend: BackendName,
    key: String,
    value: Observation,
    /// The `ModifyIndex` of the key after its first write: a node answers with a greater one.
    index: u64,
    renewed: Instant,
    /// Whether the key may exist.
    written: bool,
    slow: Option<DocumentsError>,
}

/// The most characters of the name of an observer.
const MAX_BY: usize = 200;

impl Observer {
    /// Starts to observe `backend`. `by` is who observes, for people.
    ///
    /// # Errors
    /// [`DocumentsError::Write`] with the rule that the token needs; [`DocumentsError::Read`] where the key cannot be read back.
    pub async fn start(
        documents: &Documents,
        backend: &BackendName,
        view: View,
        by: Option<String>,
    ) -> Result<Self, DocumentsError> {
        let id = format!("{:016x}", RandomState::new().build_hasher().finish());
        let mut observer = Self {
            key: documents.keys().observe(backend, &id),
            documents: documents.clone(),
            backend: backend.clone(),
            // A name that is too long would make the whole value unreadable for the nodes.
            value: Observation { view, seq: 0, by: by.map(|by| by.chars().take(MAX_BY).collect()) },
            index: 0,
            renewed: Instant::now(),
            written: false,
            slow: None,
        };
        let (marked, written) = tokio::join!(mark(documents), observer.write());
        written?;
        observer.slow = marked.err();
        observer.index = observer.read_index().await?;
        Ok(observer)
    }

    /// The backend.
    pub const fn backend(&self) -> &BackendName {
        &self.backend
    }

    /// The `ModifyIndex` of the observation: see [`CountersRead::heard`].
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// Why the nodes notice this observation only after up to 5 s: the key that they block on is missing, and could not be
    /// written. Given once.
    pub const fn take_slow(&mut self) -> Option<DocumentsError> {
        self.slow.take()
    }

    /// Reads `counters/`, and renews the observation when it is time.
    ///
    /// # Errors
    /// [`DocumentsError`] of the read, or of the renewal.
    pub async fn read(&mut self) -> Result<BTreeMap<NodeName, CountersRead>, DocumentsError> {
        self.renew().await?;
        self.documents.counters().await
    }

    /// Renews the observation when it is time.
    ///
    /// # Errors
    /// [`DocumentsError::Write`].
    pub async fn renew(&mut self) -> Result<(), DocumentsError> {
        if self.renewed.elapsed() >= RENEW {
            self.value.seq += 1;
            self.write().await?;
        }
        Ok(())
    }

    /// Ends it: deletes the key. Errors are ignored, because the nodes forget the key in any case.
    pub async fn end(mut self) {
        self.written = false;
        // A task of its own: it goes on if this future is dropped.
        let _ = self.documents.tasks.spawn(delete(self.documents.clone(), self.key.clone())).await;
    }

    async fn write(&mut self) -> Result<(), DocumentsError> {
        // Before the request: Consul may have done a write whose answer is lost.
        self.written = true;
        match self.documents.client.set(&self.key, self.value.to_value()).await {
            Ok(()) => {
                self.renewed = Instant::now();
                Ok(())
            }
            Err(source) => {
                self.written = !matches!(source, ConsulError::Denied(_));
                Err(self.write_error(source))
            }
        }
    }

    async fn read_index(&self) -> Result<u64, DocumentsError> {
        let read = async {
            let listing = self.documents.client.get_at_most(&self.key, MAX_ANSWER).await?;
            // Without the key, another program deleted it: no answer to it can come.
            Ok(listing.entries()?.first().map_or(u64::MAX, |entry| entry.modify_index))
        };
        read.await.map_err(|source| read_error(&self.key, source))
    }

    fn write_error(&self, source: ConsulError) -> DocumentsError {
        let prefix = self.documents.keys().observe(&self.backend, "");
        DocumentsError::Write {
            key: self.key.clone(),
            rule: format!(r#"key_prefix "{prefix}" {{ policy = "write" }}"#),
            source,
        }
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        if self.written && tokio::runtime::Handle::try_current().is_ok() {
            self.documents.tasks.spawn(delete(self.documents.clone(), self.key.clone()));
        }
    }
}

async fn delete(documents: Documents, key: String) {
    // Nothing depends on it: a node forgets the key.
    let _ = documents.client.delete(&key).await;
}

/// Writes the key that the nodes block on, if it is missing.
async fn mark(documents: &Documents) -> Result<(), DocumentsError> {
    let key = documents.keys().observe_marker();
    let listing = documents.client.get_at_most(&key, MAX_ANSWER).await.map_err(|source| read_error(&key, source))?;
    let there = listing.entries().is_ok_and(|entries| !entries.is_empty());
    if there {
        return Ok(());
    }
    // False means that another observer was faster.
    documents.client.put(&key, b"{}".to_vec(), 0).await.map(drop).map_err(|source| {
        let rule = format!(r#"key "{key}" {{ policy = "write" }}"#);
        DocumentsError::Write { key, rule, source }
    })
}

impl Documents {
    /// Reads what the nodes report on observed backends.
    ///
    /// # Errors
    /// [`DocumentsError::Read`], also if the token may not read the prefix.
    pub async fn counters(&self) -> Result<BTreeMap<NodeName, CountersRead>, DocumentsError> {
        let prefix = self.keys().counters();
        let read = async {
            let listing = self.client.list(&prefix, None).await?;
            let entries = listing.entries()?;
            if entries.is_empty() {
                // A listing omits keys that the token may not read.
                self.client.may_read(&prefix).await?;
            }
            let mut reports = BTreeMap::new();
            for entry in &entries {
                let Some(node) = Keys::node_of(&prefix, &entry.key) else { continue };
                let value = entry.bytes().map_err(ConsulError::BadResponse)?;
                let report = Counters::parse(&node, &value);
                reports.insert(node, CountersRead { index: entry.modify_index, report });
            }
            Ok(reports)
        };
        read.await.map_err(|source| read_error(&prefix, source))
    }

    /// Waits until the keys of all ended observations are deleted, at most 2 s.
    pub async fn leave(tasks: &tokio_util::task::TaskTracker) {
        tasks.close();
        // Then the nodes forget them.
        let _ = timeout(LEAVE, tasks.wait()).await;
    }
}
