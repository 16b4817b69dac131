//! Local overrides: an operator sets weights on this node, without Consul.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::{Instant, sleep};
use weightd_core::{
    accept::{self, Guard, Verdict},
    backend::{Backend, Matched},
    desired::Weights,
    model::{BackendName, Escaped, Moment},
    overrides::{self, NoBack, Override},
    reasons::list,
    wire::{
        overriding::{Overridden, OverrideAnswer, OverrideRequest},
        pause::{MAX_PAUSE, MIN_PAUSE},
    },
};

use super::{PauseError, Pausing, check_backend, check_text, end_second};
use crate::weightd::{
    instance::Instance,
    session::{Session, overriding::in_force},
};

/// How long the answer waits for the read-back of the weights, and for the write to disk.
const READ_BACK: Duration = Duration::from_secs(2);
/// Between two looks at the read-back.
const POLL: Duration = Duration::from_millis(10);

/// Why an override is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedOverride {
    /// A guard rejects the weights.
    #[error("{guard}")]
    Guarded {
        /// The guard.
        guard: Guard,
    },
    /// HAProxy has no such backend.
    #[error("no HAProxy of this host has backend `{0}`")]
    NoBackend(BackendName),
    /// HAProxy has no such servers.
    #[error("HAProxy `{}` has no such server: {missing}", Escaped(.instance))]
    NoServer {
        /// The instance.
        instance: String,
        /// The servers in the request.
        missing: String,
        /// The servers of the backend.
        known: String,
    },
    /// The backend is paused.
    #[error("the backend is paused; weightd sets no weight of it")]
    Paused,
    /// weightd sets no weights.
    #[error("this weightd runs in mode observe; it sets no weights")]
    Observe,
    /// The field `back` gives no weights.
    #[error(transparent)]
    Back(#[from] NoBack),
}

impl RefusedOverride {
    /// Returns how to fix it.
    pub fn hint(&self) -> String {
        match self {
            Self::Guarded { guard: Guard::AllZero } => "give one server a weight above 0, or add --force".to_owned(),
            Self::Guarded { .. } => "start a server that gets a weight above 0, or add --force".to_owned(),
            Self::NoBackend(_) => "compare the name with haproxy.cfg".to_owned(),
            Self::NoServer { known, .. } => format!("the backend has these servers: {known}"),
            Self::Paused => {
                "run `weightctl resume` with the same backend first, or without if all are paused".to_owned()
            }
            Self::Observe => "set `mode = \"enforce\"` in weightd.toml and restart weightd".to_owned(),
            Self::Back(_) => {
                "name the weights instead of --back: `weightctl override BACKEND SERVER=WEIGHT … --for 2h --reason 'Consul is gone'`".to_owned()
            }
        }
    }
}

impl Pausing {
    /// Overrides a backend, and waits for the read-back, for at most `READ_BACK`. The override is on disk before the
    /// weights are sent, unless the disk fails: then the answer says so.
    ///
    /// # Errors
    /// [`PauseError`]; nothing is overridden.
    pub async fn override_weights(
        &self,
        request: OverrideRequest,
        uid: Option<u32>,
    ) -> Result<OverrideAnswer, PauseError> {
        let OverrideRequest { backend, instance, weights, force, for_seconds, reason, by } = request;
        if !(MIN_PAUSE..=MAX_PAUSE).contains(&for_seconds) {
            let what = format!("an override must last from {MIN_PAUSE} s to {MAX_PAUSE} s (one week)");
            return Err(PauseError::Invalid(what));
        }
        check_text("reason", Some(&reason))?;
        check_text("by", by.as_deref())?;
        if weights.as_ref().is_some_and(Weights::is_empty) {
            return Err(PauseError::Invalid("an override needs a weight".to_owned()));
        }
        let instances = self.instances(instance.as_deref())?;
        check_backend(&backend, &instances)?;
        // No other local request changes a session meanwhile.
        let _serialized = self.store.lock().await;
        let now = self.clock.now();
        let lasts = Duration::from_secs(for_seconds);
        let over = Override {
            force,
            until_second: end_second(Timestamp::now(), lasts),
            until: now + lasts,
            reason: Some(reason),
            by,
            uid,
            ..Override::default()
        };
        let mut chosen: Vec<(Arc<Instance>, Override)> = Vec::new();
        for instance in instances {
            let decided = decide(&instance.name, &instance.lock(), &backend, weights.as_ref(), &over, now)?;
            if let Some(over) = decided {
                chosen.push((instance, over));
            }
        }
        if chosen.is_empty() {
            return Err(RefusedOverride::NoBackend(backend).into());
        }
        for (instance, over) in &chosen {
            instance.lock().start_override(&backend, over.clone(), now);
            instance.wake.notify_one();
        }
        let read_back_by = Instant::now() + READ_BACK;
        let mut answer = OverrideAnswer { instances: Vec::new(), backend, for_seconds };
        for (instance, over) in chosen {
            let (in_force, stored) = loop {
                // With this lock, no change is on its way to the journal.
                let exchange = instance.exchange.lock().await;
                let has = {
                    let session = instance.lock();
                    let backend = session.backends.get(&answer.backend);
                    (backend.is_some_and(|backend| in_force(backend, &over)), session.is_stored(&answer.backend))
                };
                drop(exchange);
                // Where the journal cannot be written, the state file follows within a second.
                if has == (true, true) || Instant::now() >= read_back_by {
                    break has;
                }
                sleep(POLL).await;
            };
            let instance = instance.name.clone();
            answer.instances.push(Overridden { instance, weights: over.weights, in_force, stored });
        }
        Ok(answer)
    }
}

/// The override of one instance; none if its HAProxy does not have the backend.
fn decide(
    instance: &str,
    session: &Session,
    name: &BackendName,
    weights: Option<&Weights>,
    over: &Override,
    now: Moment,
) -> Result<Option<Override>, RefusedOverride> {
    let Some(backend) = session.backends.get(name).filter(|backend| backend.matched != Matched::No) else {
        return Ok(None);
    };
    if session.observe_only {
        return Err(RefusedOverride::Observe);
    }
    if session.pauses.of(name).is_some() {
        return Err(RefusedOverride::Paused);
    }
    let document = backend.document_in_force().or(backend.document());
    let weights = match weights {
        Some(weights) => weights.clone(),
        None => overrides::back(document.map(|document| &**document), &backend.observed)?,
    };
    let over = Override { weights, over: session.highest_index(name), ..over.clone() };
    // The servers of a backend that is not managed are not read.
    if backend.matched == Matched::Yes && backend.managed() {
        allowed(instance, backend, &over, now)?;
    }
    Ok(Some(over))
}

/// Refuses what the guards would reject, and servers that HAProxy does not have.
fn allowed(instance: &str, backend: &Backend, over: &Override, now: Moment) -> Result<(), RefusedOverride> {
    let missing = over.weights.keys().filter(|server| backend.observed.server(server).is_none());
    let missing = list(missing.map(weightd_core::model::ServerName::as_str));
    if !missing.is_empty() {
        let known = list(backend.observed.servers.iter().map(|server| server.name.as_str()));
        return Err(RefusedOverride::NoServer { instance: instance.to_owned(), missing, known });
    }
    match accept::accept(&over.desired(), backend.accepted.as_deref(), &backend.observed, None, now) {
        Verdict::Guarded(guarded) => Err(RefusedOverride::Guarded { guard: guarded.guard }),
        Verdict::Accepted | Verdict::Unmatched => Ok(()),
    }
}
