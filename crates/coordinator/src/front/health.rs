//! Whether this front can serve: what the lead says of its group, as health and readiness.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proto::internal::WatchResponse;
use proto::v1::generation_service_server::SERVICE_NAME as GENERATION;
use proto::v1::model_service_server::SERVICE_NAME as MODEL;
use proto::v1::tokenizer_service_server::SERVICE_NAME as TOKENIZER;
use telemetry::CoordinatorTelemetry;
use tokio::sync::watch;
use tokio_stream::wrappers::WatchStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{Health as HealthService, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

/// The public services, and "" for the server as a whole. All are as ready as the group is.
const SERVICES: [&str; 4] = ["", GENERATION, MODEL, TOKENIZER];

/// Whether requests can be served now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Readiness {
    /// Whether they can.
    pub(super) is_ready: bool,
    /// What is going on, in words.
    pub(super) status: String,
}

/// The state that probes ask for, by HTTP and as grpc.health.v1.Health.
///
/// The service is ours because tonic-health's reporter begins with "" as serving and knows the
/// other names only once they were set, which its API cannot do before a server starts.
#[derive(Clone, Debug)]
pub(super) struct Health {
    readiness: watch::Sender<Readiness>,
    is_draining: Arc<AtomicBool>,
    telemetry: CoordinatorTelemetry,
}

impl Health {
    /// Begins not ready.
    pub(super) fn new(telemetry: CoordinatorTelemetry) -> Self {
        let status = "no lead has been heard of yet".to_owned();
        let readiness = watch::Sender::new(Readiness {
            is_ready: false,
            status,
        });
        Self {
            readiness,
            is_draining: Arc::default(),
            telemetry,
        }
    }

    /// Returns grpc.health.v1.Health.
    pub(super) fn service(&self) -> HealthServer<Self> {
        HealthServer::new(self.clone())
    }

    /// Returns the readiness now.
    pub(super) fn readiness(&self) -> Readiness {
        self.readiness.borrow().clone()
    }

    /// Says that the front takes nothing more.
    pub(super) fn drain(&self) {
        let readiness = Readiness {
            is_ready: false,
            status: "shutting down".into(),
        };
        self.change(readiness, true);
    }

    /// Sets the readiness; once the front drains it stays as it is.
    pub(super) fn set(&self, readiness: Readiness) {
        self.change(readiness, false);
    }

    fn change(&self, readiness: Readiness, is_last: bool) {
        self.readiness.send_if_modified(|now| {
            // Under the channel's lock: nothing comes between the last change and its mark.
            let was_last = self.is_draining.fetch_or(is_last, Ordering::AcqRel);
            let is_new = *now != readiness && !was_last;
            if is_new {
                self.telemetry.vitals().ready(match readiness.is_ready {
                    true => Ok(()),
                    false => Err(readiness.status.clone()),
                });
                tracing::info!(
                    ready = readiness.is_ready,
                    status = readiness.status,
                    "readiness"
                );
                *now = readiness;
            }
            is_new
        });
    }
}

/// What a watcher hears.
type Statuses = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

#[tonic::async_trait]
impl HealthService for Health {
    type WatchStream = Statuses;

    async fn check(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        let service = request.into_inner().service;
        if !SERVICES.contains(&service.as_str()) {
            return Err(Status::not_found("there is no such service"));
        }
        let status = serving(self.readiness.borrow().is_ready);
        Ok(Response::new(response(status)))
    }

    /// Says the status now, and each time it changes; a change of words alone is none.
    async fn watch(
        &self,
        request: Request<HealthCheckRequest>,
    ) -> Result<Response<Statuses>, Status> {
        let service = request.into_inner().service;
        if !SERVICES.contains(&service.as_str()) {
            // The protocol: say so, and stay, as the service might come.
            let unknown = response(ServingStatus::ServiceUnknown);
            let statuses = tokio_stream::once(Ok(unknown)).chain(tokio_stream::pending());
            return Ok(Response::new(Box::pin(statuses)));
        }
        let mut last = None;
        let statuses = WatchStream::new(self.readiness.subscribe());
        let statuses = statuses.filter_map(move |Readiness { is_ready, .. }| {
            let is_new = last.replace(is_ready) != Some(is_ready);
            is_new.then(|| Ok(response(serving(is_ready))))
        });
        Ok(Response::new(Box::pin(statuses)))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse {
        status: status.into(),
    }
}

fn serving(is_ready: bool) -> ServingStatus {
    match is_ready {
        true => ServingStatus::Serving,
        false => ServingStatus::NotServing,
    }
}

/// Says whether requests can be served: if any group can.
pub(super) fn readiness<'a>(
    states: impl Iterator<Item = (&'a str, &'a Result<WatchResponse, String>)>,
) -> Readiness {
    let mut words = Vec::new();
    let mut is_ready = false;
    for (name, state) in states {
        is_ready |= state.as_ref().is_ok_and(|state| state.serving);
        words.push(format!("group '{name}': {}", group_in_words(state)));
    }
    let status = match words.is_empty() {
        true => "no group has a lead yet".into(),
        false => words.join("; "),
    };
    Readiness { is_ready, status }
}

fn group_in_words(state: &Result<WatchResponse, String>) -> String {
    let state = match state {
        Ok(state) => state,
        Err(why) => return format!("its lead {why}"),
    };
    let ranks = format!(
        "{} of {} ranks are present",
        state.ranks_present, state.ranks_needed
    );
    let status = match state.status.as_str() {
        "" => ranks,
        words => format!("{words}; {ranks}"),
    };
    match state.missing.is_empty() {
        true => status,
        false => format!("{status}; missing: {}", state.missing.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use telemetry::Telemetry;
    use tokio_stream::StreamExt as _;
    use tonic::{Code, Request};
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_server::Health as _;

    use super::{Health, Readiness, SERVICES};

    fn asked(service: &str) -> Request<HealthCheckRequest> {
        Request::new(HealthCheckRequest {
            service: service.to_owned(),
        })
    }

    fn readiness(is_ready: bool, status: &str) -> Readiness {
        Readiness {
            is_ready,
            status: status.to_owned(),
        }
    }

    #[tokio::test]
    async fn nothing_serves_before_the_lead_was_heard_of() {
        let health = Health::new(Telemetry::unseen_coordinator(Vec::new(), 0));
        for service in SERVICES {
            let answer = health.check(asked(service)).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::NotServing, "{service}");
        }
        let unknown = health.check(asked("x.Y")).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
    }

    #[tokio::test]
    async fn a_watcher_hears_of_changes_only() {
        let health = Health::new(Telemetry::unseen_coordinator(Vec::new(), 0));
        let mut statuses = health.watch(asked("")).await.unwrap().into_inner();
        let mut heard = Vec::new();
        for (is_ready, words) in [(false, "1 of 2"), (true, "2 of 2"), (true, "3 of 3")] {
            health.set(readiness(is_ready, words));
            tokio::select! {
                biased;
                status = statuses.next() => heard.push(status.unwrap().unwrap().status()),
                () = std::future::ready(()) => {}
            }
        }
        assert_eq!(heard, [ServingStatus::NotServing, ServingStatus::Serving]);
        let mut unknown = health.watch(asked("x.Y")).await.unwrap().into_inner();
        let status = unknown.next().await.unwrap().unwrap().status();
        assert_eq!(status, ServingStatus::ServiceUnknown);
    }
}
