//! What happened, told to the log and counted.

use std::{collections::BTreeMap, sync::Arc};

use tracing::{debug, error, info, warn};
use weightd_core::{
    backend::Why,
    caveats,
    event::Event,
    model::{BackendName, Moment},
    pauses::{Ended, Scope},
    reasons::{self, Reason, Severity},
};

use crate::{base::telemetry::budget::Budget, weightd::metrics::Metrics};

/// The telling of one HAProxy.
#[derive(Debug)]
pub struct Telling {
    haproxy: String,
    metrics: Arc<Metrics>,
    budget: Budget,
}

impl Telling {
    /// Of the HAProxy of that name.
    pub fn new(haproxy: String, metrics: Arc<Metrics>) -> Self {
        Self { haproxy, metrics, budget: Budget::default() }
    }

    /// Tells of what happened. Each weight that was set has its line, whatever else there is to tell. `read_at` is
    /// when the answer of Consul came that what was set comes from.
    pub fn tell(&mut self, events: &[Event], read_at: Option<Moment>, now: Moment) {
        let left_out = self.budget.settle(now);
        if left_out > 0 {
            warn!(left_out, "more news of backends in the last minute; see `weightctl status --local`");
        }
        let mut alike = BTreeMap::<&str, (&Reason, Vec<&BackendName>)>::new();
        for event in events {
            match event {
                Event::Changed { backend, change, why, accepted, at } => {
                    self.metrics.weight_changed(&self.haproxy, *why);
                    if let (Why::Document, Some(read_at)) = (why, read_at) {
                        self.metrics.synced(&self.haproxy, at.since(read_at));
                    }
                    info!(
                        %backend,
                        server = %change.server,
                        from = change.from.get(),
                        to = change.to.get(),
                        why = why.as_str(),
                        by = accepted.by.as_deref(),
                        reason = accepted.reason.as_deref(),
                        index = accepted.index,
                        "weight set"
                    );
                }
                Event::Paused { .. } | Event::Resumed { .. } => tell_of_pause(event),
                // The watch tells of it, once for all that follow it.
                Event::Reason { reason, .. } if reason.reason == "rejected" => {}
                // The pause was told of, once for all backends that are under it.
                Event::Reason { reason, .. } if reason.reason == "paused" => {}
                Event::Cleared { reason: "paused", .. } => {}
                // What hundreds of backends have in common is told of once.
                Event::Reason { backend, reason } if caveats::WORDS.contains(&reason.reason) => {
                    alike.entry(reason.reason).or_insert((reason, Vec::new())).1.push(backend);
                }
                Event::Would { .. } | Event::Reason { .. } | Event::Cleared { .. } => {
                    if self.budget.spend() {
                        tell_of_state(event);
                    }
                }
            }
        }
        for (Reason { reason, detail, remedy, severity }, backends) in alike.into_values() {
            let names = reasons::list(backends.into_iter().map(BackendName::as_str));
            if *severity == Severity::Warning {
                warn!(backends = names, reason, hint = remedy, "{detail}");
            } else {
                info!(backends = names, reason, hint = remedy, "{detail}");
            }
        }
    }
}

fn tell_of_state(event: &Event) {
    match event {
        Event::Would { backend, why, plan } => {
            info!(%backend, why = why.as_str(), %plan, "would set weights, but only observes");
        }
        Event::Reason { backend, reason } => {
            let (word, detail, hint) = (reason.reason, &reason.detail, reason.remedy);
            match reason.severity {
                Severity::Normal => debug!(%backend, reason = word, hint, "{detail}"),
                Severity::Info => info!(%backend, reason = word, hint, "{detail}"),
                Severity::Warning => warn!(%backend, reason = word, hint, "{detail}"),
                Severity::Error => error!(%backend, reason = word, hint, "{detail}"),
            }
        }
        Event::Cleared { backend, reason } => info!(%backend, reason, "no longer so"),
        Event::Changed { .. } | Event::Paused { .. } | Event::Resumed { .. } => {}
    }
}

fn tell_of_pause(event: &Event) {
    let of = |scope: &Scope| scope.backend().map_or_else(|| "all".to_owned(), ToString::to_string);
    match event {
        Event::Paused { scope, pause, lasts } => info!(
            backend = of(scope),
            for_seconds = lasts.as_secs(),
            by = pause.by.as_deref(),
            uid = pause.uid,
            reason = pause.reason.as_deref(),
            "paused: nothing is set until that is over"
        ),
        Event::Resumed { scope, pause, ended: Ended::Expired } => info!(
            backend = of(scope),
            why = "expired",
            paused_by = pause.by.as_deref(),
            reason = pause.reason.as_deref(),
            "the pause is over; hands are on again"
        ),
        Event::Resumed { scope, pause, ended: Ended::Lifted { by, uid } } => info!(
            backend = of(scope),
            why = "resumed",
            by = by.as_deref(),
            uid,
            paused_by = pause.by.as_deref(),
            reason = pause.reason.as_deref(),
            "the pause is over; hands are on again"
        ),
        _ => {}
    }
}
