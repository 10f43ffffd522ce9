//! Whether this front can serve: what the lead says of its group, as health and readiness.

use std::sync::Arc;
use std::time::Duration;

use proto::internal::{WatchRequest, WatchResponse};
use proto::v1::generation_service_server::SERVICE_NAME as GENERATION;
use proto::v1::model_service_server::SERVICE_NAME as MODEL;
use proto::v1::tokenizer_service_server::SERVICE_NAME as TOKENIZER;
use tokio::sync::watch;
use tonic::Status;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tonic_health::server::{HealthReporter, HealthService as Reported};

use super::{Shared, limits};

/// The public services, and "" for the server as a whole.
const SERVICES: [&str; 4] = ["", GENERATION, MODEL, TOKENIZER];

/// Whether requests can be served now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Readiness {
    /// Whether they can.
    pub(super) is_ready: bool,
    /// What is going on, in words.
    pub(super) status: String,
}

/// The state that probes ask for.
#[derive(Clone, Debug)]
pub(super) struct Health {
    reporter: HealthReporter,
    readiness: watch::Sender<Readiness>,
}

impl Health {
    /// Begins not ready.
    pub(super) fn new() -> Self {
        let status = "the lead has not been heard of yet".to_owned();
        let readiness = watch::Sender::new(Readiness {
            is_ready: false,
            status,
        });
        Self {
            reporter: HealthReporter::new(),
            readiness,
        }
    }

    /// Returns grpc.health.v1.Health.
    pub(super) fn service(&self) -> HealthServer<impl HealthService> {
        HealthServer::new(Reported::from_health_reporter(self.reporter.clone()))
    }

    /// Returns the readiness now.
    pub(super) fn readiness(&self) -> Readiness {
        self.readiness.borrow().clone()
    }

    async fn set(&self, readiness: Readiness) {
        let status = match readiness.is_ready {
            true => ServingStatus::Serving,
            false => ServingStatus::NotServing,
        };
        for service in SERVICES {
            self.reporter.set_service_status(service, status).await;
        }
        let changed = self.readiness.send_if_modified(|now| {
            let is_new = *now != readiness;
            now.clone_from(&readiness);
            is_new
        });
        if changed {
            tracing::info!(
                ready = readiness.is_ready,
                status = readiness.status,
                "readiness"
            );
        }
    }
}

/// Watches the lead until the front drains; from then on it is not ready.
pub(super) async fn watch_lead(shared: Arc<Shared>) {
    let health = &shared.health;
    tokio::select! {
        biased;
        () = shared.draining.cancelled() => {}
        () = watch_for_ever(&shared) => {}
    }
    health
        .set(Readiness {
            is_ready: false,
            status: "shutting down".into(),
        })
        .await;
}

async fn watch_for_ever(shared: &Shared) {
    let (first_pause, longest_pause) = limits::WATCH_BACKOFF;
    let mut pause = first_pause;
    loop {
        let broken = match watch_once(shared, &mut pause).await {
            Ok(()) => "its stream ended".to_owned(),
            Err(status) => status.message().to_owned(),
        };
        let status = format!("the lead cannot be reached: {broken}");
        shared
            .health
            .set(Readiness {
                is_ready: false,
                status,
            })
            .await;
        tokio::time::sleep(pause).await;
        pause = longest_pause.min(pause * 2);
    }
}

async fn watch_once(shared: &Shared, pause: &mut Duration) -> Result<(), Status> {
    let mut lead = shared.lead.clone();
    let mut states = lead.watch(WatchRequest {}).await?.into_inner();
    while let Some(state) = states.message().await? {
        *pause = limits::WATCH_BACKOFF.0;
        shared.health.set(readiness(&state)).await;
    }
    Ok(())
}

fn readiness(state: &WatchResponse) -> Readiness {
    let ranks = format!(
        "{} of {} ranks are present",
        state.ranks_present, state.ranks_needed
    );
    let mut status = match state.status.as_str() {
        "" => ranks,
        words => format!("{words}; {ranks}"),
    };
    if !state.missing.is_empty() {
        status = format!("{status}; missing: {}", state.missing.join(", "));
    }
    Readiness {
        is_ready: state.serving,
        status,
    }
}
