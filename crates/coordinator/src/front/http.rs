//! The HTTP API in OpenAI's shapes, and the probes.
//!
//! A body becomes the same checked requests that gRPC's Generate makes; from there on both are one.

mod body;
mod completions;
pub(super) mod error;
mod list;
mod models;

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{get, post};

use self::error::HttpError;
use super::{Shared, convert, limits, meter};

/// Names a request towards its client; echoed, or made. The log of this front says what generations it
/// became.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Returns the routes.
pub(super) fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/v1/completions", post(completions::create))
        .route("/v1/models", get(models::list))
        // A name may hold slashes, as "openai/gpt-oss-20b".
        .route("/v1/models/{*name}", get(models::show))
        .route("/livez", get("alive"))
        .route("/readyz", get(ready))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(echo_request_id))
        .layer(middleware::from_fn_with_state(
            shared.telemetry.clone(),
            meter::count_answer,
        ))
        .with_state(shared)
}

/// Says in words whether requests can be served now: 200 or 503.
async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, String) {
    let readiness = shared.health.readiness();
    let code = match readiness.is_ready {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    };
    (code, format!("{}\n", readiness.status))
}

async fn unknown_path(uri: Uri) -> HttpError {
    HttpError::UnknownPath {
        path: uri.path().to_owned(),
    }
}

async fn wrong_method(method: Method, uri: Uri) -> HttpError {
    HttpError::WrongMethod {
        method,
        path: uri.path().to_owned(),
    }
}

/// Gives every answer its request's id.
async fn echo_request_id(mut request: Request, next: Next) -> Response {
    let given = request.headers().get(REQUEST_ID).filter(|id| {
        (1..=limits::MAX_ID_BYTES).contains(&id.len())
            && id.as_bytes().iter().all(u8::is_ascii_graphic)
    });
    let id = given.cloned().unwrap_or_else(|| {
        HeaderValue::from_str(&convert::fresh_id()).expect("hexadecimal digits are a header value")
    });
    let x_request_id = id.to_str().ok();
    tracing::debug!(x_request_id, method = %request.method(), path = request.uri().path(), "request");
    request.headers_mut().insert(REQUEST_ID, id.clone());
    let mut response = next.run(request).await;
    response.headers_mut().insert(REQUEST_ID, id);
    response
}

/// Returns the seconds since 1970, as OpenAI's objects carry them.
pub(super) fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
