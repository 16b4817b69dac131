//! The local HTTP interface: `/live`, `/ready`, `/metrics` and `/v1/status`, all read-only. The Unix socket also
//! accepts the writes of [`local`].

pub mod local;
pub mod page;
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
use super::{fleet::Published, instance::Instance, metrics::Metrics, status};
use crate::base::clock::Clock;

/// Maximum age of the readings in a status, unless they take longer than [`MAX_WAIT`].
const MAX_AGE: Duration = Duration::from_secs(1);
/// Maximum time that a status request waits for readings.
const MAX_WAIT: Duration = Duration::from_millis(500);
/// Interval between two checks whether the readings ended.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The data that the interface serves.
#[derive(Debug)]
pub struct ApiState {
    /// The node.
    pub node: status::Node,
    /// One for each configured HAProxy.
    pub instances: Vec<Arc<Instance>>,
    /// How the fleet sees this node, by root.
    pub published: Vec<Published>,
    /// Requests a reading from each watch.
    pub refresh: Vec<Arc<watch::Sender<()>>>,
    /// The metrics.
    pub metrics: Arc<Metrics>,
    /// The daemon's clock.
    pub clock: Clock,
    /// The cache of `/v1/status`.
    pub status_page: Page,
    /// The cache of `/metrics`.
    pub metrics_page: Page,
}

impl ApiState {
    fn status(&self) -> weightd_core::wire::status::Status {
        status::of(&self.node, &self.instances, &self.published, self.clock.now())
    }

    /// Requests readings of HAProxy and Consul that are older than [`MAX_AGE`]. Waits for them at most [`MAX_WAIT`],
    /// and not for a side that does not answer.
    async fn read(&self) {
        let asked = self.clock.now();
        for instance in &self.instances {
            instance.lock().refresh(MAX_AGE, asked);
            instance.wake.notify_one();
        }
        let old = |instance: &Instance| instance.link.borrow().last_read.is_none_or(|at| asked.since(at) > MAX_AGE);
        if self.instances.iter().any(|instance| old(instance)) {
            self.refresh.iter().for_each(|refresh| refresh.send_replace(()));
        }
        while self.clock.now().since(asked) < MAX_WAIT && !self.instances.iter().all(|i| self.is_fresh(i, asked)) {
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Whether all sides that answer were read recently enough for a status request at `asked`.
    fn is_fresh(&self, instance: &Instance, asked: Moment) -> bool {
        let consul = {
            let link = instance.link.borrow();
            let fresh = link.last_read.is_some_and(|at| asked.since(at) <= MAX_AGE);
            fresh || link.held(self.clock.now()).is_some()
        };
        let session = instance.lock();
        let haproxy = session.down.is_some() || !session.enforcing || session.read_within(MAX_AGE, asked);
        consul && haproxy && instance.has_taken_feed(&session)
    }
}

/// Returns the routes.
pub fn router(api_state: Arc<ApiState>) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(v1_status))
        .with_state(api_state)
}

/// Answers 200 after the first reconcile. Answers 503 again only because of HAProxy, never because of Consul, and names
/// each HAProxy that is not ready with its reason.
async fn ready(State(api_state): State<Arc<ApiState>>) -> (StatusCode, String) {
    let not_ready: Vec<String> = api_state
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
    if not_ready.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}", not_ready.concat()))
    }
}

async fn metrics(State(api_state): State<Arc<ApiState>>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let built = api_state.metrics_page.get(async {}, || api_state.metrics.text(&api_state.status())).await;
    match built {
        Ok(bytes) => ([(header::CONTENT_TYPE, TYPE)], bytes).into_response(),
        Err(error) => internal_error(&error),
    }
}

async fn v1_status(State(api_state): State<Arc<ApiState>>) -> Response {
    let build = || serde_json::to_string(&api_state.status()).map(|text| text + "\n");
    match api_state.status_page.get(api_state.read(), build).await {
        Ok(bytes) => ([(header::CONTENT_TYPE, "application/json")], bytes).into_response(),
        Err(error) => internal_error(&error),
    }
}

fn internal_error(error: &dyn std::error::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
}
