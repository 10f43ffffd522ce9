//! The receiving side: other processes' streams into this one's inboxes.

use std::sync::Arc;

use exchange::{Frame, Refusal};
use proto::internal::exchange_service_server::ExchangeService;
use proto::internal::{PushRequest, PushResponse};
use tonic::{Request, Response, Status, Streaming};

use crate::convert::{from_wire, reason};
use crate::epoch::{Epoch, Link};
use crate::hub::Epochs;

/// Serves `conclave.internal.v1.ExchangeService` for a [`crate::Hub`].
#[derive(Clone, Debug)]
pub struct Service {
    epochs: Arc<Epochs>,
}

impl Service {
    pub(crate) fn new(epochs: Arc<Epochs>) -> Self {
        Self { epochs }
    }
}

#[tonic::async_trait]
impl ExchangeService for Service {
    async fn push(
        &self,
        request: Request<Streaming<PushRequest>>,
    ) -> Result<Response<PushResponse>, Status> {
        let mut stream = request.into_inner();
        let enter = |first| async {
            let first = from_wire(first, &self.epochs.group)?;
            let epoch = self.epochs.entered(first.moment.fence).await?;
            Ok((first, epoch))
        };
        let entered = self.epochs.lobby.first(stream.message(), enter).await?;
        let Some((first, epoch)) = entered else {
            return Ok(Response::new(PushResponse {}));
        };
        let Some(link) = epoch.link(first.from) else {
            let why = format!("from: rank {} is not at a peer of this worker", first.from);
            return Err(Status::invalid_argument(why));
        };
        if !link.occupy() {
            let why = format!("rank {} has or had its stream in this epoch", first.from);
            return Err(Status::already_exists(why));
        }
        let outcome = tokio::select! {
            outcome = receive(&epoch, link, (first, stream), &self.epochs.group) => outcome,
            () = epoch.left.cancelled() => Ok(()),
        };
        match outcome {
            Err(status) if !epoch.left.is_cancelled() => {
                epoch.lose(link, &reason(&status));
                Err(status)
            }
            _ => Ok(Response::new(PushResponse {})),
        }
    }
}

/// Delivers frames until the peer ends its stream.
async fn receive(
    epoch: &Epoch,
    link: &Link,
    (first, mut stream): (Frame, Streaming<PushRequest>),
    group: &str,
) -> Result<(), Status> {
    let mut next = Some(first);
    while let Some(frame) = next {
        deliver(epoch, link, frame)?;
        let request = stream.message().await?;
        next = request
            .map(|request| from_wire(request, group))
            .transpose()?;
    }
    Ok(())
}

fn deliver(epoch: &Epoch, link: &Link, frame: Frame) -> Result<(), Status> {
    let (from, to) = (frame.from, frame.to);
    if !link.peer.ranks.contains(&from) {
        let why = format!("from: rank {from} is not at this stream's worker");
        return Err(Status::invalid_argument(why));
    }
    let Some(entrance) = epoch.entrance(to) else {
        return Err(Status::invalid_argument(format!(
            "to: rank {to} is not at this worker"
        )));
    };
    entrance
        .inbox
        .deliver(frame)
        .map_err(|refusal| match refusal {
            Refusal::OtherEpoch { .. } | Refusal::Aborted => {
                Status::failed_precondition(refusal.to_string())
            }
            _ => Status::invalid_argument(refusal.to_string()),
        })
}
