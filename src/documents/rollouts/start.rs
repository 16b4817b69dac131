use weightd_core::{
    model::BackendName,
    rollout::{BadValue, Spec},
};

use super::{RolloutRead, rules};
use crate::{
    consul::client::{Committed, ConsulError, Operation},
    documents::{Documents, DocumentsError, may_have_happened},
};

/// The result of a start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// The read-back confirms it: the `ModifyIndex` of the spec.
    Yes(u64),
    /// Nothing was written: the document or the spec changed since they were read.
    Conflict,
    /// Consul confirmed it, and another writer has replaced the spec since.
    Superseded,
    /// Nothing was written: no controller could read the spec.
    Invalid(BadValue),
}

impl Documents {
    /// Starts a rollout, if `document` still is the `ModifyIndex` of the document and no other rollout was started since
    /// `seen` was read. A controller then begins it.
    ///
    /// # Errors
    /// [`DocumentsError::Write`] with the rules that the token needs, [`DocumentsError::UnknownResult`] if the result is
    /// unknown.
    pub async fn start_rollout(
        &self,
        backend: &BackendName,
        spec: &Spec,
        seen: &RolloutRead,
        document: u64,
    ) -> Result<Started, DocumentsError> {
        let value = match spec.to_value() {
            Ok(value) => value,
            Err(bad) => return Ok(Started::Invalid(bad)),
        };
        let keys = self.rollout_keys();
        let key = keys.spec(backend);
        let operations = [
            Operation::Cas { key: key.clone(), value: value.clone(), index: seen.spec.index },
            // The leader checks the index of the request, so the key must exist.
            Operation::Set { key: keys.request(backend), value: b"{}".to_vec() },
            Operation::CheckIndex { key: self.key(backend), index: document },
        ];
        let unknown = |source| DocumentsError::UnknownResult {
            key: key.clone(),
            hint: format!("`weightctl rollout status {backend}` shows whether it has begun"),
            source,
        };
        let denied = |source| DocumentsError::Write { key: key.clone(), rule: rules(&operations), source };
        match self.client.transact(&operations).await {
            Ok(Committed::Yes(_)) => match self.index_of(&key, &value).await {
                Ok(Some(index)) => Ok(Started::Yes(index)),
                Ok(None) => Ok(Started::Superseded),
                Err(error) => Err(unknown(error)),
            },
            Ok(Committed::No(failed)) => match failed.iter().find(|failed| failed.denied) {
                Some(first) => {
                    let missing = failed.iter().filter(|failed| failed.denied);
                    let missing: Vec<_> =
                        missing.filter_map(|failed| operations.get(failed.position).cloned()).collect();
                    let source = ConsulError::Denied(first.what.clone());
                    Err(DocumentsError::Write { key: key.clone(), rule: rules(&missing), source })
                }
                None => Ok(Started::Conflict),
            },
            // Only a read shows whether Consul did it.
            Err(error) if may_have_happened(&error) => match self.index_of(&key, &value).await {
                Ok(Some(index)) => Ok(Started::Yes(index)),
                Ok(None) | Err(_) => Err(unknown(error)),
            },
            Err(error) => Err(denied(error)),
        }
    }
}
