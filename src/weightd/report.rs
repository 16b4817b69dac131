//! Reports the events of one HAProxy to the log and the metrics.

use std::{collections::BTreeMap, sync::Arc};

use tracing::{debug, error, info, warn};
use weightd_core::{
    caveats,
    event::Event,
    model::{BackendName, Moment},
    observed::Owner,
    pauses::{Ended, Scope},
    reasons::{self, Reason, Severity},
};

use super::metrics::Metrics;
use crate::base::telemetry::budget::Budget;

/// Reports the events of one HAProxy.
#[derive(Debug)]
pub struct Reporter {
    haproxy: String,
    metrics: Arc<Metrics>,
    budget: Budget,
}

impl Reporter {
    /// Creates a reporter for the HAProxy `haproxy`.
    pub fn new(haproxy: String, metrics: Arc<Metrics>) -> Self {
        Self { haproxy, metrics, budget: Budget::default() }
    }

    /// Reports events. Each weight that was set gets its own log line; the number of all other lines is limited.
    pub fn report(&mut self, events: &[Event], now: Moment) {
        let left_out = self.budget.renew(now);
        if left_out > 0 {
            warn!(left_out, "more backends changed their state in the last minute; see `weightctl status --local`");
        }
        let mut by_reason = BTreeMap::<&str, (&Reason, Vec<&BackendName>)>::new();
        for event in events {
            match event {
                Event::Changed { .. } => self.report_change(event),
                Event::Paused { .. } | Event::Resumed { .. } => report_pause(event),
                Event::Overridden { .. } | Event::OverrideEnded { .. } => report_override(event),
                Event::Process { .. } | Event::Down { .. } | Event::Up { .. } | Event::EnforcingFromDisk { .. } => {
                    report_haproxy(event);
                }
                // The watch reports it, once for all instances.
                Event::Reason { reason, .. } if reason.reason == "rejected" => {}
                // `report_pause` reports the pause once for all its backends.
                Event::Reason { reason, .. } if reason.reason == "paused" => {}
                Event::Cleared { reason, .. } if reason == "paused" => {}
                // `report_override` reports start and end; the end of its time is a reason.
                Event::Reason { reason, .. } if reason.reason == "overridden" => {}
                Event::Cleared { reason, .. } if reason == "overridden" => {}
                // One log line for all backends with the same reason.
                Event::Reason { backend, reason } if caveats::WORDS.contains(&&*reason.reason) => {
                    by_reason.entry(&reason.reason).or_insert((reason, Vec::new())).1.push(backend);
                }
                Event::WouldChange { .. } | Event::Reason { .. } | Event::Cleared { .. } => {
                    if self.budget.spend() {
                        report_state(event);
                    }
                }
            }
        }
        for (Reason { reason, detail, remedy, severity }, backends) in by_reason.into_values() {
            let names = reasons::list(backends.into_iter().map(BackendName::as_str));
            if *severity == Severity::Warning {
                warn!(backends = names, reason = &**reason, hint = &**remedy, "{detail}");
            } else {
                info!(backends = names, reason = &**reason, hint = &**remedy, "{detail}");
            }
        }
    }

    fn report_change(&self, event: &Event) {
        let Event::Changed { backend, change, cause, owner, accepted, took } = event else { return };
        self.metrics.weight_changed(&self.haproxy, *cause);
        if let Some(took) = took {
            self.metrics.synced(&self.haproxy, *took);
        }
        let owner = owner.map(|owner| match owner {
            Owner::AgentCheck => "agent_check",
            Owner::SrvRecord => "srv_record",
        });
        info!(
            %backend,
            server = %change.server,
            from = change.from.get(),
            to = change.to.get(),
            why = cause.as_str(),
            owner,
            by = accepted.by.as_deref(),
            reason = accepted.reason.as_deref(),
            index = accepted.index,
            "weight set"
        );
    }
}

fn report_haproxy(event: &Event) {
    match event {
        Event::Process { pid, version, uptime } => {
            info!(pid, version, uptime_seconds = uptime, "a HAProxy process answers");
        }
        Event::Down { reason, detail, remedy } => {
            warn!(reason, error = detail, hint = remedy, "HAProxy cannot be used");
        }
        Event::Up { after } => info!(after_seconds = after.as_secs(), "HAProxy can be used again"),
        Event::EnforcingFromDisk { failed: true } => {
            info!("Consul's first read failed; the weights on disk are enforced");
        }
        Event::EnforcingFromDisk { failed: false } => {
            info!("Consul's first answer is late; the weights on disk are enforced");
        }
        _ => {}
    }
}

fn report_state(event: &Event) {
    match event {
        Event::WouldChange { backend, cause, plan } => {
            info!(%backend, why = cause.as_str(), %plan, "observe mode: weightd would set these weights");
        }
        Event::Reason { backend, reason } => {
            let (word, detail, hint) = (&*reason.reason, &reason.detail, &*reason.remedy);
            match reason.severity {
                Severity::Normal => debug!(%backend, reason = word, hint, "{detail}"),
                Severity::Info => info!(%backend, reason = word, hint, "{detail}"),
                Severity::Warning => warn!(%backend, reason = word, hint, "{detail}"),
                Severity::Error => error!(%backend, reason = word, hint, "{detail}"),
            }
        }
        Event::Cleared { backend, reason } => info!(%backend, reason, "reason no longer applies"),
        _ => {}
    }
}

fn report_override(event: &Event) {
    match event {
        Event::Overridden { backend, over, lasts } => warn!(
            %backend,
            alarm_in_seconds = lasts.as_secs(),
            by = over.by.as_deref(),
            uid = over.uid,
            reason = over.reason.as_deref(),
            force = over.force,
            over = over.over,
            "overridden: weightd enforces the weights of the override, and not the document in Consul"
        ),
        Event::OverrideEnded { backend, over, ended } => {
            let (why, by, uid) = match ended {
                Some(Ended::Lifted { by, uid }) => ("resumed", by.as_deref(), *uid),
                Some(Ended::Expired) | None => ("newer_document", None, None),
            };
            info!(
                %backend,
                why,
                by,
                uid,
                overridden_by = over.by.as_deref(),
                reason = over.reason.as_deref(),
                "the override ended: weightd follows the document in Consul"
            );
        }
        _ => {}
    }
}

fn report_pause(event: &Event) {
    let of = |scope: &Scope| scope.backend().map_or_else(|| "all".to_owned(), ToString::to_string);
    match event {
        Event::Paused { scope, pause, lasts } => info!(
            backend = of(scope),
            for_seconds = lasts.as_secs(),
            by = pause.by.as_deref(),
            uid = pause.uid,
            reason = pause.reason.as_deref(),
            "paused: weightd sets no weight until the pause ends"
        ),
        Event::Resumed { scope, pause, ended: Ended::Expired } => info!(
            backend = of(scope),
            why = "expired",
            paused_by = pause.by.as_deref(),
            reason = pause.reason.as_deref(),
            "resumed: weightd sets weights again"
        ),
        Event::Resumed { scope, pause, ended: Ended::Lifted { by, uid } } => info!(
            backend = of(scope),
            why = "resumed",
            by = by.as_deref(),
            uid,
            paused_by = pause.by.as_deref(),
            reason = pause.reason.as_deref(),
            "resumed: weightd sets weights again"
        ),
        _ => {}
    }
}
