//! Whether Consul can be worked with and what a token may do, found out without doing it.

use std::time::Duration;

use reqwest::StatusCode;
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    Client, ConsulError,
    client::{MAX_TXN, Operation, refused},
    txn,
};

/// How long the datacenter's name may take: a person waits for it.
const SHORT: Duration = Duration::from_millis(500);

/// Whom Consul takes a token for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// It has no ACLs: everybody may do everything.
    NoAcls,
    /// It does not know the token. So it is also where there is none: whom it stands for is not said.
    Unknown,
    /// It knows it.
    Known {
        /// What names the token, and does not give its rights to who reads it.
        accessor: String,
        /// The names of its policies.
        policies: Vec<String>,
    },
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TokenSelf {
    #[serde(rename = "AccessorID")]
    accessor: String,
    #[serde(default)]
    policies: Vec<Policy>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Policy {
    name: String,
}

impl Client {
    /// The address of Consul's leader; none where there is no leader. Needs no right.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn leader(&self) -> Result<Option<String>, ConsulError> {
        let leader: String = self.json("/v1/status/leader", &[]).await?;
        Ok(Some(leader).filter(|leader| !leader.is_empty()))
    }

    /// The datacenter that this client reads and writes: the configured one, else the agent's own. Needs no right. None if
    /// Consul does not answer within [`SHORT`].
    pub async fn datacenter(&self) -> Option<String> {
        if let Some(configured) = self.configured_datacenter() {
            return Some(configured.to_owned());
        }
        // Sorted by distance: the agent's own is the first.
        let answer = timeout(SHORT, self.json::<Vec<String>>("/v1/catalog/datacenters", &[])).await;
        answer.ok()?.ok()?.into_iter().next()
    }

    /// Whom Consul takes this client for.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn identity(&self) -> Result<Identity, ConsulError> {
        let (status, body) = self.get("/v1/acl/token/self", &[]).await?;
        match status {
            StatusCode::OK => {
                let TokenSelf { accessor, policies } = serde_json::from_slice(&body).map_err(ConsulError::Json)?;
                Ok(Identity::Known { accessor, policies: policies.into_iter().map(|policy| policy.name).collect() })
            }
            // "ACL support disabled".
            StatusCode::UNAUTHORIZED => Ok(Identity::NoAcls),
            StatusCode::FORBIDDEN => Ok(Identity::Unknown),
            other => Err(refused(other, &body)),
        }
    }

    /// For each of `keys`, at most [`MAX_TXN`], whether the token may write it.
    ///
    /// Nothing is written: it is a transaction of check-and-sets on an index that no key can have. Consul looks at the
    /// rights of all its operations first, and names those that are denied; where none is, all of them come too late.
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
            // Whom Consul does not know may write nothing.
            StatusCode::FORBIDDEN => Ok(vec![false; keys.len()]),
            other => Err(refused(other, &body)),
        }
    }

    /// Which first parts keys have, such as `weightd/`, as far as the token may see them.
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
            Err(refused(status, &body))
        }
    }
}
