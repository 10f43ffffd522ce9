//! Who a process is, told and asked.

use std::time::Duration;

use proto::internal::identity_service_client::IdentityServiceClient;
use proto::internal::identity_service_server::{IdentityService, IdentityServiceServer};
use proto::internal::{IdentifyRequest, IdentifyResponse};
use sockets::Dialer;
use tokio::time::timeout;
use tonic::transport::Endpoint;
use tonic::{Request, Response, Status};

/// How long another process of the same name may take to say that it is alive.
const LIMIT: Duration = Duration::from_secs(1);

/// Answers for one process.
#[derive(Clone, Debug)]
pub struct Identity(IdentifyResponse);

/// Returns the service that says who this process is; every process serves it where others reach it.
#[must_use]
pub fn identity(name: &str, incarnation: u64) -> IdentityServiceServer<Identity> {
    IdentityServiceServer::new(Identity(IdentifyResponse {
        name: name.to_owned(),
        incarnation,
    }))
}

#[tonic::async_trait]
impl IdentityService for Identity {
    async fn identify(
        &self,
        _: Request<IdentifyRequest>,
    ) -> Result<Response<IdentifyResponse>, Status> {
        Ok(Response::new(self.0.clone()))
    }
}

/// Asks a process which start it is; `None` if it does not answer in time.
pub(crate) async fn ask(dialer: &Dialer, address: &str) -> Option<u64> {
    let endpoint = Endpoint::from_shared(address.to_owned()).ok()?;
    let endpoint = endpoint.connect_timeout(LIMIT);
    let ask = async {
        let channel = dialer.connect(&endpoint).await.ok()?;
        let mut client = IdentityServiceClient::new(channel);
        let answer = client.identify(IdentifyRequest {}).await;
        Some(answer.ok()?.into_inner().incarnation)
    };
    timeout(LIMIT, ask).await.ok().flatten()
}
