use super::{
    Exit,
    edit::{Refusal, Write},
    failure::Failure,
    stored::{Everything, Stored, read},
};
use crate::{
    consul::{
        Root,
        client::{Client, Committed, ConsulError, Listing, Operation},
        tls::TlsError,
    },
    desired::{BadResponse, Entry},
    model::{BackendName, Escaped, nearest},
};

/// The documents in Consul, as the user's own token sees them.
#[derive(Debug)]
pub(super) struct Store {
    client: Client,
    prefix: String,
}

/// What became of a write.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// It happened.
    Yes,
    /// It did not: somebody else was faster.
    Conflict,
}

impl Store {
    /// The documents below `root`.
    pub(super) fn new(client: Client, root: &Root) -> Self {
        Self { client, prefix: root.weights_prefix() }
    }

    /// Where documents lie.
    pub(super) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// All that Consul holds.
    pub(super) async fn all(&self) -> Result<Everything, Failure> {
        self.read(&self.prefix, |_| true).await
    }

    /// What Consul holds about one backend.
    pub(super) async fn backend(&self, backend: &BackendName) -> Result<Option<Stored>, Failure> {
        let document = format!("{}{backend}", self.prefix);
        // One request for document and leaves, so that both are of one moment. It brings other backends whose
        // name begins alike.
        let own = |key: &str| key.strip_prefix(&*document).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        Ok(self.read(&document, own).await?.backends.pop())
    }

    /// What `decode` makes of the keys below `prefix`, which need not be weightd's; and whether Consul said that it hid
    /// some from this token.
    pub(super) async fn elsewhere<T>(
        &self,
        prefix: &str,
        decode: impl FnOnce(&[Entry<'_>]) -> Result<T, BadResponse>,
    ) -> Result<(T, bool), Failure> {
        self.listed(prefix, |_| true, |listing, entries| Ok((decode(entries)?, listing.filtered))).await
    }

    async fn read(&self, below: &str, wanted: impl Fn(&str) -> bool) -> Result<Everything, Failure> {
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
    ) -> Result<T, Failure> {
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
        decoded.await.map_err(|error| {
            let kind = if below.ends_with('/') { "key_prefix" } else { "key" };
            failed(error, &format!("{kind} \"{below}\" {{ policy = \"read\" }}"))
                .context(format!("cannot read {}", Escaped(below)))
        })
    }

    /// Why a change is not made, and what to do about it.
    pub(super) async fn refused(&self, refusal: Refusal) -> Failure {
        let hint = refusal.hint(&self.prefix);
        match refusal {
            Refusal::NoSuchBackend(backend) => self.no_such(&backend, Exit::Refused, &hint).await,
            other => Failure::caused(Exit::Refused, other).hint(hint),
        }
    }

    /// That there is no such backend, with the one that was probably meant.
    pub(super) async fn no_such(&self, backend: &BackendName, exit: Exit, otherwise: &str) -> Failure {
        let failure = Failure::caused(exit, Refusal::NoSuchBackend(backend.clone()));
        // The suggestion is a favour: if it cannot be had, the answer stays the same.
        let everything = self.all().await.unwrap_or_default();
        let names = everything.backends.iter().map(|stored| stored.backend.as_str());
        failure.hint(match nearest(backend.as_str(), names) {
            Some(name) => format!("did you mean `{name}`? Otherwise {otherwise}"),
            None => otherwise.to_owned(),
        })
    }

    /// Writes, if nobody else was faster.
    pub(super) async fn write(&self, backend: &BackendName, write: &Write) -> Result<Written, Failure> {
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
        done.map_err(|error| {
            let unsure = match &error {
                ConsulError::Unreachable { source, .. } => !source.is_connect(),
                // After the handshake something may have gone through.
                ConsulError::Tls { source, .. } => matches!(source, TlsError::Handshake(_)),
                ConsulError::Timeout(_) | ConsulError::Unavailable(..) => true,
                _ => false,
            };
            let with_leaves = match write {
                Write::Document { leaves, .. } if leaves.is_empty() => String::new(),
                _ => format!(" key_prefix \"{key}/\" {{ policy = \"write\" }}"),
            };
            let failure = failed(error, &format!("key \"{key}\" {{ policy = \"write\" }}{with_leaves}"));
            if unsure {
                failure
                    .context(format!("cannot tell whether {key} was written"))
                    .hint(format!("`weightctl get {backend}` shows what is there"))
            } else {
                failure.context(format!("cannot write {key}"))
            }
        })
    }
}

/// The transaction that a write is. `key` is the document's.
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

/// How a command ends because of what Consul answers. `rule` is what the token needs.
pub(super) fn failed(error: ConsulError, rule: &str) -> Failure {
    let (exit, hint) = match &error {
        ConsulError::Unreachable { .. } | ConsulError::Timeout(_) => (
            Exit::Unreachable,
            "see whether the Consul agent runs there, and check --http-addr or CONSUL_HTTP_ADDR".to_owned(),
        ),
        ConsulError::Unavailable(..) | ConsulError::NoLeader => {
            (Exit::Unreachable, "see `consul operator raft list-peers`, and try again".to_owned())
        }
        ConsulError::Denied(_) => (
            Exit::Denied,
            format!("the token needs {rule}; check --token-file, CONSUL_HTTP_TOKEN_FILE and CONSUL_HTTP_TOKEN"),
        ),
        ConsulError::Tls { source, .. } => {
            (if source.is_local() { Exit::Failure } else { Exit::Unreachable }, source.remedy().to_owned())
        }
        ConsulError::Token(_) => {
            (Exit::Failure, "check --token-file or CONSUL_HTTP_TOKEN_FILE, and who may read the file".to_owned())
        }
        ConsulError::Status(..) | ConsulError::NoIndex | ConsulError::Json(_) | ConsulError::BadResponse(_) => (
            Exit::Failure,
            "check that --http-addr or CONSUL_HTTP_ADDR is a Consul agent and no proxy in front of it".to_owned(),
        ),
        other @ (ConsulError::TooLarge | ConsulError::Setup(_)) => (Exit::Failure, other.remedy().to_owned()),
    };
    Failure::caused(exit, error).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{consul::client::MAX_TXN, ctl::edit::MAX_LEAVES, model::ServerName};

    #[test]
    fn the_largest_write_fits_one_transaction() {
        let servers: Vec<_> = (0..MAX_LEAVES).map(|n| (ServerName::new(&format!("s{n}")).unwrap(), 1)).collect();
        let document = Write::Document { value: Vec::new(), index: 0, leaves: servers.clone() };
        assert!(operations("k", &document).len() <= MAX_TXN);
        let leaves = Write::Leaves { set: Vec::new(), keep: servers };
        assert!(operations("k", &leaves).len() <= MAX_TXN);
    }

    #[test]
    fn what_consul_answers_decides_the_exit_code() {
        let exit = |error| failed(error, "key \"k\" { policy = \"write\" }").exit;
        let address = || crate::consul::Address::default();
        assert_eq!(exit(ConsulError::NoLeader), Exit::Unreachable);
        assert_eq!(exit(ConsulError::Timeout(address())), Exit::Unreachable);
        let no_leader = (reqwest::StatusCode::INTERNAL_SERVER_ERROR, "No cluster leader".to_owned());
        assert_eq!(exit(ConsulError::Unavailable(no_leader.0, no_leader.1)), Exit::Unreachable);
        assert_eq!(exit(ConsulError::Denied("Permission denied".to_owned())), Exit::Denied);
        assert_eq!(exit(ConsulError::NoIndex), Exit::Failure);
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
