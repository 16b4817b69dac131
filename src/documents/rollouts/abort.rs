use weightd_core::{
    desired::PatternShare,
    model::{BackendName, Timestamp},
    rollout::{
        Request, Spec, State, Verb,
        abort::{Abort, WhyAsk, abort},
        known,
    },
};

use super::{RolloutRead, new_id, rules};
use crate::{
    consul::client::{Committed, ConsulError, Operation},
    documents::{
        Documents, DocumentsError,
        commit::{Commit, Failed, Without},
        edit::{self, Edit, Write},
        lead::{going_back, intent},
        may_have_happened, operations,
        single::KeyWrite,
    },
};

/// Attempts of an abort while the leader or other people write.
const ATTEMPTS: usize = 8;

/// The result of an abort.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aborted {
    /// There is no rollout.
    Nothing,
    /// It had ended before.
    Ended(Box<State>),
    /// No controller had begun it: it is withdrawn, and nothing was moved.
    Withdrawn,
    /// The document goes back: the read-back confirms it.
    Wrote {
        /// The share of the new side.
        share: PatternShare,
        /// The `ModifyIndex` of the document.
        index: u64,
        /// The request that was written with it.
        request: Box<Request>,
        /// The optional parts that the write went without.
        without: Vec<Without>,
    },
    /// Only the request was written.
    Asked {
        /// The request.
        request: Box<Request>,
        /// Why the document was not.
        why: WhyAsk,
    },
    /// Nothing was written: others changed the keys in each attempt.
    Conflict,
    /// Consul confirmed the write, and another writer has replaced the document since.
    Superseded,
}

/// Who aborts.
#[derive(Debug, Clone, Copy)]
struct By<'a> {
    name: &'a str,
    reason: Option<&'a str>,
    at: Timestamp,
}

impl Documents {
    /// Takes the new side back at once and ends the rollout: the split of the start, its entry in the history and the request
    /// in one transaction. No freeze stops it, and it needs no controller. Where nothing has moved, only the request is
    /// written.
    ///
    /// # Errors
    /// [`DocumentsError::Write`] with the rules that the token needs, [`DocumentsError::UnknownResult`] if the result is
    /// unknown.
    pub async fn abort_rollout(
        &self,
        backend: &BackendName,
        by: &str,
        reason: Option<&str>,
        at: Timestamp,
    ) -> Result<Aborted, DocumentsError> {
        let by = By { name: by, reason, at };
        for _ in 0..ATTEMPTS {
            let seen = self.rollout(backend).await?;
            let published = self.published(backend).await?;
            let (spec, state) = (seen.spec.get(), seen.state.get());
            let document = spec.map(|spec| known::document(spec, published.as_ref())).unwrap_or_default();
            let decided = match (seen.state.unreadable(), spec, seen.spec.unreadable()) {
                // A rollout may be under way, and its sides are not known.
                (Some(_), Some(_), _) => Abort::Ask(WhyAsk::SpecChanged),
                _ => abort(spec, state, document),
            };
            let done = match decided {
                Abort::Nothing => Some(Aborted::Nothing),
                Abort::Ended => Some(state.map_or(Aborted::Nothing, |state| Aborted::Ended(Box::new(state.clone())))),
                Abort::Withdraw => self.withdraw(backend, &seen).await?,
                Abort::Ask(why) => self.only_ask(backend, &seen, by, why).await?,
                Abort::Write(share) => match spec {
                    Some(spec) => self.go_back(backend, &seen, spec, (share, document.index), by).await?,
                    None => None,
                },
            };
            if let Some(done) = done {
                return Ok(done);
            }
        }
        Ok(Aborted::Conflict)
    }

    /// Deletes a spec that no controller has begun. None if one was faster: then its state is there, and it is asked.
    async fn withdraw(&self, backend: &BackendName, seen: &RolloutRead) -> Result<Option<Aborted>, DocumentsError> {
        let keys = self.rollout_keys();
        let key = keys.spec(backend);
        let operations = [
            Operation::DeleteCas { key: key.clone(), index: seen.spec.index },
            Operation::Set { key: keys.request(backend), value: b"{}".to_vec() },
        ];
        let lost = match self.client.all_or_none(&operations).await {
            Ok(Some(_)) => None,
            Ok(None) => return Ok(None),
            Err(error) if may_have_happened(&error) => Some(error),
            Err(source) => return Err(DocumentsError::Write { key, rule: rules(&operations), source }),
        };
        // Only a read shows whether Consul did it, and whether a leader had begun the rollout just before. The transaction
        // cannot check that there is no state: for that Consul asks for the right to write it.
        let now = match (self.rollout_now(backend).await, lost) {
            (Ok(now), None) => now,
            (Ok(now), Some(_)) if now.spec.index == 0 => now,
            (Ok(_) | Err(_), Some(error)) => return Err(unknown(backend, key, error)),
            (Err(error), None) => return Err(error),
        };
        let is_own = |state: &State| seen.spec.get().is_some_and(|spec| spec.id == state.id);
        let has_begun = now.state.get().is_some_and(is_own);
        Ok((!has_begun).then_some(Aborted::Withdrawn))
    }

    async fn only_ask(
        &self,
        backend: &BackendName,
        seen: &RolloutRead,
        by: By<'_>,
        why: WhyAsk,
    ) -> Result<Option<Aborted>, DocumentsError> {
        let Some(request) = request(seen, by, false) else { return Ok(Some(Aborted::Nothing)) };
        match self.ask_rollout(backend, &request, seen.request.index).await? {
            KeyWrite::Yes(_) => Ok(Some(Aborted::Asked { request: Box::new(request), why })),
            KeyWrite::Conflict | KeyWrite::Superseded => Ok(None),
        }
    }

    /// Writes the split of the start with the request. None if something changed meanwhile; `document` is the index of the
    /// document that was seen.
    async fn go_back(
        &self,
        backend: &BackendName,
        seen: &RolloutRead,
        spec: &Spec,
        (share, document): (PatternShare, u64),
        by: By<'_>,
    ) -> Result<Option<Aborted>, DocumentsError> {
        let Some(request) = request(seen, by, true) else { return Ok(None) };
        let Ok(split) = spec.split(share) else { return Ok(None) };
        let mut left_out: Vec<Without> = Vec::new();
        for _ in 0..ATTEMPTS {
            let context = self.context(backend).await?;
            if context.stored.as_ref().map_or(0, |stored| stored.index) != document {
                return Ok(None);
            }
            let reason = by.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
            let reason = format!("rollout {}: aborted{reason}", spec.id);
            let intent = going_back(intent(by.name.to_owned(), reason, by.at, &context), spec, &split);
            let Ok(edit) = edit::split(backend, context.stored.as_ref(), &split, &intent) else { return Ok(None) };
            let Edit { write: write @ Write::Document { value, .. }, entry: Some(entry), .. } = &edit else {
                // The document is there already: a leader or another person was faster.
                return Ok(None);
            };
            let keys = self.rollout_keys();
            let mut documents = operations(&self.key(backend), write);
            documents.push(Operation::CheckIndex { key: keys.state(backend), index: seen.state.index });
            documents.push(Operation::CheckIndex { key: keys.spec(backend), index: seen.spec.index });
            documents.push(Operation::Set { key: keys.request(backend), value: request.to_value() });
            let needed = rules(&documents);
            let commit = Commit::of(documents, entry, &context, (&self.root, backend), true, &left_out);
            let confirmed = match self.client.transact(&commit.operations).await {
                Ok(Committed::Yes(_)) => None,
                Ok(Committed::No(failed)) => match commit.judge(&failed) {
                    Failed::Conflict => return Ok(None),
                    Failed::Denied(what) => {
                        let source = ConsulError::Denied(what);
                        return Err(DocumentsError::Write { key: self.key(backend), rule: needed, source });
                    }
                    Failed::WithoutParts(parts) => {
                        left_out.extend(parts);
                        continue;
                    }
                    Failed::ReadAgain => continue,
                },
                Err(error) if may_have_happened(&error) => Some(error),
                Err(source) => {
                    return Err(DocumentsError::Write { key: self.key(backend), rule: needed, source });
                }
            };
            let key = self.key(backend);
            return match (self.index_of(&key, value).await, confirmed) {
                (Ok(Some(index)), _) => {
                    let (request, without) = (Box::new(request), commit.without);
                    Ok(Some(Aborted::Wrote { share, index, request, without }))
                }
                (Ok(None), None) => Ok(Some(Aborted::Superseded)),
                (Ok(None) | Err(_), Some(error)) | (Err(error), None) => Err(unknown(backend, key, error)),
            };
        }
        Ok(None)
    }
}

fn unknown(backend: &BackendName, key: String, source: ConsulError) -> DocumentsError {
    let hint = format!("`weightctl rollout status {backend}` shows what happened; abort it again if it goes on");
    DocumentsError::UnknownResult { key, hint, source }
}

/// The request; none without a rollout that could be named.
fn request(seen: &RolloutRead, by: By<'_>, wrote: bool) -> Option<Request> {
    let state = seen.state.get();
    let active = state.filter(|state| !state.phase.is_final()).map(|state| state.id.clone());
    let rollout = active.or_else(|| seen.spec.get().map(|spec| spec.id.clone()))?;
    let at = state.map_or(0, |state| state.seq);
    let request = Request::new(new_id(), Verb::Abort { wrote }, rollout, at, by.name, by.reason);
    Some(Request { when: Some(by.at), ..request })
}
