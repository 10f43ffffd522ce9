//! GenerationService: each call to its own file, and the two that name a generation.

use std::pin::Pin;
use std::sync::Arc;

use proto::v1::generation_service_server::GenerationService;
use proto::{internal, v1};
use tokio::time::Instant;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};

use super::error::Error;
use super::generation::{Clock, PRINCIPAL};
use super::groups::Group;
use super::{Shared, chat, convert, deadline, generate, held, standing};

/// GenerationService over the shared state of a front.
#[derive(Clone, Debug)]
pub(super) struct Generations(pub(super) Arc<Shared>);

/// A stream of replies in tonic's form.
type ReplyStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn stream<T: Send + 'static>(replies: super::replies::Replies<T>) -> Response<ReplyStream<T>> {
    Response::new(Box::pin(replies.map(|reply| reply.map_err(Status::from))))
}

/// Takes the clock of a call that has just arrived.
fn clock<T>(request: &Request<T>) -> Result<Clock, Error> {
    let arrived = Instant::now();
    Ok(Clock {
        arrived,
        deadline: deadline::of(request.metadata().as_ref(), arrived)?,
    })
}

#[tonic::async_trait]
impl GenerationService for Generations {
    type ChatStream = ReplyStream<v1::ChatResponse>;
    type GenerateStream = ReplyStream<v1::GenerateResponse>;

    async fn chat(
        &self,
        request: Request<v1::ChatRequest>,
    ) -> Result<Response<Self::ChatStream>, Status> {
        let clock = clock(&request)?;
        Ok(stream(
            chat::start(&self.0, request.into_inner(), clock).await?,
        ))
    }

    async fn generate(
        &self,
        request: Request<v1::GenerateRequest>,
    ) -> Result<Response<Self::GenerateStream>, Status> {
        let clock = clock(&request)?;
        Ok(stream(
            generate::start(&self.0, request.into_inner(), clock).await?,
        ))
    }

    async fn cancel_generation(
        &self,
        request: Request<v1::CancelGenerationRequest>,
    ) -> Result<Response<v1::CancelGenerationResponse>, Status> {
        let v1::CancelGenerationRequest {
            generation_id,
            reason,
        } = request.into_inner();
        convert::generation_id(&generation_id)?;
        convert::short_text(&reason, "reason")?;
        let cancel = |group: Group| {
            let cancel = internal::CancelRequest {
                principal: PRINCIPAL.to_owned(),
                request_id: generation_id.clone(),
                group: group.name.to_string(),
            };
            let mut lead = group.client;
            async move { lead.cancel(cancel).await }
        };
        let answer = held::ask(&self.0, &generation_id, cancel).await?;
        let state = standing::derive(&self.0, answer.standing).await?.state;
        tracing::info!(
            request_id = generation_id,
            reason,
            ?state,
            "cancel was asked for"
        );
        Ok(Response::new(v1::CancelGenerationResponse {
            state: state.into(),
        }))
    }

    async fn get_generation(
        &self,
        request: Request<v1::GetGenerationRequest>,
    ) -> Result<Response<v1::GetGenerationResponse>, Status> {
        let generation_id = request.into_inner().generation_id;
        convert::generation_id(&generation_id)?;
        let get = |group: Group| {
            let get = internal::GetRequest {
                principal: PRINCIPAL.to_owned(),
                request_id: generation_id.clone(),
                group: group.name.to_string(),
            };
            let mut lead = group.client;
            async move { lead.get(get).await }
        };
        let answer = held::ask(&self.0, &generation_id, get).await?;
        let standing = standing::derive(&self.0, answer.standing).await?;
        Ok(Response::new(v1::GetGenerationResponse {
            generation_id,
            state: standing.state.into(),
            last_sequence: standing.last_sequence,
            usage: Some(standing.usage),
        }))
    }
}
