//! The local HTTP interface: `/live`, `/ready`, `/metrics`, `/v1/status`, read-only; on the Unix socket also the few writes
//! of [`local`].

pub mod local;
pub mod page;
pub mod serve;
pub mod socket;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::{sync::watch, time::sleep};
use weightd_core::model::Moment;

use self::page::Page;
use super::{instance::Instance, metrics::Metrics, status};
use crate::base::clock::Clock;

/// What is read for a status is at most this old, unless reading it takes too long.
const FRESH: Duration = Duration::from_secs(1);
/// How long a status waits at most for readings.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two checks whether they ended.
const POLL: Duration = Duration::from_millis(2);

/// What the interface shows.
#[derive(Debug)]
pub struct Shown {
    /// The node.
    pub node: status::Node,
    /// One for each configured HAProxy.
    pub instances: Vec<Arc<Instance>>,
    /// Asks each watch for a reading.
    pub refresh: Vec<Arc<watch::Sender<()>>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The daemon's clock.
    pub clock: Clock,
    /// The page of the status.
    pub status_page: Page,
    /// The page of the metrics.
    pub metrics_page: Page,
}

impl Shown {
    fn status(&self) -> weightd_core::wire::status::Status {
        status::of(&self.node, &self.instances, self.clock.now())
    }

    /// Reads HAProxy and Consul, unless that was done a moment ago, and waits for it: for a moment, and only for what
    /// answers.
    async fn read(&self) {
        let asked = self.clock.now();
        for instance in &self.instances {
            instance.lock().refresh(FRESH, asked);
            instance.wake.notify_one();
        }
        let old = |instance: &Instance| instance.link.borrow().last_read.is_none_or(|at| asked.since(at) > FRESH);
        if self.instances.iter().any(|instance| old(instance)) {
            self.refresh.iter().for_each(|refresh| refresh.send_replace(()));
        }
        while self.clock.now().since(asked) < PATIENCE && !self.instances.iter().all(|i| self.is_fresh(i, asked)) {
            sleep(POLL).await;
        }
    }

    /// Whether what answers was read for a status that was asked for at `asked`.
    fn is_fresh(&self, instance: &Instance, asked: Moment) -> bool {
        let consul = {
            let link = instance.link.borrow();
            let fresh = link.last_read.is_some_and(|at| asked.since(at) <= FRESH);
            fresh || link.held(self.clock.now()).is_some()
        };
        let session = instance.lock();
        let haproxy = session.down.is_some() || !session.enforcing || session.read_within(FRESH, asked);
        consul && haproxy && instance.has_taken_feed(&session)
    }
}

/// The routes.
pub fn router(shown: Arc<Shown>) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(v1_status))
        .with_state(shown)
}

/// Becomes true with the first reconcile; becomes false only because of HAProxy, never because of Consul. Names each
/// HAProxy that is not ready, and why.
async fn ready(State(shown): State<Arc<Shown>>) -> (StatusCode, String) {
    let pending: Vec<String> = shown
        .instances
        .iter()
        .filter_map(|instance| {
            let session = instance.lock();
            let why = match &session.down {
                Some(down) => format!("{}: {}", down.reason, down.detail),
                None if !session.reconciled_once => "not reconciled yet".to_owned(),
                None => return None,
            };
            Some(format!("{}: {why}\n", instance.name))
        })
        .collect();
    if pending.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}", pending.concat()))
    }
}

async fn metrics(State(shown): State<Arc<Shown>>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let built = shown.metrics_page.get(async {}, || shown.metrics.text(&shown.status())).await;
    match built {
        Ok(bytes) => ([(header::CONTENT_TYPE, TYPE)], bytes).into_response(),
        Err(error) => failed(&error),
    }
}

async fn v1_status(State(shown): State<Arc<Shown>>) -> Response {
    let build = || serde_json::to_string(&shown.status()).map(|text| text + "\n");
    match shown.status_page.get(shown.read(), build).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => failed(&error),
    }
}

fn failed(error: &dyn std::error::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
}
