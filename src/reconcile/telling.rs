//! What happened, told to the log and counted.

use std::time::Duration;

use tracing::{debug, error, info, warn};

use super::{
    Event,
    backend::Why,
    pauses::{Ended, Scope},
    reasons::Severity,
};
use crate::metrics::Metrics;

/// How many backends one round tells of by name, besides those whose weights were set: when a prefix is deleted,
/// all of them have the same news.
const MAX_TOLD: usize = 100;

/// Tells of what happened on the HAProxy of that name. `synced` is how long ago Consul's last answer came that
/// brought something new.
pub fn tell(events: &[Event], haproxy: &str, synced: Option<Duration>, metrics: &Metrics) {
    let mut told = 0;
    for event in events {
        match event {
            Event::Changed { backend, change, why, accepted } => {
                metrics.weight_changed(haproxy, *why);
                if let (Why::Document, Some(synced)) = (why, synced) {
                    metrics.synced(haproxy, synced);
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
            Event::Would { .. } | Event::Reason { .. } | Event::Cleared { .. } => {
                told += 1;
                if told <= MAX_TOLD {
                    tell_of_state(event);
                }
            }
        }
    }
    if told > MAX_TOLD {
        warn!(more = told - MAX_TOLD, "there is news of more backends; see `weightctl status --local`");
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
