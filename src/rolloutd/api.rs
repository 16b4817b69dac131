//! The local HTTP interface of the controller: `/live`, `/ready` and `/metrics`, all read-only.

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use tokio::sync::watch;

use super::{leader::Seen, leadership::Term, metrics::Metrics};
use crate::base::clock;

/// What the interface serves.
#[derive(Debug)]
pub(super) struct Served {
    pub(super) metrics: Arc<Metrics>,
    pub(super) seen: watch::Receiver<Option<Seen>>,
    pub(super) terms: watch::Receiver<Option<Term>>,
    pub(super) lock: crate::consul::follow::Follower,
}

/// The routes.
pub(super) fn router(served: Arc<Served>) -> Router {
    Router::new()
        .route("/live", get(|| async { "live\n" }))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .with_state(served)
}

/// 200 if this controller leads and follows Consul, or follows who leads.
async fn ready(State(served): State<Arc<Served>>) -> (StatusCode, String) {
    let leads = served.terms.borrow().as_ref().is_some_and(Term::may_act);
    let problem = if leads {
        match &*served.seen.borrow() {
            None => Some("it has not read Consul yet".to_owned()),
            Some(seen) => seen.failed.clone(),
        }
    } else {
        let lock = served.lock.subscribe();
        let lock = lock.borrow();
        match (&lock.failed, &lock.keys) {
            (Some((_, why)), _) => Some(why.clone()),
            (None, None) => Some("it has not read Consul yet".to_owned()),
            (None, Some(keys)) if keys.values.is_empty() => Some("nobody leads".to_owned()),
            (None, Some(_)) => None,
        }
    };
    match problem {
        None if leads => (StatusCode::OK, "ready: it leads\n".to_owned()),
        None => (StatusCode::OK, "ready: another controller leads\n".to_owned()),
        Some(problem) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{problem}\n")),
    }
}

async fn metrics(State(served): State<Arc<Served>>) -> Response {
    const TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let leads = served.terms.borrow().as_ref().is_some_and(Term::may_act);
    let seen = served.seen.borrow().clone().filter(|_| leads);
    match served.metrics.text(seen.as_ref(), clock::timestamp()) {
        Ok(text) => ([(header::CONTENT_TYPE, TYPE)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
