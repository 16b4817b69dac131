//! The routes of the local socket: the read-only ones, and the few local writes.

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

use super::{Shown, serve::Peer};
use crate::{
    base::chain::Chain,
    weightd::pausing::{PauseError, Pausing},
};

/// The most bytes of a body.
const MAX_BODY: usize = 4 * 1024;

/// The routes.
pub fn router(shown: Arc<Shown>, pausing: Arc<Pausing>) -> Router {
    let writes = Router::new()
        .route("/v1/pause", post(pause))
        .route("/v1/resume", post(resume))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(pausing);
    super::router(shown).merge(writes)
}

type Body = Result<Bytes, BytesRejection>;

async fn pause(State(pausing): State<Arc<Pausing>>, ConnectInfo(peer): ConnectInfo<Peer>, body: Body) -> Response {
    match read(body) {
        Ok(request) => done(async move { pausing.pause(request, peer.uid).await }).await,
        Err(refused) => *refused,
    }
}

async fn resume(State(pausing): State<Arc<Pausing>>, ConnectInfo(peer): ConnectInfo<Peer>, body: Body) -> Response {
    match read(body) {
        Ok(request) => done(async move { pausing.resume(request, peer.uid).await }).await,
        Err(refused) => *refused,
    }
}

/// Parses a body, or answers what is wrong with it.
fn read<T: DeserializeOwned>(body: Body) -> Result<T, Box<Response>> {
    const HINT: &str = "write it as `weightctl pause` and `weightctl resume` do";
    let body = body.map_err(|refused| Box::new(problem(refused.status(), refused.body_text(), HINT.to_owned())))?;
    serde_json::from_slice(&body).map_err(|error| {
        let error = Escaped(&error.to_string()).to_string();
        Box::new(problem(StatusCode::BAD_REQUEST, error, HINT.to_owned()))
    })
}

/// Carries it out to the end, also if the client does not wait for that.
async fn done<T>(work: impl Future<Output = Result<T, PauseError>> + Send + 'static) -> Response
where
    T: Serialize + Send + 'static,
{
    match tokio::spawn(work).await {
        Ok(Ok(answer)) => json(StatusCode::OK, &answer),
        Ok(Err(error)) => {
            let status = match &error {
                PauseError::Invalid(_) => StatusCode::BAD_REQUEST,
                PauseError::NoSuchInstance { .. } | PauseError::NoSuchBackend { .. } => StatusCode::NOT_FOUND,
                PauseError::AllPaused(_) => StatusCode::CONFLICT,
                PauseError::NotStored { .. } => StatusCode::INTERNAL_SERVER_ERROR,
            };
            problem(status, Chain(&error).to_string(), error.hint())
        }
        Err(error) => {
            problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string(), "see the log of weightd".to_owned())
        }
    }
}

fn problem(status: StatusCode, error: String, hint: String) -> Response {
    json(status, &ApiError { error, hint })
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_string(value) {
        Ok(text) => (status, [(header::CONTENT_TYPE, "application/json")], text + "\n").into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
