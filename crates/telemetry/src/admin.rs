//! The admin listener: `/startupz`, `/livez`, `/readyz`, `/metrics`, by plain HTTP/1.1.
//!
//! It is for the people and programs that run the cluster, and says nothing about requests. It stays
//! useful while all else fails: it depends on no lock that work is done under, and bounds what
//! connections may cost.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use sockets::{Connection, Listener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::runtime::watch_lag;
use crate::table::Set;
use crate::telemetry::Telemetry;
use crate::text::MEDIA_TYPE;

/// Connections at a time: a few probes and scrapes; further ones wait to be accepted.
pub const MAX_CONNECTIONS: usize = 64;

/// How long a client may take to send the head of a request, and a connection may be idle.
pub const HEAD_LIMIT: Duration = Duration::from_secs(5);

/// How long a connection may last, whatever it does: a client that reads slowly holds a place no longer.
pub const CONNECTION_LIMIT: Duration = Duration::from_secs(300);

/// How long requests that are being answered may take to end when the process does.
const END_LIMIT: Duration = Duration::from_secs(1);

/// How often the observations of histograms are sorted into buckets: at thousands of them a second there
/// are some hundred kilobytes by then.
const UPKEEP: Duration = Duration::from_secs(5);

/// Serves a process's admin listener until `shutdown`, and does the upkeep of its metrics.
#[expect(private_bounds, reason = "the two sets of metrics are all there are")]
pub async fn serve<M: Set>(
    mut listener: Listener,
    telemetry: Telemetry<M>,
    shutdown: CancellationToken,
) {
    let lag = watch_lag(telemetry.clone(), shutdown.clone());
    tokio::spawn(lag);
    let router = router(telemetry.clone());
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let connections = TaskTracker::new();
    let mut upkeep = interval(UPKEEP);
    upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = accept(&mut listener, &places) => accepted,
            _ = upkeep.tick() => {
                telemetry.upkeep();
                continue;
            }
            () = shutdown.cancelled() => break,
        };
        let (connection, place) = accepted;
        let (router, shutdown) = (router.clone(), shutdown.clone());
        connections.spawn(async move {
            answer(connection, router, &shutdown).await;
            drop(place);
        });
    }
    drop(listener);
    connections.close();
    // What is left is dropped with its task when the runtime ends.
    drop(timeout(END_LIMIT, connections.wait()).await);
}

async fn accept(
    listener: &mut Listener,
    places: &Arc<Semaphore>,
) -> (Connection, OwnedSemaphorePermit) {
    let place = Arc::clone(places).acquire_owned().await;
    let place = place.expect("the semaphore is never closed");
    (listener.accept().await, place)
}

/// Answers the requests of one connection.
async fn answer(connection: Connection, router: Router, shutdown: &CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(connection), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let ended = async {
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    };
    match timeout(CONNECTION_LIMIT, ended).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a connection to the admin listener broke"),
        Err(_) => tracing::debug!("a connection to the admin listener lasted too long"),
    }
}

fn router<M: Set>(telemetry: Telemetry<M>) -> Router {
    Router::new()
        .route("/startupz", get(startup::<M>))
        .route("/livez", get(live::<M>))
        .route("/readyz", get(ready::<M>))
        .route("/metrics", get(metrics::<M>))
        .fallback(|| async {
            let paths = "there are /startupz, /livez, /readyz and /metrics\n";
            (StatusCode::NOT_FOUND, paths)
        })
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n")
        })
        .with_state(telemetry)
}

async fn startup<M: Set>(State(telemetry): State<Telemetry<M>>) -> Response {
    let startup = telemetry.vitals().startup();
    (code(startup.started), Json(startup)).into_response()
}

async fn live<M: Set>(State(telemetry): State<Telemetry<M>>) -> Response {
    in_words(telemetry.vitals().liveness(), "alive")
}

async fn ready<M: Set>(State(telemetry): State<Telemetry<M>>) -> Response {
    in_words(telemetry.vitals().readiness(), "ready")
}

async fn metrics<M: Set>(State(telemetry): State<Telemetry<M>>) -> Response {
    ([(header::CONTENT_TYPE, MEDIA_TYPE)], telemetry.render()).into_response()
}

fn in_words(state: Result<(), String>, good: &str) -> Response {
    let code = code(state.is_ok());
    let words = state.err().unwrap_or_else(|| good.to_owned());
    (code, format!("{words}\n")).into_response()
}

fn code(good: bool) -> StatusCode {
    match good {
        true => StatusCode::OK,
        false => StatusCode::SERVICE_UNAVAILABLE,
    }
}
