//! The pages. Each handler asks what the person may see first, and shows nothing else.

pub mod act;
pub mod activity;
pub mod application;
pub mod error;
pub mod fleet;
pub mod frame;
pub mod list;
pub mod live;
pub mod sign_in;
pub mod start;
pub mod weights;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, Uri},
    middleware::from_fn_with_state,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};

use super::{assets, finish::finish, guard, shared::Shared};
use crate::base::shutdown::Tasks;

/// All paths, below the base path.
pub fn router(shared: Arc<Shared>, tasks: &Tasks) -> Router {
    let pages = Router::new()
        .route("/sign-in", get(sign_in::show).post(sign_in::enter))
        .route("/sign-out", post(sign_in::leave))
        .route("/app/{name}", get(application::show))
        .route("/app/{name}/start", get(start::show).post(start::begin))
        .route("/app/{name}/weights", get(weights::show).post(weights::write))
        .route("/app/{name}/{verb}", post(act::act))
        .route("/fleet", get(fleet::show))
        .route("/fleet/{verb}", post(fleet::freeze))
        .route("/activity", get(activity::show))
        .route("/keys", get(sign_in::keys).post(sign_in::set_keys))
        .route("/events", get(live::events))
        .route("/static/{name}", get(file));
    let base = shared.settings.base_path.clone();
    // The list is at `/base/`, where all links go and the cookie is sent. A nested `/` would be at `/base` only.
    let list = format!("{base}/");
    let router = if base.is_empty() {
        pages
    } else {
        let to_list = list.clone();
        let without_slash = async move |uri: Uri| {
            let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            error::see_other(&format!("{to_list}{query}"))
        };
        Router::new().nest(&base, pages).route(&base, get(without_slash))
    };
    let router = router.route(&list, get(list::show));
    let missing = get(missing).post(missing);
    router
        .fallback_service(missing.with_state(Arc::clone(&shared)))
        .layer(from_fn_with_state(tasks.clone(), finish))
        .layer(from_fn_with_state(Arc::clone(&shared), guard::guard))
        .with_state(shared)
}

async fn file(Path(name): Path<String>, headers: HeaderMap) -> Response {
    assets::asset(&name, guard::takes_gzip(&headers))
        .unwrap_or_else(|| (StatusCode::NOT_FOUND, "404: there is no such file\n").into_response())
}

async fn missing(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    match shared.who(&headers).await {
        Ok(who) => error::missing(&shared, &headers, &who),
        Err(not_in) => error::not_in(&shared, &headers, &not_in, ""),
    }
}
