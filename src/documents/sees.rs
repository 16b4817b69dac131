//! What a token may see and write, as Consul says. Changes nothing.

use std::collections::BTreeSet;

use weightd_core::model::BackendName;

use super::{Documents, DocumentsError, read_error};
use crate::consul::{ConsulError, rights::Identity};

/// What a token may see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sees {
    /// The backends that it lists.
    pub backends: BTreeSet<BackendName>,
    /// Whether it may read `nodes/`.
    pub nodes: bool,
}

impl Documents {
    /// Who the client is for Consul.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn identity(&self) -> Result<Identity, ConsulError> {
        self.client.identity().await
    }

    /// What the token of the client may see. Consul leaves out the names that it may not.
    ///
    /// # Errors
    /// [`DocumentsError::Read`], also if Consul refuses to list anything.
    pub async fn sees(&self) -> Result<Sees, DocumentsError> {
        let nodes_prefix = self.keys().nodes();
        let (children, nodes) =
            tokio::join!(self.client.children(&self.prefix, None), self.client.may_read(&nodes_prefix));
        let keys = children.and_then(|children| children.keys()).map_err(|source| read_error(&self.prefix, source))?;
        let names = keys.iter().filter_map(|key| {
            let name = key.strip_prefix(&self.prefix)?;
            BackendName::new(name.strip_suffix('/').unwrap_or(name)).ok()
        });
        let nodes = match nodes {
            Ok(()) => true,
            Err(ConsulError::Denied(_)) => false,
            Err(source) => return Err(read_error(&nodes_prefix, source)),
        };
        Ok(Sees { backends: names.collect(), nodes })
    }

    /// For each of `keys`, at most 64, whether the token of the client may write it.
    ///
    /// # Errors
    /// [`ConsulError`].
    pub async fn may_write(&self, keys: &[String]) -> Result<Vec<bool>, ConsulError> {
        self.client.may_write(keys).await
    }

    /// The datacenter; none if Consul does not say it within half a second.
    pub async fn datacenter(&self) -> Option<String> {
        self.client.datacenter().await
    }
}
