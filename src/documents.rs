//! The documents in Consul: reading them, working out an edit, writing it.
//!
//! Reads and writes with the client's own token. An edit is worked out without I/O ([`edit`]) and written only if
//! nobody else changed the backend meanwhile. Must never write what [`edit`] did not work out.

pub mod edit;
pub mod stored;
pub mod view;

use std::collections::BTreeMap;

use weightd_core::{
    desired::{BadResponse, Entry},
    model::{BackendName, Escaped, Root, ServerName},
};

use self::{
    edit::Write,
    stored::{Everything, Stored, read},
};
use crate::consul::{
    client::{Client, Committed, ConsulError, Listing, Operation},
    tls::TlsError,
};

/// The documents below one root, as one token sees them.
#[derive(Debug)]
pub struct Documents {
    client: Client,
    prefix: String,
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
pub enum Written {
    /// It was read back: it is in Consul, with this `ModifyIndex`, of leaves the greatest.
    Yes {
        /// The index.
        index: u64,
    },
    /// Nothing was written: somebody else changed the backend first.
    Conflict,
    /// Consul said that it was written, but the read-back shows something else: somebody changed it since, or the answer
    /// was not Consul's.
    Superseded,
}

/// Why documents were not read or not written.
#[derive(Debug, thiserror::Error)]
pub enum DocumentsError {
    /// They could not be read.
    #[error("cannot read {}", Escaped(.below))]
    Read {
        /// The prefix or the key.
        below: String,
        /// The rule that a token needs for it.
        rule: String,
        /// What Consul says.
        #[source]
        source: ConsulError,
    },
    /// Nothing was written.
    #[error("cannot write {}", Escaped(.key))]
    Write {
        /// The document's key.
        key: String,
        /// The rule that a token needs for it.
        rule: String,
        /// What Consul says.
        #[source]
        source: ConsulError,
    },
    /// The answer was lost, or the write could not be read back: it may have been written.
    #[error("cannot tell whether {} was written", Escaped(.key))]
    Unsure {
        /// The document's key.
        key: String,
        /// The backend.
        backend: BackendName,
        /// What Consul says.
        #[source]
        source: ConsulError,
    },
}

/// The most bytes of one backend's keys, where its neighbours have too many to be read together with it.
const MAX_BACKEND: usize = 2 * 1024 * 1024;

impl Documents {
    /// The documents below `root`.
    pub fn new(client: Client, root: &Root) -> Self {
        Self { client, prefix: root.weights_prefix() }
    }

    /// The prefix of their keys, with a final slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The Consul that is written to, for a question: its address, and its datacenter where that is known.
    pub async fn place(&self) -> String {
        let address = self.client.address();
        match self.client.datacenter().await {
            Some(datacenter) => format!("Consul at {address}, datacenter {datacenter}"),
            None => format!("Consul at {address}"),
        }
    }

    /// Reads all of them.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn all(&self) -> Result<Everything, DocumentsError> {
        self.listed(&self.prefix, |listing, entries| {
            Ok(Everything { filtered: listing.filtered, ..read(&self.prefix, entries)? })
        })
        .await
    }

    /// Reads the keys of one backend.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn backend(&self, backend: &BackendName) -> Result<Option<Stored>, DocumentsError> {
        let document = self.key(backend);
        let decode = |entries: &[Entry<'_>]| read(&self.prefix, entries);
        let everything = self.of_backend(backend, decode).await.map_err(|source| read_error(&document, source))?;
        Ok(everything.backends.into_iter().next())
    }

    /// The key of the document.
    fn key(&self, backend: &BackendName) -> String {
        format!("{}{backend}", self.prefix)
    }

    /// What `decode` makes of the document and the leaves of one backend.
    async fn of_backend<T>(
        &self,
        backend: &BackendName,
        decode: impl FnOnce(&[Entry<'_>]) -> Result<T, BadResponse>,
    ) -> Result<T, ConsulError> {
        let document = self.key(backend);
        // One request for document and leaves, so that both are of one moment. It brings other backends whose name begins
        // alike.
        let own = |key: &str| key.strip_prefix(&*document).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let listings = match self.client.list(&document, None).await {
            Ok(listing) => vec![listing],
            // A neighbour may have filled the answer; on their own both are bounded.
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
            // A listing leaves out what the token may not read; only a plain read shows that.
            self.client.may_read(&document).await?;
        }
        decode(&entries).map_err(ConsulError::BadResponse)
    }

    /// Reads the keys below `prefix`, which need not be weightd's, and returns what `decode` makes of them, and whether
    /// Consul says that it hides some of them from this token.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn elsewhere<T>(
        &self,
        prefix: &str,
        decode: impl FnOnce(&[Entry<'_>]) -> Result<T, BadResponse>,
    ) -> Result<(T, bool), DocumentsError> {
        self.listed(prefix, |listing, entries| Ok((decode(entries)?, listing.filtered))).await
    }

    async fn listed<T>(
        &self,
        below: &str,
        decode: impl FnOnce(&Listing, &[Entry<'_>]) -> Result<T, BadResponse>,
    ) -> Result<T, DocumentsError> {
        let decoded = async {
            let listing = self.client.list(below, None).await?;
            let entries = listing.entries()?;
            if entries.is_empty() {
                // A listing leaves out what the token may not read; only a plain read shows that.
                self.client.may_read(below).await?;
            }
            decode(&listing, &entries).map_err(ConsulError::BadResponse)
        };
        decoded.await.map_err(|source| read_error(below, source))
    }

    /// Writes, unless somebody else changed the backend since it was read, and reads back what is there then.
    ///
    /// # Errors
    /// [`DocumentsError::Write`] if nothing was written, [`DocumentsError::Unsure`] if that cannot be known.
    pub async fn write(&self, backend: &BackendName, write: &Write) -> Result<Written, DocumentsError> {
        let key = self.key(backend);
        let done = match write {
            Write::Nothing => Ok(true),
            Write::Document { value, index, leaves } if leaves.is_empty() => {
                self.client.put(&key, value.clone(), *index).await
            }
            Write::Document { .. } | Write::Leaves { .. } => {
                self.client.transact(&operations(&key, write)).await.and_then(|done| match done {
                    Committed::Yes => Ok(true),
                    // A transaction that a policy forbids has the same status as one that came too late.
                    Committed::No(failed) => match failed.into_iter().find(|failed| failed.denied) {
                        Some(denied) => Err(ConsulError::Denied(denied.what)),
                        None => Ok(false),
                    },
                })
            }
        };
        let unsure = |source| DocumentsError::Unsure { key: key.clone(), backend: backend.clone(), source };
        match done {
            Ok(false) => Ok(Written::Conflict),
            Ok(true) => match self.read_back(backend, write).await {
                Ok(Some(index)) => Ok(Written::Yes { index }),
                Ok(None) => Ok(Written::Superseded),
                Err(error) => Err(unsure(error)),
            },
            // Only a read shows what became of it.
            Err(error) if may_have_happened(&error) => match self.read_back(backend, write).await {
                Ok(Some(index)) => Ok(Written::Yes { index }),
                Ok(None) | Err(_) => Err(unsure(error)),
            },
            Err(source) => {
                let with_leaves = match write {
                    Write::Document { leaves, .. } if leaves.is_empty() => String::new(),
                    _ => format!(" key_prefix \"{key}/\" {{ policy = \"write\" }}"),
                };
                let rule = format!("key \"{key}\" {{ policy = \"write\" }}{with_leaves}");
                Err(DocumentsError::Write { key, rule, source })
            }
        }
    }

    /// The `ModifyIndex` of what was to be written, if exactly that is there.
    async fn read_back(&self, backend: &BackendName, write: &Write) -> Result<Option<u64>, ConsulError> {
        let key = self.key(backend);
        self.of_backend(backend, |entries| {
            let mut found = BTreeMap::new();
            for entry in entries {
                found.insert(entry.key.to_string(), (entry.bytes()?, entry.modify_index));
            }
            Ok(is_written(&key, write, &found))
        })
        .await
    }
}

/// Whether a write with this outcome may have happened all the same.
fn may_have_happened(error: &ConsulError) -> bool {
    match error {
        ConsulError::Unreachable { source, .. } => !source.0.is_connect(),
        // After the handshake something may have gone through.
        ConsulError::Tls { source, .. } => matches!(source, TlsError::Handshake(_)),
        // Of an answer that is cut off or not JSON nothing is known but that it was an answer.
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

/// The greatest `ModifyIndex` of what `write` writes, if that is what the keys hold. `key` is the document's.
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

/// The transaction for a write. `key` is the document's.
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
    fn leaves_are_written_while_nothing_else_changes() {
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
