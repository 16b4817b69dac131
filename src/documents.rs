//! Reads the documents in Consul, computes edits, and writes them.
//!
//! Reads and writes with the client's own token. [`edit`] computes an edit without I/O. The write happens only if the
//! backend did not change since the read. Must write only edits that [`edit`] computed.

pub mod changes;
pub mod commit;
pub mod context;
pub mod edit;
pub mod fleet;
pub mod gather;
pub mod history;
pub mod lead;
pub mod observe;
pub mod rollouts;
pub mod sees;
pub mod single;
pub mod stored;
pub mod view;

use std::{collections::BTreeMap, sync::Arc};

pub use tokio_util::task::TaskTracker;
use weightd_core::{
    desired::{BadResponse, Entry},
    model::{BackendName, Escaped, Root, ServerName},
};

pub use self::context::{Context, InForce, Optional};
use self::{
    commit::{Commit, Failed, Without},
    edit::{Edit, Write},
    stored::{Everything, Stored, read},
};
use crate::consul::{
    client::{Client, Committed, ConsulError, Listing, Operation},
    tls::TlsError,
};

/// A client for the documents below one root.
#[derive(Debug, Clone)]
pub struct Documents {
    client: Arc<Client>,
    root: Root,
    prefix: String,
    /// What has to be done before the program ends.
    tasks: TaskTracker,
}

/// The result of a write.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// The read-back confirms the write.
    Yes {
        /// Its `ModifyIndex`; of leaves the greatest.
        index: u64,
        /// The optional parts that the write went without.
        without: Vec<Without>,
    },
    /// Nothing was written, because an operator froze the backend.
    Frozen(InForce),
    /// Nothing was written, because another writer changed the backend first.
    Conflict,
    /// Consul confirmed the write, but the read-back is different: another writer changed the backend since, or the
    /// answer was not from Consul.
    Superseded,
}

/// A read or a write of documents failed.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    /// The read failed.
    #[error("failed to read {}", Escaped(.below))]
    Read {
        /// The prefix or the key.
        below: String,
        /// The ACL rule that the token needs.
        rule: String,
        /// The error of the request.
        #[source]
        source: ConsulError,
    },
    /// The write failed. Nothing was written.
    #[error("{} is not written", Escaped(.key))]
    Write {
        /// The key of the document.
        key: String,
        /// The ACL rule that the token needs.
        rule: String,
        /// The error of the request.
        #[source]
        source: ConsulError,
    },
    /// The answer to the write was lost, or the read-back failed. Consul may have done the write.
    #[error("the result of the write is unknown: {} may have changed", Escaped(.key))]
    UnknownResult {
        /// The key.
        key: String,
        /// How to find out what the key has.
        hint: String,
        /// The error of the request.
        #[source]
        source: ConsulError,
    },
}

impl DocumentsError {
    /// Whether Consul denied the request to this token.
    pub fn is_denied(&self) -> bool {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } | Self::UnknownResult { source, .. } => {
                matches!(source, ConsulError::Denied(_))
            }
        }
    }
}

/// Attempts of a write that clashes on history or freeze alone: other writers of the same backend, so it ends soon.
const ATTEMPTS: usize = 8;
/// Maximum size of the answer for one backend in bytes, if it is read without the other backends.
const MAX_BACKEND: usize = 2 * 1024 * 1024;

impl Documents {
    /// Creates a client for the documents below `root`.
    pub fn new(client: Client, root: &Root) -> Self {
        Self::sharing(Arc::new(client), root)
    }

    /// The same, with a client that others use as well.
    pub fn sharing(client: Arc<Client>, root: &Root) -> Self {
        Self { client, root: root.clone(), prefix: root.weights_prefix(), tasks: TaskTracker::new() }
    }

    /// The same, with `tasks` for what has to be done before the program ends: see [`Documents::leave`].
    #[must_use]
    pub fn with_tasks(self, tasks: &TaskTracker) -> Self {
        Self { tasks: tasks.clone(), ..self }
    }

    /// Returns the root of the keys.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Returns the prefix of the keys, with a final slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Describes the target of writes, for a confirmation prompt: the address of Consul, and the datacenter if known.
    pub async fn place(&self) -> String {
        let address = self.client.address();
        match self.client.datacenter().await {
            Some(datacenter) => format!("Consul at {address}, datacenter {datacenter}"),
            None => format!("Consul at {address}"),
        }
    }

    /// Reads all backends.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn all(&self) -> Result<Everything, DocumentsError> {
        self.read_listing(&self.prefix, |listing, entries| {
            Ok(Everything { filtered: listing.filtered, ..read(&self.prefix, entries)? })
        })
        .await
    }

    /// Reads one backend; none if it has no key.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn backend(&self, backend: &BackendName) -> Result<Option<Stored>, DocumentsError> {
        let document = self.key(backend);
        let decode = |entries: &[Entry<'_>]| read(&self.prefix, entries);
        let everything = self.read_keys(backend, decode).await.map_err(|source| read_error(&document, source))?;
        Ok(everything.backends.into_iter().next())
    }

    /// Returns the key of the document.
    fn key(&self, backend: &BackendName) -> String {
        format!("{}{backend}", self.prefix)
    }

    /// Reads the document and the leaves of one backend, and decodes them with `decode`.
    async fn read_keys<T>(
        &self,
        backend: &BackendName,
        decode: impl FnOnce(&[Entry<'_>]) -> Result<T, BadResponse>,
    ) -> Result<T, ConsulError> {
        let document = self.key(backend);
        // One request for document and leaves, so that both are from the same moment. The answer also has the backends
        // with a name that starts with this name.
        let own = |key: &str| key.strip_prefix(&*document).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let listings = match self.client.list(&document, None).await {
            Ok(listing) => vec![listing],
            // Another backend may be too large. Without it, the size of both answers is limited.
            Err(ConsulError::TooLarge(_)) => vec![
                self.client.get_at_most(&document, MAX_BACKEND).await?,
                self.client.list_at_most(&format!("{document}/"), MAX_BACKEND).await?,
            ],
            Err(error) => return Err(error),
        };
        let mut entries = Vec::new();
        for listing in &listings {
            entries.extend(listing.entries()?.into_iter().filter(|entry| own(&entry.key)));
        }
        if entries.is_empty() {
            // A listing omits keys that the token may not read. Only a read of the key itself reports the denial.
            self.client.may_read(&document).await?;
        }
        decode(&entries).map_err(ConsulError::BadResponse)
    }

    /// Reads the keys below any `prefix`, and decodes them with `decode`. Also returns whether ACLs hide keys from this
    /// token.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn read_prefix<T>(
        &self,
        prefix: &str,
        decode: impl FnOnce(&[Entry<'_>]) -> Result<T, BadResponse>,
    ) -> Result<(T, bool), DocumentsError> {
        self.read_listing(prefix, |listing, entries| Ok((decode(entries)?, listing.filtered))).await
    }

    async fn read_listing<T>(
        &self,
        below: &str,
        decode: impl FnOnce(&Listing, &[Entry<'_>]) -> Result<T, BadResponse>,
    ) -> Result<T, DocumentsError> {
        let decoded = async {
            let listing = self.client.list(below, None).await?;
            let entries = listing.entries()?;
            if entries.is_empty() {
                // A listing omits keys that the token may not read. Only a read of the key itself reports the denial.
                self.client.may_read(below).await?;
            }
            decode(&listing, &entries).map_err(ConsulError::BadResponse)
        };
        decoded.await.map_err(|source| read_error(below, source))
    }

    /// Reads one backend with its history, the freezes and the identity of the token.
    ///
    /// # Errors
    /// [`DocumentsError::Read`] for the backend itself, and if Consul does not answer for another key. A key that cannot be
    /// used is [`Optional::Off`].
    pub async fn context(&self, backend: &BackendName) -> Result<Context, DocumentsError> {
        let (client, root) = (&self.client, &self.root);
        // On the heap: five requests at once would make the future of every caller large.
        let (stored, history, freeze_all, freeze, token) = Box::pin(async {
            tokio::join!(
                self.backend(backend),
                context::history(client, root, backend),
                context::freeze(client, root, None),
                context::freeze(client, root, Some(backend)),
                context::token(client),
            )
        })
        .await;
        let (history, freeze_all, freeze) = (history?, freeze_all?, freeze?);
        Ok(Context { history, freeze_all, freeze, token, time: client.time(), ..Context::from(stored?) })
    }

    /// Writes `edit` if the backend did not change since `context` was read, and reads it back. A frozen backend is not
    /// written, unless the write `passes_freeze`.
    ///
    /// # Errors
    /// [`DocumentsError::Write`] if nothing was written, [`DocumentsError::UnknownResult`] if the result is unknown.
    pub async fn commit(
        &self,
        backend: &BackendName,
        edit: &Edit,
        context: &Context,
        passes_freeze: bool,
    ) -> Result<Written, DocumentsError> {
        let write = &edit.write;
        let Some(entry) = &edit.entry else { return self.confirm(backend, write, Vec::new()).await };
        let key = self.key(backend);
        let mut fresh;
        let mut context = context;
        let mut left_out: Vec<Without> = Vec::new();
        for _ in 0..ATTEMPTS {
            if let Some(frozen) = context.frozen(backend).filter(|_| !passes_freeze) {
                return Ok(Written::Frozen(frozen));
            }
            let commit =
                Commit::of(operations(&key, write), entry, context, (&self.root, backend), passes_freeze, &left_out);
            match self.client.transact(&commit.operations).await {
                Ok(Committed::Yes(_)) => return self.confirm(backend, write, commit.without).await,
                Ok(Committed::No(failed)) => match commit.judge(&failed) {
                    Failed::Conflict => return Ok(Written::Conflict),
                    Failed::Denied(what) => return Err(write_error(&key, write, ConsulError::Denied(what))),
                    Failed::WithoutParts(parts) => left_out.extend(parts),
                    Failed::ReadAgain => {
                        let again = self.context(backend).await.map_err(|error| match error {
                            // What counts is that the write did not happen.
                            DocumentsError::Read { rule, source, .. } => {
                                DocumentsError::Write { key: key.clone(), rule, source }
                            }
                            other => other,
                        })?;
                        fresh = context.again(again);
                        context = &fresh;
                    }
                },
                // Only a read shows whether Consul did the write.
                Err(error) if may_have_happened(&error) => {
                    return match self.read_back(backend, write).await {
                        Ok(Some(index)) => Ok(Written::Yes { index, without: commit.without }),
                        Ok(None) | Err(_) => Err(self.unknown(backend, error)),
                    };
                }
                Err(error) => return Err(write_error(&key, write, error)),
            }
        }
        Ok(Written::Conflict)
    }

    /// Reads back what was written.
    async fn confirm(
        &self,
        backend: &BackendName,
        write: &Write,
        without: Vec<Without>,
    ) -> Result<Written, DocumentsError> {
        match self.read_back(backend, write).await {
            Ok(Some(index)) => Ok(Written::Yes { index, without }),
            Ok(None) => Ok(Written::Superseded),
            Err(error) => Err(self.unknown(backend, error)),
        }
    }

    fn unknown(&self, backend: &BackendName, source: ConsulError) -> DocumentsError {
        let hint = format!("`weightctl get {backend}` shows the content in Consul");
        DocumentsError::UnknownResult { key: self.key(backend), hint, source }
    }

    /// Reads the backend and returns its `ModifyIndex`; none if its keys differ from the write.
    async fn read_back(&self, backend: &BackendName, write: &Write) -> Result<Option<u64>, ConsulError> {
        let key = self.key(backend);
        self.read_keys(backend, |entries| {
            let mut found = BTreeMap::new();
            for entry in entries {
                found.insert(entry.key.to_string(), (entry.bytes()?, entry.modify_index));
            }
            Ok(is_written(&key, write, &found))
        })
        .await
    }
}

/// The error of a write that did not happen.
fn write_error(key: &str, write: &Write, source: ConsulError) -> DocumentsError {
    let with_leaves = match write {
        Write::Document { leaves, .. } if leaves.is_empty() => String::new(),
        _ => format!(" key_prefix \"{key}/\" {{ policy = \"write\" }}"),
    };
    let rule = format!("key \"{key}\" {{ policy = \"write\" }}{with_leaves}");
    DocumentsError::Write { key: key.to_owned(), rule, source }
}

/// Whether Consul may have done a write that failed with this error.
fn may_have_happened(error: &ConsulError) -> bool {
    match error {
        ConsulError::Unreachable { source, .. } => !source.0.is_connect(),
        // A failure after the handshake may come after the write.
        ConsulError::Tls { source, .. } => matches!(source, TlsError::Handshake(_)),
        // A truncated answer, or one that is not JSON, does not show the result.
        ConsulError::Timeout(_)
        | ConsulError::Closed(_)
        | ConsulError::Encoded(_)
        | ConsulError::Unavailable(..)
        | ConsulError::Unclear(_)
        | ConsulError::Json(_)
        | ConsulError::TooLarge(_) => true,
        _ => false,
    }
}

fn read_error(below: &str, source: ConsulError) -> DocumentsError {
    let kind = if below.ends_with('/') { "key_prefix" } else { "key" };
    let rule = format!("{kind} \"{below}\" {{ policy = \"read\" }}");
    DocumentsError::Read { below: below.to_owned(), rule, source }
}

/// Returns the greatest `ModifyIndex` if the keys in `found` have the content of `write`; else none. `key` is the key
/// of the document.
fn is_written(key: &str, write: &Write, found: &BTreeMap<String, (Vec<u8>, u64)>) -> Option<u64> {
    let holds = |key: &str, value: &[u8]| found.get(key).filter(|(bytes, _)| bytes == value).map(|(_, index)| *index);
    match write {
        Write::Nothing => Some(found.values().map(|(_, index)| *index).max().unwrap_or_default()),
        Write::Document { value, leaves, .. } => {
            let left = leaves.iter().any(|(server, _)| found.contains_key(&format!("{key}/{server}")));
            holds(key, value).filter(|_| !left)
        }
        Write::Leaves { set, keep } => {
            let leaf = |server: &ServerName| format!("{key}/{server}");
            let mut index = keep.iter().map(|(_, index)| *index).max().unwrap_or_default();
            for (server, weight, _) in set {
                index = index.max(holds(&leaf(server), weight.as_bytes())?);
            }
            Some(index)
        }
    }
}

/// Returns the transaction for a write. `key` is the key of the document.
fn operations(key: &str, write: &Write) -> Vec<Operation> {
    let leaf = |server| format!("{key}/{server}");
    match write {
        Write::Nothing => Vec::new(),
        Write::Document { value, index, leaves } => {
            let delete = leaves.iter().map(|(server, index)| Operation::DeleteCas { key: leaf(server), index: *index });
            delete.chain([Operation::Cas { key: key.to_owned(), value: value.clone(), index: *index }]).collect()
        }
        Write::Leaves { set, keep } => {
            let set = set.iter().map(|(server, weight, index)| Operation::Cas {
                key: leaf(server),
                value: weight.clone().into_bytes(),
                index: *index,
            });
            let keep = keep.iter().map(|(server, index)| Operation::CheckIndex { key: leaf(server), index: *index });
            set.chain(keep).chain([Operation::CheckNotExists { key: key.to_owned() }]).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use weightd_core::model::ServerName;

    use super::*;
    use crate::{consul::client::MAX_TXN, documents::edit::MAX_LEAVES};

    #[test]
    fn the_largest_write_fits_one_transaction() {
        let servers: Vec<_> = (0..MAX_LEAVES).map(|n| (ServerName::new(&format!("s{n}")).unwrap(), 1)).collect();
        let document = Write::Document { value: Vec::new(), index: 0, leaves: servers.clone() };
        assert!(operations("k", &document).len() <= MAX_TXN);
        let leaves = Write::Leaves { set: Vec::new(), keep: servers };
        assert!(operations("k", &leaves).len() <= MAX_TXN);
    }

    #[test]
    fn a_write_of_leaves_checks_all_other_keys_of_the_backend() {
        let server = |name| ServerName::new(name).unwrap();
        let write = Write::Leaves { set: vec![(server("blue"), "7".to_owned(), 5)], keep: vec![(server("green"), 6)] };
        assert_eq!(
            operations("w/app", &write),
            [
                Operation::Cas { key: "w/app/blue".to_owned(), value: b"7".to_vec(), index: 5 },
                Operation::CheckIndex { key: "w/app/green".to_owned(), index: 6 },
                Operation::CheckNotExists { key: "w/app".to_owned() },
            ]
        );
    }
}
