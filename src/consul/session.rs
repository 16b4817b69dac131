//! Consul sessions, and the keys that a session locks.
//!
//! Consul deletes a locked key with its session. So the value outlives the process that wrote it by at most twice the
//! session's TTL. The lock is advisory: a plain write of another client replaces the value.

use std::{fmt, time::Duration};

use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};

use super::{Client, ConsulError, error::error_of_status};

/// TTL of every session. Consul accepts at least 10 s, and removes a session after up to twice the TTL.
pub const TTL: Duration = Duration::from_secs(10);

/// The id of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionId(String);

impl SessionId {
    /// Creates a session id from Consul's text.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A key, and the session that locks it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldKey {
    /// The value.
    pub value: Vec<u8>,
    /// `ModifyIndex` of the key.
    pub modify_index: u64,
    /// The session that locks the key; none if the key is not locked.
    pub session: Option<SessionId>,
}

/// The request that creates a session. `NodeChecks` is empty, so that a flapping health check of the agent does not end
/// the session.
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
    /// Creates a session with [`TTL`] and without a lock delay. Consul deletes its keys with it. The token needs
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
            other => Err(error_of_status(other, &body)),
        }
    }

    /// Renews a session. Returns false if Consul no longer has it. A renewal is not a Raft write.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn renew_session(&self, session: &SessionId) -> Result<bool, ConsulError> {
        let path = format!("/v1/session/renew/{session}");
        match self.answer(self.request(Method::PUT, &path, &[])?).await? {
            (StatusCode::OK, _) => Ok(true),
            (StatusCode::NOT_FOUND, _) => Ok(false),
            (other, body) => Err(error_of_status(other, &body)),
        }
    }

    /// Ends a session. Consul deletes its keys.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn destroy_session(&self, session: &SessionId) -> Result<(), ConsulError> {
        let path = format!("/v1/session/destroy/{session}");
        match self.answer(self.request(Method::PUT, &path, &[])?).await? {
            (StatusCode::OK, _) => Ok(()),
            (other, body) => Err(error_of_status(other, &body)),
        }
    }

    /// Writes `key` and locks it with `session`. Also writes it if the session already has the lock. Returns false if
    /// another session has the lock.
    ///
    /// # Errors
    /// [`ConsulError`]. Consul answers with status 500 if it no longer has the session.
    pub async fn acquire(&self, key: &str, value: Vec<u8>, session: &SessionId) -> Result<bool, ConsulError> {
        self.put_if(key, value, ("acquire", session.to_string())).await
    }

    /// Reads a key and the session that locks it; none if the key does not exist.
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
