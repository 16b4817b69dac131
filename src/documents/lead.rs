//! The only way in which a leader of rollouts writes: one transaction that fails as a whole if it is not the leader any more,
//! or if anything that it decided on has changed.
//!
//! Owns the order of the operations and the meaning of Consul's answer. What is written is decided by
//! [`weightd_core::rollout::tick()`].

use weightd_core::{
    desired::{PatternShare, Split},
    history::{To, Way},
    model::{BackendName, Timestamp},
    rollback::entry_with,
    rollout::{Phase, Spec, State, Transaction, keys::RolloutKeys},
};

use super::{
    Context, Documents, DocumentsError, Optional,
    commit::{Commit, Failed, Part, Without, still},
    edit::{self, Intent, Write},
    may_have_happened, operations, read_error,
};
use crate::consul::{
    client::{Committed, ConsulError, Operation},
    session::SessionId,
};

/// Before the name of the person for whom a leader writes: the `by` of its documents.
pub const ROLLOUTD: &str = "rolloutd for ";
/// Attempts of a transaction that clashes on history or freeze alone.
const ATTEMPTS: usize = 5;

/// What a leader knows of the keys of a rollout.
#[derive(Debug, Clone)]
pub struct Lead {
    /// The session that holds `controller`.
    pub session: SessionId,
    /// The backend.
    pub backend: BackendName,
    /// The `ModifyIndex` of `rollouts/spec/<b>`; 0 if there is none. None: the spec does not matter.
    pub spec: Option<u64>,
    /// The `ModifyIndex` of `rollouts/request/<b>`; 0 if there is none.
    pub request: u64,
    /// The `ModifyIndex` of `rollouts/approval/<b>`, where the transaction answers it; none where it does not matter.
    pub approval: Option<u64>,
    /// The `ModifyIndex` of `rollouts/state/<b>`; 0 if there is none.
    pub state: u64,
    /// Whether the backend has leaves: there is no document whose index could be checked.
    pub has_leaves: bool,
}

/// What became of a transaction of the leader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Led {
    /// It happened; with this index.
    Applied(u64),
    /// Something changed: nothing happened.
    Conflict,
    /// It did not happen.
    Lost,
}

impl Documents {
    /// Writes a transition.
    ///
    /// # Errors
    /// [`DocumentsError::UnknownResult`]: only [`Documents::was_led`] shows whether it happened. Every other error: nothing was
    /// written.
    pub async fn lead(
        &self,
        lead: &Lead,
        spec: &Spec,
        transaction: &Transaction,
        at: Timestamp,
    ) -> Result<Led, DocumentsError> {
        let goes_back = transaction.state.phase == Phase::RollingBack;
        let obeys = transaction.obeys_freeze;
        let mut left_out: Vec<Without> = Vec::new();
        for _ in 0..ATTEMPTS {
            let commit = match transaction.write {
                Some(share) => match self.document_of(lead, spec, transaction, share, at, &left_out).await? {
                    Some(commit) => commit,
                    None => return Ok(Led::Conflict),
                },
                None => self.state_alone(lead, transaction, &left_out).await?,
            };
            match self.client.transact(&commit.operations).await {
                Ok(Committed::Yes(index)) => return Ok(Led::Applied(index)),
                Ok(Committed::No(failed)) => match commit.judge(&failed) {
                    Failed::Conflict => return Ok(Led::Conflict),
                    Failed::Denied(what) => return Err(self.not_led(lead, obeys, ConsulError::Denied(what))),
                    Failed::WithoutParts(parts) => left_out.extend(parts),
                    // Going back never waits for a history that others write as well.
                    Failed::ReadAgain if goes_back => {
                        left_out.push(Without { part: Part::History, why: "another writer was faster".to_owned() });
                    }
                    Failed::ReadAgain => {}
                },
                Err(error) if may_have_happened(&error) => return Err(self.unknown_lead(lead, error)),
                Err(error) => return Err(self.not_led(lead, obeys, error)),
            }
        }
        Ok(Led::Conflict)
    }

    /// A state that no tick decided on: the first one of a rollout, or the last one of a rollout without a spec. The spec and
    /// the request are still the ones that it is made from.
    ///
    /// # Errors
    /// As [`Documents::lead`].
    pub async fn begin_rollout(&self, lead: &Lead, state: &State) -> Result<Led, DocumentsError> {
        let mut operations = self.fence(lead);
        operations.push(self.state_of(lead, state));
        match self.client.all_or_none(&operations).await {
            Ok(done) => Ok(done.map_or(Led::Conflict, Led::Applied)),
            Err(error) if may_have_happened(&error) => Err(self.unknown_lead(lead, error)),
            Err(error) => Err(self.not_led(lead, false, error)),
        }
    }

    /// Writes values that only the leader writes and that nobody decides on: evidence and logs.
    ///
    /// # Errors
    /// [`ConsulError`]. False if this is not the leader any more.
    pub async fn note(&self, session: &SessionId, values: Vec<(String, Vec<u8>)>) -> Result<bool, ConsulError> {
        let controller = RolloutKeys(&self.root).controller();
        let fence = Operation::CheckSession { key: controller, session: session.clone() };
        let values = values.into_iter().map(|(key, value)| Operation::Set { key, value });
        let operations: Vec<_> = [fence].into_iter().chain(values).collect();
        self.client.all_or_none(&operations).await.map(|done| done.is_some())
    }

    /// The checks that every transaction of a leader begins with.
    fn fence(&self, lead: &Lead) -> Vec<Operation> {
        let keys = RolloutKeys(&self.root);
        let mut operations = vec![Operation::CheckSession { key: keys.controller(), session: lead.session.clone() }];
        operations.push(Operation::unchanged(keys.request(&lead.backend), lead.request));
        operations.extend(lead.approval.map(|index| Operation::unchanged(keys.approval(&lead.backend), index)));
        operations.extend(lead.spec.map(|index| Operation::unchanged(keys.spec(&lead.backend), index)));
        operations
    }

    fn state_of(&self, lead: &Lead, state: &State) -> Operation {
        let key = RolloutKeys(&self.root).state(&lead.backend);
        Operation::Cas { key, value: state.to_value(), index: lead.state }
    }

    /// The transaction that writes a document; none if the document or a freeze changed.
    async fn document_of(
        &self,
        lead: &Lead,
        spec: &Spec,
        transaction: &Transaction,
        share: PatternShare,
        at: Timestamp,
        left_out: &[Without],
    ) -> Result<Option<Commit>, DocumentsError> {
        let backend = &lead.backend;
        let context = self.context(backend).await?;
        let index = context.stored.as_ref().map_or(0, |stored| stored.index);
        let frozen = transaction.obeys_freeze && context.frozen(backend).is_some();
        let Ok(split) = spec.split(share) else { return Ok(None) };
        if frozen || transaction.document.is_some_and(|document| document != index) {
            return Ok(None);
        }
        let by = format!("{ROLLOUTD}{}", spec.by);
        let intent = intent(by, reason(spec, transaction, share), at, &context);
        let goes_back = transaction.state.phase == Phase::RollingBack;
        let intent = if goes_back { going_back(intent, spec, &split) } else { intent };
        // Refused is only what no rollout starts with, so somebody changed the document.
        let Ok(edit) = edit::split(backend, context.stored.as_ref(), &split, &intent) else { return Ok(None) };
        let (Some(entry), Write::Document { .. }) = (&edit.entry, &edit.write) else { return Ok(None) };
        let mut documents = self.fence(lead);
        documents.extend(operations(&self.key(backend), &edit.write));
        documents.push(self.state_of(lead, &transaction.state));
        if transaction.obeys_freeze {
            // A person's write goes without a freeze that it may not read, and says so; nobody would read that of a leader.
            let keys = self.keys();
            for (key, freeze) in [(keys.freeze_all(), &context.freeze_all), (keys.freeze(backend), &context.freeze)] {
                match still(key, freeze) {
                    Ok(operation) => documents.push(operation),
                    Err(why) => return Err(self.not_led(lead, true, ConsulError::Denied(why.to_owned()))),
                }
            }
        }
        Ok(Some(Commit::of(documents, entry, &context, (&self.root, backend), true, left_out)))
    }

    /// The transaction that writes the state alone, and at the end of a rollout marks it in the history.
    async fn state_alone(
        &self,
        lead: &Lead,
        transaction: &Transaction,
        left_out: &[Without],
    ) -> Result<Commit, DocumentsError> {
        let key = self.key(&lead.backend);
        let mut documents = self.fence(lead);
        let document = transaction.document.filter(|_| !lead.has_leaves);
        documents.extend(document.map(|index| Operation::unchanged(key, index)));
        documents.push(self.state_of(lead, &transaction.state));
        let mut history = None;
        if transaction.ends && left_out.is_empty() {
            let context = self.context(&lead.backend).await?;
            let before = context.before();
            if let Optional::Present(known, index) = context.history
                && let Some(ended) = known.with_document(before).end_rollout()
            {
                let key = self.keys().history(&lead.backend);
                history = Some(Operation::Cas { key, value: ended.to_value(), index });
            }
        }
        Ok(Commit::alone(documents, history))
    }

    /// Whether a transition happened whose answer was lost.
    ///
    /// # Errors
    /// [`DocumentsError::Read`] if Consul does not answer: it is not known.
    pub async fn was_led(&self, lead: &Lead, state: &State) -> Result<Led, DocumentsError> {
        let key = RolloutKeys(&self.root).state(&lead.backend);
        let found = self.index_of(&key, &state.to_value()).await;
        found.map(|index| index.map_or(Led::Lost, Led::Applied)).map_err(|source| read_error(&key, source))
    }

    fn unknown_lead(&self, lead: &Lead, source: ConsulError) -> DocumentsError {
        let hint = "the leader reads it again".to_owned();
        DocumentsError::UnknownResult { key: RolloutKeys(&self.root).state(&lead.backend), hint, source }
    }

    fn not_led(&self, lead: &Lead, obeys_freeze: bool, source: ConsulError) -> DocumentsError {
        let key = RolloutKeys(&self.root).state(&lead.backend);
        let mut needed = vec![key.clone(), self.key(&lead.backend), RolloutKeys(&self.root).controller()];
        if obeys_freeze {
            needed.extend([self.keys().freeze_all(), self.keys().freeze(&lead.backend)]);
        }
        let needed: Vec<_> = needed.iter().map(|key| format!(r#"key "{key}" {{ policy = "write" }}"#)).collect();
        let rule = needed.join(" ");
        DocumentsError::Write { key, rule, source }
    }
}

/// The writer, the reason and the way of a document that a rollout writes.
pub(super) fn intent(by: String, reason: String, at: Timestamp, context: &Context) -> Intent {
    Intent {
        by,
        reason: Some(reason),
        at: at.to_string(),
        way: Way::Rollout,
        token: context.token.clone(),
        history: context.entries(),
        create: true,
        ..Intent::default()
    }
}

/// The same of a document that takes the new side back to `split`. It is a rollback in the history: a person who rolls back
/// after it would bring back what it took away.
pub(super) fn going_back(intent: Intent, spec: &Spec, split: &Split) -> Intent {
    let target = entry_with(&intent.history, &To::Split(split.clone()));
    Intent { way: Way::Rollback, target, raised: spec.to.clone(), ..intent }
}

/// The reason in the document.
fn reason(spec: &Spec, transaction: &Transaction, share: PatternShare) -> String {
    let State { phase, step, why, .. } = &transaction.state;
    match (phase, why) {
        (Phase::RollingBack, Some(why)) => format!("rollout {}: back to {} %: {why}", spec.id, share.percent()),
        _ => format!("rollout {}: step {step} of {}, {} %", spec.id, spec.plan.steps.len(), share.percent()),
    }
}
