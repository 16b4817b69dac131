//! The routes of the local socket: the read-only ones, and the local writes.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, State, rejection::BytesRejection},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use serde::{Serialize, de::DeserializeOwned};
use weightd_core::{model::Escaped, wire::pause::ApiError};

use super::ApiState;
use crate::{
    base::{chain::Chain, serve::Peer},
    weightd::pausing::{PauseError, Pausing},
};

/// Maximum size of a request body, in bytes.
const MAX_BODY: usize = 4 * 1024;

/// Returns the routes.
pub fn router(api_state: Arc<ApiState>, pausing: Arc<Pausing>) -> Router {
    let writes = Router::new()
        .route("/v1/pause", post(pause))
        .route("/v1/resume", post(resume))
        .route("/v1/override", post(override_weights))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(pausing);
    super::router(api_state).merge(writes)
}

type Body = Result<Bytes, BytesRejection>;

async fn pause(State(pausing): State<Arc<Pausing>>, ConnectInfo(peer): ConnectInfo<Peer>, body: Body) -> Response {
    match read(body) {
        Ok(request) => run_to_end(async move { pausing.pause(request, peer.uid).await }).await,
        Err(rejected) => *rejected,
    }
}

async fn resume(State(pausing): State<Arc<Pausing>>, ConnectInfo(peer): ConnectInfo<Peer>, body: Body) -> Response {
    match read(body) {
        Ok(request) => run_to_end(async move { pausing.resume(request, peer.uid).await }).await,
        Err(rejected) => *rejected,
    }
}

async fn override_weights(
    State(pausing): State<Arc<Pausing>>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Body,
) -> Response {
    match read(body) {
        Ok(request) => run_to_end(async move { pausing.override_weights(request, peer.uid).await }).await,
        Err(rejected) => *rejected,
    }
}

/// Parses a body, or returns the error response.
fn read<T: DeserializeOwned>(body: Body) -> Result<T, Box<Response>> {
    const HINT: &str = "run `weightctl pause`, `weightctl resume` or `weightctl override`, which send valid requests";
    let body =
        body.map_err(|rejected| Box::new(error_response(rejected.status(), rejected.body_text(), HINT.to_owned())))?;
    serde_json::from_slice(&body).map_err(|error| {
        let error = Escaped(&error.to_string()).to_string();
        Box::new(error_response(StatusCode::BAD_REQUEST, error, HINT.to_owned()))
    })
}

/// Runs `work` to its end, even if the client disconnects.
async fn run_to_end<T>(work: impl Future<Output = Result<T, PauseError>> + Send + 'static) -> Response
where
    T: Serialize + Send + 'static,
{
    match tokio::spawn(work).await {
        Ok(Ok(answer)) => json(StatusCode::OK, &answer),
        Ok(Err(error)) => {
            let status = match &error {
                PauseError::Invalid(_) => StatusCode::BAD_REQUEST,
                PauseError::NoSuchInstance { .. } | PauseError::NoSuchBackend { .. } => StatusCode::NOT_FOUND,
                PauseError::AllPaused(_) | PauseError::Override(_) => StatusCode::CONFLICT,
                PauseError::NotStored { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            };
            error_response(status, Chain(&error).to_string(), error.hint())
        }
        Err(error) => error_response(
            StatusCode::INTERNAL_SERVER_ERROR,
            error.to_string(),
            "run `journalctl -u weightd` to see the log of weightd".to_owned(),
        ),
    }
}

fn error_response(status: StatusCode, error: String, hint: String) -> Response {
    json(status, &ApiError { error, hint })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
