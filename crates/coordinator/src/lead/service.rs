//! `LeadService`: what fronts ask of whoever leads a group in this process.

use proto::internal as wire;
use proto::internal::lead_service_server::LeadService;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::Lead;
use super::convert;
use super::follow::{EventStream, ending, invalid};
use super::leads::Leads;
use super::ledger::Name;
use super::log::End;
use super::message::{Ask, Message};

impl Lead {
    /// Asks the step loop, and waits for its answer.
    async fn ask<T>(
        &self,
        ask: impl FnOnce(oneshot::Sender<Result<T, Status>>) -> Ask,
    ) -> Result<T, Status> {
        let (reply, answer) = oneshot::channel();
        let sent = self.messages.send(Message::Ask(ask(reply))).await;
        sent.map_err(|_| ending())?;
        answer.await.map_err(|_| ending())?
    }
}

fn name(principal: String, request_id: String) -> Result<Name, Status> {
    convert::name(principal, request_id).map_err(|error| invalid(&error))
}

#[tonic::async_trait]
impl LeadService for Leads {
    type FollowStream = EventStream;
    type WatchStream = ReceiverStream<Result<wire::WatchResponse, Status>>;

    async fn follow(
        &self,
        request: Request<wire::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let request = request.into_inner();
        let lead = self.of(&request.group).await?;
        let follow = convert::follow(request, &lead.vocabulary);
        let follow = Box::new(follow.map_err(|error| invalid(&error))?);
        let follower = lead.ask(|reply| Ask::Follow(follow, reply)).await?;
        Ok(Response::new(EventStream::new(follower)))
    }

    async fn settle(
        &self,
        request: Request<wire::SettleRequest>,
    ) -> Result<Response<wire::SettleResponse>, Status> {
        let wire::SettleRequest {
            principal,
            request_id,
            group,
        } = request.into_inner();
        let lead = self.of(&group).await?;
        let name = name(principal, request_id)?;
        lead.ask(|reply| Ask::Stop(name, End::Settled, reply))
            .await?;
        Ok(Response::new(wire::SettleResponse {}))
    }

    async fn force(
        &self,
        request: Request<wire::ForceRequest>,
    ) -> Result<Response<wire::ForceResponse>, Status> {
        let request = request.into_inner();
        let lead = self.of(&request.group).await?;
        let forced = convert::forced(&request, lead.vocabulary.size);
        let (generated, tokens) = forced.map_err(|error| invalid(&error))?;
        let name = name(request.principal, request.request_id)?;
        lead.ask(|reply| Ask::Force(name, generated, tokens, reply))
            .await?;
        Ok(Response::new(wire::ForceResponse {}))
    }

    async fn cancel(
        &self,
        request: Request<wire::CancelRequest>,
    ) -> Result<Response<wire::CancelResponse>, Status> {
        let wire::CancelRequest {
            principal,
            request_id,
            group,
        } = request.into_inner();
        let lead = self.of(&group).await?;
        let name = name(principal, request_id)?;
        let standing = lead
            .ask(|reply| Ask::Stop(name, End::Cancelled, reply))
            .await?;
        Ok(Response::new(wire::CancelResponse {
            standing: Some(standing),
        }))
    }

    async fn get(
        &self,
        request: Request<wire::GetRequest>,
    ) -> Result<Response<wire::GetResponse>, Status> {
        let wire::GetRequest {
            principal,
            request_id,
            group,
        } = request.into_inner();
        let lead = self.of(&group).await?;
        let name = name(principal, request_id)?;
        let standing = lead.ask(|reply| Ask::Get(name, reply)).await?;
        Ok(Response::new(wire::GetResponse {
            standing: Some(standing),
        }))
    }

    async fn watch(
        &self,
        request: Request<wire::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let lead = self.of(&request.into_inner().group).await?;
        let (sender, stream) = mpsc::channel(1);
        let (mut states, done) = (lead.states, lead.done);
        lead.tasks.spawn(async move {
            loop {
                let state = states.borrow_and_update().clone();
                if sender.send(Ok(state)).await.is_err() {
                    return;
                }
                tokio::select! {
                    changed = states.changed() => if changed.is_err() { return },
                    () = sender.closed() => return,
                    () = done.cancelled() => return,
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}
