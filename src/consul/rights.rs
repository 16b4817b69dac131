//! Checks that Consul has a leader, and which permissions a token has. The checks change nothing.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    Client, ConsulError,
    client::{MAX_TXN, Operation},
    error::{error_of_status, start_of},
    txn,
};

/// Deadline of the request for the datacenter's name. It is short, because a person waits for the answer.
const SHORT: Duration = Duration::from_millis(500);

/// The identity that Consul sees for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// ACLs are disabled: every client has all permissions.
    NoAcls,
    /// Consul does not know the token, or the request has no token. Consul does not describe the anonymous token.
    Unknown,
    /// Consul knows the token.
    Known {
        /// The accessor id. It names the token and is not secret.
        accessor: String,
        /// The token's description.
        description: String,
        /// The names of the token's policies.
        policies: Vec<String>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TokenSelf {
    #[serde(rename = "AccessorID")]
    accessor: String,
    #[serde(default)]
    description: String,
    #[serde(default)]
    policies: Vec<Policy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Policy {
    name: String,
}

/// Whether a 401 is Consul's own, which says that it has no ACLs. A proxy in front of it answers 401 for its own reasons.
fn says_no_acls(body: &[u8]) -> bool {
    start_of(body).contains("ACL support disabled")
}

impl Client {
    /// Returns the address of Consul's leader; none if there is no leader. Needs no permission.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn leader(&self) -> Result<Option<String>, ConsulError> {
        let leader: String = self.json("/v1/status/leader", &[]).await?;
        Ok(Some(leader).filter(|leader| !leader.is_empty()))
    }

    /// Returns the datacenter of this client's requests: the configured one, or the agent's own. Needs no permission. None
    /// if Consul does not answer within `SHORT`.
    pub async fn datacenter(&self) -> Option<String> {
        if let Some(configured) = self.configured_datacenter() {
            return Some(configured.to_owned());
        }
        // Consul sorts them by distance, so the agent's own datacenter is first.
        let answer = timeout(SHORT, self.json::<Vec<String>>("/v1/catalog/datacenters", &[])).await;
        answer.ok()?.ok()?.into_iter().next()
    }

    /// Returns the identity of this client's token.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn identity(&self) -> Result<Identity, ConsulError> {
        let (status, body) = self.get("/v1/acl/token/self", &[]).await?;
        match status {
            StatusCode::OK => {
                let TokenSelf { accessor, description, policies } =
                    serde_json::from_slice(&body).map_err(ConsulError::Json)?;
                Ok(Identity::Known {
                    accessor,
                    description,
                    policies: policies.into_iter().map(|policy| policy.name).collect(),
                })
            }
            StatusCode::UNAUTHORIZED if says_no_acls(&body) => Ok(Identity::NoAcls),
            StatusCode::FORBIDDEN => Ok(Identity::Unknown),
            other => Err(error_of_status(other, &body)),
        }
    }

    /// Returns for each of `keys`, at most [`MAX_TXN`], whether the token may write it.
    ///
    /// Writes nothing: it sends a transaction of check-and-sets with an index that no key can have. Consul checks the
    /// permissions of all operations first, and reports the denied ones. If none is denied, all operations fail as
    /// conflicts.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn may_write(&self, keys: &[String]) -> Result<Vec<bool>, ConsulError> {
        let keys = &keys[..keys.len().min(MAX_TXN)];
        let never = |key: &String| Operation::Cas { key: key.clone(), value: Vec::new(), index: u64::MAX };
        let (status, body) = self.transaction(&keys.iter().map(never).collect::<Vec<_>>()).await?;
        match status {
            StatusCode::CONFLICT => {
                let failed = txn::failed(&body)?;
                let denied = |position: usize| failed.iter().any(|failed| failed.denied && failed.position == position);
                Ok((0..keys.len()).map(|position| !denied(position)).collect())
            }
            // Consul does not know the token: it may write nothing.
            StatusCode::FORBIDDEN => Ok(vec![false; keys.len()]),
            other => Err(error_of_status(other, &body)),
        }
    }

    /// Lists the first segments of all keys that the token may read, such as `weightd/`.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn first_segments(&self) -> Result<Vec<String>, ConsulError> {
        self.json("/v1/kv/", &[("keys", String::new()), ("separator", "/".to_owned())]).await
    }

    async fn json<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        parameters: &[(&str, String)],
    ) -> Result<T, ConsulError> {
        let (status, body) = self.get(path, parameters).await?;
        if status == StatusCode::OK {
            serde_json::from_slice(&body).map_err(ConsulError::Json)
        } else {
            Err(error_of_status(status, &body))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_consul_says_that_there_are_no_acls() {
        assert!(says_no_acls(b"ACL support disabled") && says_no_acls(b"ACL support disabled\n"));
        for other in ["", "Unauthorized", "<html><h1>401 Authorization Required</h1></html>"] {
            assert!(!says_no_acls(other.as_bytes()), "{other}");
        }
    }
}
