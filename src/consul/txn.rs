//! The wire format of Consul's transactions.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Serialize};

use super::{Client, ConsulError, session::SessionId};

/// Maximum number of operations in one transaction. Consul's limit is 64.
pub const MAX_TXN: usize = 62;

/// An operation of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// Sets `key` if its `ModifyIndex` still is `index`; 0 means that the key must not exist.
    Cas {
        /// The key.
        key: String,
        /// Its new value.
        value: Vec<u8>,
        /// Its `ModifyIndex` as read.
        index: u64,
    },
    /// Deletes `key` if its `ModifyIndex` still is `index`.
    DeleteCas {
        /// The key.
        key: String,
        /// Its `ModifyIndex` as read.
        index: u64,
    },
    /// Fails the transaction unless the `ModifyIndex` of `key` still is `index`.
    CheckIndex {
        /// The key.
        key: String,
        /// Its `ModifyIndex` as read.
        index: u64,
    },
    /// Fails the transaction if `key` exists.
    CheckNotExists {
        /// The key.
        key: String,
    },
    /// Fails the transaction unless `session` holds the lock of `key`.
    CheckSession {
        /// The key.
        key: String,
        /// The session.
        session: SessionId,
    },
    /// Sets `key`, whatever it has.
    Set {
        /// The key.
        key: String,
        /// Its new value.
        value: Vec<u8>,
    },
}

impl Operation {
    /// Fails the transaction unless `key` is as it was read; an `index` of 0 means that there was no key. Consul cannot check
    /// the index of a key that is absent.
    pub fn unchanged(key: String, index: u64) -> Self {
        match index {
            0 => Self::CheckNotExists { key },
            index => Self::CheckIndex { key, index },
        }
    }
}

impl Client {
    /// Runs `operations`, where it does not matter which one failed. Returns the `ModifyIndex` of what was written; none if a
    /// condition is not true, so that nothing was.
    ///
    /// # Errors
    /// [`ConsulError`], as [`Client::transact`], and [`ConsulError::Denied`] with the first operation that Consul denied.
    pub async fn all_or_none(&self, operations: &[Operation]) -> Result<Option<u64>, ConsulError> {
        match self.transact(operations).await? {
            Committed::Yes(index) => Ok(Some(index)),
            Committed::No(failed) => match failed.into_iter().find(|failed| failed.denied) {
                Some(denied) => Err(ConsulError::Denied(denied.what)),
                None => Ok(None),
            },
        }
    }
}

/// The result of a transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Committed {
    /// Consul ran all operations. With the `ModifyIndex` that the keys have which it wrote; 0 if it wrote none.
    Yes(u64),
    /// Consul ran none, because these operations failed. The list has at least one.
    No(Vec<FailedOperation>),
}

/// A failed operation. One failed operation fails the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedOperation {
    /// Its position in the transaction.
    pub position: usize,
    /// Whether Consul denied the operation. If not, the key does not match the condition of the operation.
    pub denied: bool,
    /// Consul's message.
    pub what: String,
}

/// Returns the body of the request for `operations`.
///
/// # Errors
/// [`ConsulError::Json`].
pub(super) fn body(operations: &[Operation]) -> Result<Vec<u8>, ConsulError> {
    let operations: Vec<_> = operations.iter().map(WireOperation::from).collect();
    serde_json::to_vec(&operations).map_err(ConsulError::Json)
}

/// The `ModifyIndex` of what was written, if the body reports success of `operations` operations. A transaction that only
/// deletes has results of keys that are gone.
pub(super) fn written(body: &[u8], operations: usize) -> Option<u64> {
    let result: TxnResult = serde_json::from_slice(body).ok()?;
    let results = result.results.filter(|_| result.errors.is_none_or(|errors| errors.is_empty()))?;
    let sound = results.len() <= operations && (results.is_empty() == (operations == 0));
    sound.then(|| results.iter().filter_map(|done| Some(done.kv.as_ref()?.modify_index)).max().unwrap_or_default())
}

/// Parses the failed operations of an answer with status 409.
///
/// # Errors
/// [`ConsulError::Json`].
pub(super) fn failed(body: &[u8]) -> Result<Vec<FailedOperation>, ConsulError> {
    let outcome: TxnOutcome = serde_json::from_slice(body).map_err(ConsulError::Json)?;
    let failed = outcome.errors.into_iter().map(|TxnError { op_index, what }| FailedOperation {
        position: op_index,
        denied: what.contains(DENIED),
        what,
    });
    Ok(failed.collect())
}

/// The start of Consul's message for a denied operation. Newer versions append the token and the rule.
const DENIED: &str = "Permission denied";

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct WireKv<'a> {
    verb: &'static str,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    index: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<String>,
}

#[derive(Serialize)]
struct WireOperation<'a> {
    #[serde(rename = "KV")]
    kv: WireKv<'a>,
}

impl<'a> From<&'a Operation> for WireOperation<'a> {
    fn from(operation: &'a Operation) -> Self {
        let of = |verb, key, value: Option<&Vec<u8>>, index: Option<u64>| WireKv {
            verb,
            key,
            value: value.map(|value| BASE64.encode(value)),
            index,
            session: None,
        };
        let kv = match operation {
            Operation::Cas { key, value, index } => of("cas", key, Some(value), Some(*index)),
            Operation::Set { key, value } => of("set", key, Some(value), None),
            Operation::DeleteCas { key, index } => of("delete-cas", key, None, Some(*index)),
            Operation::CheckIndex { key, index } => of("check-index", key, None, Some(*index)),
            Operation::CheckNotExists { key } => of("check-not-exists", key, None, None),
            Operation::CheckSession { key, session } => {
                WireKv { session: Some(session.to_string()), ..of("check-session", key, None, None) }
            }
        };
        Self { kv }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TxnResult {
    results: Option<Vec<TxnDone>>,
    errors: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
struct TxnDone {
    #[serde(rename = "KV")]
    kv: Option<TxnKey>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TxnKey {
    #[serde(default)]
    modify_index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TxnOutcome {
    #[serde(default)]
    errors: Vec<TxnError>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TxnError {
    #[serde(default)]
    op_index: usize,
    what: String,
}
