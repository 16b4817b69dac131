//! Tells people what happened in rollouts: the log of this program, which is the audit, and the webhooks. Never in the way.

use std::sync::Arc;

use tracing::{info, warn};
use weightd_core::{
    desired::PatternShare,
    model::{BackendName, Escaped, Timestamp},
    rollout::{Event, EventKind, Rollout, log::Entry},
};

use super::{
    metrics::Metrics,
    webhooks::{Message, Webhooks},
};
use crate::{
    consul::ConsulError,
    documents::{DocumentsError, lead::Led},
};

/// Tells people.
#[derive(Debug, Clone)]
pub(super) struct Teller {
    metrics: Arc<Metrics>,
    webhooks: Arc<Webhooks>,
}

impl Teller {
    pub(super) fn new(metrics: Arc<Metrics>, webhooks: Arc<Webhooks>) -> Self {
        Self { metrics, webhooks }
    }

    /// Tells an event of a rollout, and returns its entry in the rollout's own log.
    pub(super) fn tell(&self, backend: &BackendName, rollout: &Rollout, event: &Event, at: Timestamp) -> Entry {
        let (state, kind) = (&rollout.state, event.kind.as_str());
        let by = event.by.as_deref().unwrap_or("rolloutd");
        let evidence = format!("{:.2}", rollout.judge.total());
        // One line with everything that an audit asks for.
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    %backend,
                    rollout = rollout.spec.id,
                    event = kind,
                    by,
                    phase = state.phase.as_str(),
                    step = state.step,
                    share = state.share.percent(),
                    mode = state.mode.as_str(),
                    evidence,
                    "{}", Escaped(&event.detail)
                )
            };
        }
        if needs_a_person(event.kind) {
            line!(warn);
        } else {
            line!(info);
        }
        self.notify(backend, &rollout.spec.id, state.share, event, at)
    }

    /// Tells an event without a line in the log of the process. `rollout` is its id, `share` that of the new side.
    pub(super) fn notify(
        &self,
        backend: &BackendName,
        rollout: &str,
        share: PatternShare,
        event: &Event,
        at: Timestamp,
    ) -> Entry {
        self.metrics.event(event.kind);
        self.webhooks.send(Message {
            kind: event.kind,
            backend: backend.clone(),
            rollout: rollout.to_owned(),
            share: Some(share),
            detail: event.detail.clone(),
            by: event.by.clone(),
            at,
        });
        Entry {
            rollout: rollout.to_owned(),
            at,
            what: event.kind.as_str().to_owned(),
            detail: event.detail.clone(),
            by: event.by.clone(),
        }
    }

    /// Counts what became of a transaction.
    pub(super) fn counted(&self, done: &Result<Led, DocumentsError>) {
        self.metrics.transaction(match done {
            Ok(Led::Applied(_)) => "applied",
            Ok(Led::Conflict) => "conflict",
            Ok(Led::Lost) => "lost",
            Err(_) => "refused",
        });
    }
}

/// Whether a person should look.
const fn needs_a_person(kind: EventKind) -> bool {
    matches!(
        kind,
        EventKind::Holding
            | EventKind::Latched
            | EventKind::Approval
            | EventKind::Warned
            | EventKind::RollingBack
            | EventKind::RolledBack
            | EventKind::TakenOver
    )
}

/// What to do about a write that failed.
pub(super) fn rule(error: &DocumentsError) -> String {
    match error {
        DocumentsError::Read { rule, source, .. } | DocumentsError::Write { rule, source, .. } => needed(source, rule),
        DocumentsError::UnknownResult { hint, .. } => hint.clone(),
    }
}

/// What to do about a request that failed and needs this ACL rule.
pub(super) fn needed(error: &ConsulError, rule: &str) -> String {
    match error {
        ConsulError::Denied(_) => format!("the token needs: {rule}"),
        error => error.remedy().to_owned(),
    }
}
