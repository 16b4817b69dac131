//! A write goes on to its end although the person has left: a request that nobody answers must be taken back also when the
//! tab was closed meanwhile. Must not know what is written.

use axum::{
    extract::{Request, State},
    http::{Method, StatusCode},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use tracing::error;

use crate::base::shutdown::Tasks;

/// Runs a write as a task of its own; the page waits for it also when it stops.
pub async fn finish(State(tasks): State<Tasks>, request: Request, next: Next) -> Response {
    if request.method() != Method::POST {
        return next.run(request).await;
    }
    tasks.spawn(next.run(request)).await.unwrap_or_else(|failed| {
        error!(error = %failed, "a write of the page ended in a fault of the program");
        let text = "500: a fault of the program. Whether something was written is not known.\n";
        (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
    })
}
