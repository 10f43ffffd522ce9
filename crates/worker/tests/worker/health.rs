//! What a worker's health service says.

use std::time::Duration;

use tonic::Streaming;
use tonic::transport::Endpoint;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::process::Process;

/// Follows whether a worker is ready for steps.
pub(crate) struct Health {
    changes: Streaming<HealthCheckResponse>,
}

impl Health {
    pub(crate) async fn watch(worker: &Process) -> Self {
        Self::watch_service(worker, "conclave.internal.v1.StepService").await
    }

    pub(crate) async fn watch_service(worker: &Process, service: &str) -> Self {
        let endpoint = Endpoint::from_shared(worker.address.clone()).unwrap();
        let mut client = HealthClient::new(endpoint.connect().await.unwrap());
        let request = HealthCheckRequest {
            service: service.into(),
        };
        let changes = client.watch(request).await.unwrap().into_inner();
        Self { changes }
    }

    /// Waits until it says whether it serves.
    pub(crate) async fn until(&mut self, serving: bool) {
        let expected = if serving {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        let changed =
            async { while self.changes.message().await.unwrap().unwrap().status() != expected {} };
        let changed = tokio::time::timeout(Duration::from_secs(20), changed).await;
        changed.unwrap_or_else(|_| panic!("it never said {expected:?}"));
    }
}
