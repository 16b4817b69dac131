//! The documents in Consul: reading them, working out an edit, writing it.
//!
//! Reads and writes with the client's own token. An edit is worked out without I/O ([`edit`]) and written only if
//! nobody else changed the backend meanwhile. Must never write what [`edit`] did not work out.

pub mod edit;
pub mod stored;
pub mod view;

use weightd_core::{
    desired::{BadResponse, Entry},
    model::{BackendName, Escaped, Root},
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
    /// It is in Consul.
    Yes,
    /// Nothing was written: somebody else changed the backend first.
    Conflict,
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
    /// The answer was lost: it may have been written.
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

impl Documents {
    /// The documents below `root`.
    pub fn new(client: Client, root: &Root) -> Self {
        Self { client, prefix: root.weights_prefix() }
    }

    /// The prefix of their keys, with a final slash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Reads all of them.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn all(&self) -> Result<Everything, DocumentsError> {
        self.read(&self.prefix, |_| true).await
    }

    /// Reads the keys of one backend.
    ///
    /// # Errors
    /// [`DocumentsError::Read`].
    pub async fn backend(&self, backend: &BackendName) -> Result<Option<Stored>, DocumentsError> {
        let document = format!("{}{backend}", self.prefix);
        // One request for document and leaves, so that both are of one moment. It brings other backends whose
        // name begins alike.
        let own = |key: &str| key.strip_prefix(&*document).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        Ok(self.read(&document, own).await?.backends.pop())
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
        self.listed(prefix, |_| true, |listing, entries| Ok((decode(entries)?, listing.filtered))).await
    }

    async fn read(&self, below: &str, wanted: impl Fn(&str) -> bool) -> Result<Everything, DocumentsError> {
        self.listed(below, wanted, |listing, entries| {
            Ok(Everything { filtered: listing.filtered, ..read(&self.prefix, entries)? })
        })
        .await
    }

    async fn listed<T>(
        &self,
        below: &str,
        wanted: impl Fn(&str) -> bool,
        decode: impl FnOnce(&Listing, &[Entry<'_>]) -> Result<T, BadResponse>,
    ) -> Result<T, DocumentsError> {
        let decoded = async {
            let listing = self.client.list(below, None).await?;
            let mut entries = listing.entries()?;
            entries.retain(|entry| wanted(&entry.key));
            if entries.is_empty() {
                // A listing leaves out what the token may not see; only a plain read says so.
                self.client.may_read(below).await?;
            }
            decode(&listing, &entries).map_err(ConsulError::BadResponse)
        };
        decoded.await.map_err(|source| {
            let kind = if below.ends_with('/') { "key_prefix" } else { "key" };
            let rule = format!("{kind} \"{below}\" {{ policy = \"read\" }}");
            DocumentsError::Read { below: below.to_owned(), rule, source }
        })
    }

    /// Writes, unless somebody else changed the backend since it was read.
    ///
    /// # Errors
    /// [`DocumentsError::Write`] if nothing was written, [`DocumentsError::Unsure`] if that cannot be known.
    pub async fn write(&self, backend: &BackendName, write: &Write) -> Result<Written, DocumentsError> {
        let key = format!("{}{backend}", self.prefix);
        let done = match write {
            Write::Nothing => Ok(Written::Yes),
            Write::Document { value, index, leaves } if leaves.is_empty() => {
                let put = self.client.put(&key, value.clone(), *index).await;
                put.map(|done| if done { Written::Yes } else { Written::Conflict })
            }
            Write::Document { .. } | Write::Leaves { .. } => {
                let committed = self.client.transact(&operations(&key, write)).await;
                committed.map(|done| match done {
                    Committed::Yes => Written::Yes,
                    Committed::Conflict(_) => Written::Conflict,
                })
            }
        };
        done.map_err(|source| {
            let unsure = match &source {
                ConsulError::Unreachable { source, .. } => !source.is_connect(),
                // After the handshake something may have gone through.
                ConsulError::Tls { source, .. } => matches!(source, TlsError::Handshake(_)),
                ConsulError::Timeout(_) | ConsulError::Unavailable(..) => true,
                _ => false,
            };
            if unsure {
                return DocumentsError::Unsure { key, backend: backend.clone(), source };
            }
            let with_leaves = match write {
                Write::Document { leaves, .. } if leaves.is_empty() => String::new(),
                _ => format!(" key_prefix \"{key}/\" {{ policy = \"write\" }}"),
            };
            let rule = format!("key \"{key}\" {{ policy = \"write\" }}{with_leaves}");
            DocumentsError::Write { key, rule, source }
        })
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
