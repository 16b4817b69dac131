//! What follows from the actions of a tick: transactions, evidence and logs in Consul, and what people are told.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep};
use tracing::{debug, warn};
use weightd_core::{
    desired::{Instruction, Published},
    model::BackendName,
    rollout::{Action, Now, State, keys::RolloutKeys, observe::Answer},
};

use super::{
    leader::{Leader, Outcome},
    leadership::Term,
    telling,
    tracked::Tracked,
};
use crate::{
    base::{chain::Chain, retry::Backoff},
    consul::ConsulError,
    documents::{
        Documents, DocumentsError,
        lead::{Lead, Led},
    },
};

/// The pause after a conflict, after a transaction that was lost, and after one that Consul refuses.
const AFTER_CONFLICT: Duration = Duration::from_millis(100);
const AFTER_LOSS: Duration = Duration::from_secs(1);
const AFTER_REFUSAL: Duration = Duration::from_secs(5);
/// The most values of one transaction of notes, and their bytes: Consul takes 62 operations and 512 KiB.
const MAX_NOTES: usize = 40;
const MAX_NOTE_BYTES: usize = 200 * 1024;

impl Leader {
    pub(super) fn lead(&self, term: &Term, backend: &BackendName) -> Lead {
        let tracked = self.all.get(backend);
        let document = self.world.document(backend);
        Lead {
            session: term.session.clone(),
            backend: backend.clone(),
            spec: tracked.map(Tracked::spec_index),
            request: self.world.requests.now().get(backend.as_str()).map_or(0, |value| value.index),
            approval: None,
            state: tracked.map_or(0, |tracked| tracked.state_index),
            has_leaves: matches!(document, Some(Published::Valid(Instruction::Leaves(_)))),
        }
    }

    pub(super) fn act(&mut self, term: &Term, backend: &BackendName, action: Action, now: Now) {
        match action {
            Action::Transact(transaction) => {
                let mut lead = self.lead(term, backend);
                let Some(tracked) = self.all.get_mut(backend) else { return };
                let Some(rollout) = &tracked.rollout else { return };
                let spec = rollout.spec.clone();
                // An approval that was taken back since has no effect.
                if transaction.state.approval != rollout.state.approval {
                    let approvals = self.world.approvals.now();
                    lead.approval = Some(approvals.get(backend.as_str()).map_or(0, |value| value.index));
                }
                tracked.under_way = Some(transaction.attempt);
                debug!(%backend, attempt = transaction.attempt, phase = transaction.state.phase.as_str(), "transaction");
                let (documents, sender, again) =
                    (self.documents.clone(), self.outcomes.0.clone(), self.world.reading());
                let stop = self.stop.clone();
                self.shared.tasks.spawn(async move {
                    let asked = async {
                        let done = documents.lead(&lead, &spec, &transaction, now.wall).await;
                        found_out(&documents, &lead, &transaction.state, done, again).await
                    };
                    if let Some(done) = stop.run_until_cancelled(asked).await {
                        // Without a receiver the term has ended.
                        let _ = sender.send(Outcome { backend: lead.backend, attempt: transaction.attempt, done });
                    }
                });
            }
            Action::Persist(evidence) => {
                if let Some(tracked) = self.all.get_mut(backend) {
                    tracked.evidence = Some(*evidence);
                }
            }
            Action::Tell(event) => {
                if let Some(tracked) = self.all.get_mut(backend)
                    && let Some(rollout) = &tracked.rollout
                {
                    let entry = self.shared.teller.tell(backend, rollout, &event, now.wall);
                    tracked.log(entry);
                }
            }
        }
    }

    /// Writes the first state of a rollout, or the last one of a rollout without a spec. It is read back before anything else
    /// happens.
    pub(super) fn begin(&self, lead: Lead, state: State) {
        let (documents, sender) = (self.documents.clone(), self.outcomes.0.clone());
        let (again, after) = (self.world.reading(), self.world.reading());
        let stop = self.stop.clone();
        self.shared.tasks.spawn(async move {
            let asked = async {
                let done = documents.begin_rollout(&lead, &state).await;
                let done = found_out(&documents, &lead, &state, done, again).await;
                if done.is_ok()
                    && let Err(error) = after.await
                {
                    debug!(error = %Chain(&error), "not read again");
                }
                done
            };
            if let Some(done) = stop.run_until_cancelled(asked).await {
                let _ = sender.send(Outcome { backend: lead.backend, attempt: 0, done });
            }
        });
    }

    /// Takes the answer to a transaction.
    pub(super) fn settle(&mut self, outcome: Outcome) {
        let Outcome { backend, attempt, done } = outcome;
        let Some(tracked) = self.all.get_mut(&backend) else { return };
        if tracked.under_way != Some(attempt) {
            return;
        }
        tracked.under_way = None;
        self.shared.teller.counted(&done);
        let (answer, pause) = match done {
            Ok(Led::Applied(index)) => {
                // The first state is not known here: it is read.
                if attempt > 0 {
                    tracked.written(index);
                }
                (Answer::Applied(index), Duration::ZERO)
            }
            Ok(Led::Conflict) => (Answer::Conflict, AFTER_CONFLICT),
            Ok(Led::Lost) => (Answer::Lost, AFTER_LOSS),
            Err(error) => {
                let hint = telling::rule(&error);
                warn!(%backend, error = %Chain(&error), hint, "the rollout cannot be written");
                (Answer::Lost, AFTER_REFUSAL)
            }
        };
        tracked.answer = (attempt > 0).then_some((attempt, answer));
        tracked.not_before = (!pause.is_zero()).then(|| Instant::now() + pause);
    }

    /// Writes evidence and logs that changed: all together, one write at a time.
    pub(super) fn note(&mut self, term: &Term) {
        let Ok(permit) = Arc::clone(&self.noting).try_acquire_owned() else { return };
        let keys = RolloutKeys(&self.shared.root);
        let (mut values, mut bytes) = (Vec::new(), 0);
        for (backend, tracked) in &mut self.all {
            if values.len() >= MAX_NOTES || bytes > MAX_NOTE_BYTES {
                break;
            }
            if let Some(evidence) = tracked.evidence.take() {
                values.push((keys.evidence(backend), evidence.to_value()));
            }
            if std::mem::take(&mut tracked.log_changed) {
                values.push((keys.log(backend), tracked.log.to_value()));
            }
            bytes = values.iter().map(|(_, value)| value.len()).sum();
        }
        if values.is_empty() {
            return;
        }
        let (documents, session) = (self.documents.clone(), term.session.clone());
        let [evidence, logs] =
            [keys.evidences(), keys.logs()].map(|prefix| format!("key_prefix \"{prefix}\" {{ policy = \"write\" }}"));
        let rules = format!("{evidence} and {logs}");
        self.shared.tasks.spawn(async move {
            match documents.note(&session, values).await {
                Ok(true) => {}
                Ok(false) => warn!("evidence and logs are not written: another controller leads"),
                // Both may be lost: the evidence costs a minute, and the log of this program has each event.
                Err(error) => {
                    let hint = telling::needed(&error, &rules);
                    warn!(error = %Chain(&error), hint, "evidence and logs are not written");
                    sleep(AFTER_LOSS).await;
                }
            }
            drop(permit);
        });
    }
}

/// Finds out what became of a transaction, and after a conflict reads everything again.
async fn found_out(
    documents: &Documents,
    lead: &Lead,
    state: &State,
    mut done: Result<Led, DocumentsError>,
    again: impl Future<Output = Result<(), ConsulError>>,
) -> Result<Led, DocumentsError> {
    let mut backoff = Backoff::new(AFTER_CONFLICT, AFTER_REFUSAL);
    while let Err(DocumentsError::UnknownResult { .. } | DocumentsError::Read { .. }) = done {
        sleep(backoff.next()).await;
        done = documents.was_led(lead, state).await;
    }
    if !matches!(done, Ok(Led::Applied(_)))
        && let Err(error) = again.await
    {
        debug!(error = %Chain(&error), "not read again");
    }
    done
}
