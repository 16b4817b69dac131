//! The local HTTP interface: `/live`, `/ready`, `/metrics`, `/v1/status`, read-only; on the Unix socket also the few
//! writes of [`local`].

pub mod local;
pub mod socket;

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};

use crate::{
    base::clock::Clock,
    weightd::{instance::Instance, metrics::Metrics, status},
};

/// What the interface shows.
#[derive(Debug)]
pub struct Node {
    /// The node's name.
    pub name: String,
    /// `enforce` or `observe`.
    pub mode: &'static str,
    /// Where Consul is.
    pub consul: String,
    /// One for each configured HAProxy.
    pub instances: Vec<Arc<Instance>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The daemon's clock.
    pub clock: Clock,
}

impl Node {
    /// The status now.
    pub fn status(&self) -> status::Status {
        status::of(&self.name, self.mode, &self.consul, &self.instances, self.clock.now())
    }
}

/// The routes.
pub fn router(node: Arc<Node>) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/v1/status", get(v1_status))
        .with_state(node)
}

/// Earned once, by a first reconciliation; falls only with HAProxy, never because of Consul.
async fn ready(State(node): State<Arc<Node>>) -> (StatusCode, String) {
    let pending: Vec<String> = node
        .instances
        .iter()
        .filter_map(|instance| {
            let inner = instance.lock();
            let why = match &inner.down {
                Some(down) => format!("{}: {}", down.reason, down.detail),
                None if !inner.reconciled_once => "not reconciled yet".to_owned(),
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

async fn metrics(State(node): State<Arc<Node>>) -> Response {
    match node.metrics.text(&node.status()) {
        Ok(text) => {
            const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, TYPE)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn v1_status(State(node): State<Arc<Node>>) -> Response {
    match serde_json::to_string(&node.status()) {
        Ok(text) => ([(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
