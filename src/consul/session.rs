//! Consul sessions, and the keys that one of them holds.
//!
//! A key that a session holds disappears with it, so its value never outlives the process that wrote it by more than
//! twice the session's TTL. The lock is advisory: a plain write of another client replaces the value.

use std::{fmt, time::Duration};

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::{
    Client, ConsulError,
    client::{refused, start_of},
};

/// TTL of every session. Consul accepts 10 s and more, and removes a session up to twice as late.
pub const TTL: Duration = Duration::from_secs(10);

/// A session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionId(String);

impl SessionId {
    /// A session with this id.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key, with the session that holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldKey {
    /// The value.
    pub value: Vec<u8>,
    /// `ModifyIndex` of the key.
    pub modify_index: u64,
    /// The session that holds it; none if none does.
    pub session: Option<SessionId>,
}

/// The request that makes a session. `NodeChecks` is empty: a flap of the agent's own health must not end the session.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NewSession<'a> {
    name: &'a str,
    #[serde(rename = "TTL")]
    ttl: String,
    behavior: &'static str,
    lock_delay: &'static str,
    node_checks: [&'static str; 0],
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Created {
    #[serde(rename = "ID")]
    id: String,
}

impl Client {
    /// Makes a session with [`TTL`], without a lock delay. Its keys are deleted with it. The token needs
    /// `session "<name of the agent's node>" { policy = "write" }`.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn create_session(&self, name: &str) -> Result<SessionId, ConsulError> {
        let session = NewSession {
            name,
            ttl: format!("{}s", TTL.as_secs()),
            behavior: "delete",
            lock_delay: "0s",
            node_checks: [],
        };
        let body = serde_json::to_vec(&session).map_err(ConsulError::Json)?;
        let (status, body) = self.answer(self.request(Method::PUT, "/v1/session/create", &[])?.body(body)).await?;
        match status {
            StatusCode::OK => {
                let created: Created = serde_json::from_slice(&body).map_err(ConsulError::Json)?;
                Ok(SessionId::new(created.id))
            }
            other => Err(refused(other, &body)),
        }
    }

    /// Renews a session. False if Consul does not have it any more. A renewal is no raft write.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn renew_session(&self, session: &SessionId) -> Result<bool, ConsulError> {
        let path = format!("/v1/session/renew/{session}");
        match self.answer(self.request(Method::PUT, &path, &[])?).await? {
            (StatusCode::OK, _) => Ok(true),
            (StatusCode::NOT_FOUND, _) => Ok(false),
            (other, body) => Err(refused(other, &body)),
        }
    }

    /// Ends a session; Consul deletes its keys.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn destroy_session(&self, session: &SessionId) -> Result<(), ConsulError> {
        let path = format!("/v1/session/destroy/{session}");
        match self.answer(self.request(Method::PUT, &path, &[])?).await? {
            (StatusCode::OK, _) => Ok(()),
            (other, body) => Err(refused(other, &body)),
        }
    }

    /// Writes `key` and locks it with `session`, or rewrites it if the session has the lock already. False if another
    /// session has it.
    ///
    /// # Errors
    /// [`ConsulError`]. Consul answers a status of 500 if it does not have the session any more.
    pub async fn acquire(&self, key: &str, value: Vec<u8>, session: &SessionId) -> Result<bool, ConsulError> {
        let parameters = [("acquire", session.to_string())];
        let request = self.request(Method::PUT, &format!("/v1/kv/{key}"), &parameters)?.body(value);
        let (status, body) = self.answer(request).await?;
        match (status, body.trim_ascii()) {
            (StatusCode::OK, b"true") => Ok(true),
            (StatusCode::OK, b"false") => Ok(false),
            (StatusCode::OK, other) => Err(ConsulError::Unclear(start_of(other))),
            (other, _) => Err(refused(other, &body)),
        }
    }

    /// Reads a key with the session that holds it; none if the key does not exist.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn held_key(&self, key: &str) -> Result<Option<HeldKey>, ConsulError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Lock {
            #[serde(default)]
            session: Option<String>,
        }
        let listing = self.get_at_most(key, super::client::MAX_RESPONSE).await?;
        let sessions: Vec<Lock> = listing.decode()?;
        let entries = listing.entries()?;
        let Some((entry, lock)) = entries.first().zip(sessions.into_iter().next()) else { return Ok(None) };
        Ok(Some(HeldKey {
            value: entry.bytes().map_err(ConsulError::BadResponse)?,
            modify_index: entry.modify_index,
            session: lock.session.map(SessionId::new),
        }))
    }
}
