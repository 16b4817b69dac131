//! `--wait=drained`: after all nodes have the weights, waits until nothing is left on the servers at 0.
//!
//! A weight of 0 ends no session. The nodes count what is left while this observes.

use serde::Serialize;
use tokio::{
    signal::ctrl_c,
    time::{Instant, sleep_until},
};
use weightd_core::{desired::Pattern, model::BackendName};

use crate::{
    documents::{Documents, view::View},
    weightctl::{
        Exit,
        failure::Failure,
        following::{DrainingView, Following, at_zero},
        output::{self, Format},
    },
};

/// Between two readings: the nodes report every 10 s, and at once to a new observation.
const PACE: std::time::Duration = std::time::Duration::from_secs(1);

/// The state of a wait. See [`wait`].
#[derive(Debug, Serialize)]
struct Progress<'a> {
    wait: &'a BackendName,
    index: u64,
    state: &'static str,
    elapsed_seconds: f64,
    draining: &'a DrainingView,
}

/// Waits until no session is left on the servers at 0 of the document of `backend` at `index`. Where a cookie, a stick table
/// or other rules pin users, also no request may have begun there during a whole block of 10 s.
///
/// Exits with 0 then; with 3 at the deadline, and with 4, 5 and 6 as [`super::wait`].
///
/// With `-o json`, prints one line on stdout whenever something changes, and at the end:
///
/// ```json
/// {"wait": "app1", "index": 42,
///  "state": "draining",       at the end: drained or timeout
///  "elapsed_seconds": 12.3,
///  "draining": {…}}           as in `traffic`
/// ```
pub(super) async fn wait(
    format: Format,
    documents: &Documents,
    backend: &BackendName,
    index: u64,
    deadline: Instant,
) -> Result<Exit, Failure> {
    let ended = tokio::select! {
        biased;
        ended = drain(format, documents, backend, index, deadline) => ended,
        _ = ctrl_c() => Err(Failure::new(
            Exit::Interrupted,
            format!("interrupted; all nodes have {backend} of index {index}, and sessions may be left"),
        )
        .hint(format!("`weightctl traffic {backend}` shows them"))),
    };
    ended.map_err(|failure| match failure.exit {
        Exit::Denied | Exit::Unreachable => failure
            .context(format!("all nodes have {backend} of index {index}, but it is unknown whether sessions are left")),
        _ => failure,
    })
}

async fn drain(
    format: Format,
    documents: &Documents,
    backend: &BackendName,
    index: u64,
    deadline: Instant,
) -> Result<Exit, Failure> {
    let zero = zero(documents, backend, index).await?;
    if zero.is_empty() {
        output::message(&format!("no server of {backend} is at 0, so that nothing drains"));
        return Ok(Exit::Ok);
    }
    let started = Instant::now();
    let mut following = Following::start(documents, backend).await?;
    let mut shown: Option<DrainingView> = None;
    loop {
        let now = Instant::now();
        let last = now >= deadline;
        let read = async {
            following.read().await?;
            // A newer document may have raised a server again.
            self::zero(documents, backend, index).await
        };
        match read.await {
            Ok(_) => {}
            // An election of Consul's leader takes seconds.
            Err(failure) if failure.exit == Exit::Unreachable && !last => {
                output::note("Consul does not answer; trying again");
                sleep_until((now + PACE).min(deadline)).await;
                continue;
            }
            Err(failure) => return Err(failure),
        }
        let Some(draining) = following.draining(&zero) else { return Ok(Exit::Ok) };
        let progress = |state, draining| Progress {
            wait: backend,
            index,
            state,
            elapsed_seconds: (started.elapsed().as_secs_f64() * 1000.0).round() / 1000.0,
            draining,
        };
        if draining.done {
            output::message(&format!(
                "drained: {}, after {:.1} s",
                draining.sentence(),
                started.elapsed().as_secs_f64()
            ));
            format.json_line(&progress("drained", &draining))?;
            return Ok(Exit::Ok);
        }
        if last {
            format.json_line(&progress("timeout", &draining))?;
            return Err(late(backend, &draining));
        }
        if shown.as_ref().is_none_or(|shown| shown.sentence() != draining.sentence()) {
            let lines = if shown.is_none() { draining.text() } else { draining.sentence() };
            output::message(lines.trim_end());
            format.json_line(&progress("draining", &draining))?;
            shown = Some(draining);
        }
        sleep_until((now + PACE).min(deadline)).await;
    }
}

/// The servers at 0 of the document, which must still be that of `index`.
async fn zero(documents: &Documents, backend: &BackendName, index: u64) -> Result<Vec<Pattern>, Failure> {
    let stored = documents.backend(backend).await?;
    match stored.as_ref().map(View::of) {
        Some(view) if view.index == Some(index) => Ok(at_zero(view.weights.as_ref(), view.split.as_ref())),
        _ => Err(Failure::new(
            Exit::Conflict,
            format!("another writer replaced {backend} of index {index} during the wait"),
        )
        .hint(format!("`weightctl get {backend}` shows the backend"))),
    }
}

fn late(backend: &BackendName, draining: &DrainingView) -> Failure {
    let pins: Vec<_> = draining.pins.iter().map(ToString::to_string).collect();
    let pins = if pins.is_empty() { String::new() } else { format!("; {}", pins.join("; ")) };
    let message = format!("{backend} is not drained: {}{pins}", draining.sentence());
    Failure::new(Exit::NotConverged, message).hint(format!(
        "`weightctl traffic {backend} --watch` shows what is left; docs/traffic.md says how to end sessions by hand"
    ))
}
