//! What happened, told to the log and counted.

use std::time::Duration;

use tracing::{error, info, warn};

use super::{Event, backend::Why, reasons::Severity};
use crate::metrics::Metrics;

/// Tells of one event on the HAProxy of that name. `synced` is how long ago Consul's last answer came that
/// brought something new.
pub fn tell(event: &Event, haproxy: &str, synced: Option<Duration>, metrics: &Metrics) {
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
        Event::Would { backend, why, plan } => {
            info!(%backend, why = why.as_str(), %plan, "would set weights, but only observes");
        }
        Event::Reason { backend, reason } => {
            let (word, detail, hint) = (reason.reason, &reason.detail, reason.remedy);
            match reason.severity {
                Severity::Info => info!(%backend, reason = word, hint, "{detail}"),
                Severity::Warning => warn!(%backend, reason = word, hint, "{detail}"),
                Severity::Error => error!(%backend, reason = word, hint, "{detail}"),
            }
        }
        Event::Cleared { backend, reason } => info!(%backend, reason, "no longer so"),
    }
}
