//! `etcdserverpb.Lease`.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::proto::{
    PbLeaseGrantRequest, PbLeaseGrantResponse, PbLeaseKeepAliveRequest, PbLeaseKeepAliveResponse,
    PbLeaseLeasesRequest, PbLeaseLeasesResponse, PbLeaseRevokeRequest, PbLeaseRevokeResponse,
    PbLeaseService, PbLeaseTimeToLiveRequest, PbLeaseTimeToLiveResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{Shared, only_if};
use crate::limits::MAX_LEASE_TTL;

/// Answers of a stream that nobody has taken; then it reads no more requests.
const ANSWERS: usize = 4;

pub(super) struct Service(pub(super) Arc<Shared>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl PbLeaseService for Service {
    type LeaseKeepAliveStream = ReceiverStream<Result<PbLeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: Request<PbLeaseGrantRequest>,
    ) -> Answer<PbLeaseGrantResponse> {
        let request = request.into_inner();
        let seconds = request.ttl.max(1).cast_unsigned();
        if seconds > MAX_LEASE_TTL.as_secs() {
            return Err(Status::out_of_range("etcdserver: too large lease TTL"));
        }
        let (id, revision) = self.0.with(|state| {
            let id = state.grant(request.id, Duration::from_secs(seconds))?;
            Ok::<_, Status>((id, state.revision()))
        })?;
        Ok(Response::new(PbLeaseGrantResponse {
            header: self.0.header(revision),
            id,
            ttl: seconds.cast_signed(),
            error: String::new(),
        }))
    }

    async fn lease_revoke(
        &self,
        request: Request<PbLeaseRevokeRequest>,
    ) -> Answer<PbLeaseRevokeResponse> {
        let id = request.into_inner().id;
        let revision = self.0.with(|state| {
            state.revoke(id)?;
            Ok::<_, Status>(state.revision())
        })?;
        Ok(Response::new(PbLeaseRevokeResponse {
            header: self.0.header(revision),
        }))
    }

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<PbLeaseKeepAliveRequest>>,
    ) -> Answer<Self::LeaseKeepAliveStream> {
        let mut requests = request.into_inner();
        let shared = Arc::clone(&self.0);
        let (out, answers) = mpsc::channel(ANSWERS);
        tokio::spawn(async move {
            loop {
                let request = tokio::select! {
                    request = requests.message() => request,
                    () = shared.stopped.cancelled() => return,
                    () = out.closed() => return,
                };
                let Ok(Some(request)) = request else { return };
                let answer = shared.renew(request.id);
                if out.send(Ok(answer)).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<PbLeaseTimeToLiveRequest>,
    ) -> Answer<PbLeaseTimeToLiveResponse> {
        let PbLeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let (found, revision) = self
            .0
            .with(|state| (state.time_to_live(id), state.revision()));
        let header = self.0.header(revision);
        let Some(found) = found else {
            return Ok(Response::new(PbLeaseTimeToLiveResponse {
                header,
                id,
                ttl: -1,
                ..Default::default()
            }));
        };
        Ok(Response::new(PbLeaseTimeToLiveResponse {
            header,
            id,
            ttl: found.left.as_secs().cast_signed(),
            granted_ttl: found.granted.as_secs().cast_signed(),
            keys: if keys { found.keys } else { Vec::new() },
        }))
    }

    async fn lease_leases(
        &self,
        _: Request<PbLeaseLeasesRequest>,
    ) -> Answer<PbLeaseLeasesResponse> {
        only_if(false, "Lease.LeaseLeases")?;
        Ok(Response::new(PbLeaseLeasesResponse::default()))
    }
}

impl Shared {
    /// Renews a lease; one that is not there has no time to live.
    fn renew(&self, id: i64) -> PbLeaseKeepAliveResponse {
        let (ttl, revision) = self.with(|state| (state.renew(id), state.revision()));
        PbLeaseKeepAliveResponse {
            header: self.header(revision),
            id,
            ttl: ttl.map_or(0, |ttl| ttl.as_secs().cast_signed()),
        }
    }
}
