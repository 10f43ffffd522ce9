//! `LeadService`: sequences in, their tokens out.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use proto::internal as wire;
use proto::internal::lead_service_server::LeadService;
use spec::SequenceId;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnboundedReceiverStream};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt};

use super::convert::{self, Malformed};
use super::message::{Message, Submit};
use crate::limits;

/// Serves fronts.
#[derive(Clone, Debug)]
pub(crate) struct Follow {
    pub(crate) messages: mpsc::Sender<Message>,
    pub(crate) cancels: mpsc::UnboundedSender<SequenceId>,
    pub(crate) states: watch::Receiver<wire::WatchResponse>,
    pub(crate) vocab_size: usize,
    pub(crate) max_context: usize,
    pub(crate) tasks: TaskTracker,
    pub(crate) done: CancellationToken,
}

/// The events of a sequence. Dropped before the last, it cancels the sequence.
#[derive(Debug)]
pub(crate) struct EventStream {
    events: UnboundedReceiverStream<Result<wire::FollowResponse, Status>>,
    sequence: SequenceId,
    cancels: mpsc::UnboundedSender<SequenceId>,
}

impl Stream for EventStream {
    type Item = Result<wire::FollowResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Pin::new(&mut self.events).poll_next(context)
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        // For a sequence that has ended this is heard and means nothing; after shutdown nobody hears.
        self.cancels.send(self.sequence).ok();
    }
}

/// Says UNAVAILABLE, and when to try again.
pub(crate) fn unavailable(why: &str, retry_after: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(retry_after));
    Status::with_error_details(tonic::Code::Unavailable, why, details)
}

/// Says which field is wrong.
fn invalid(malformed: &Malformed) -> Status {
    let details = ErrorDetails::with_bad_request_violation(malformed.field, &malformed.why);
    Status::with_error_details(tonic::Code::InvalidArgument, malformed.to_string(), details)
}

impl Follow {
    fn check(&self, request: wire::FollowRequest) -> Result<(Submit, Reply), Malformed> {
        let missing = Malformed::missing;
        let sampling = request.sampling.ok_or_else(|| missing("sampling"))?;
        let sampling = convert::sampling_from_wire(sampling, self.vocab_size)?;
        let stop = request.stop.ok_or_else(|| missing("stop"))?;
        let tokens = convert::tokens("tokens", &request.tokens, self.vocab_size)?;
        if tokens.is_empty() {
            return Err(Malformed {
                field: "tokens",
                why: "at least one is needed".into(),
            });
        }
        // A token that is generated needs a position, too.
        if tokens.len() + stop.max_tokens.min(1) as usize > self.max_context {
            let (have, limit) = (tokens.len(), self.max_context);
            let why = format!("{have} tokens leave no room in a context of {limit}");
            return Err(Malformed {
                field: "tokens",
                why,
            });
        }
        let stop_tokens = convert::tokens("stop_tokens", &stop.stop_tokens, self.vocab_size)?;
        let (events, stream) = mpsc::unbounded_channel();
        let (reply, answer) = oneshot::channel();
        let submit = Submit {
            tokens,
            sampling,
            max_tokens: stop.max_tokens as usize,
            stop_tokens,
            principal: request.principal,
            cache_salt: request.cache_salt,
            events,
            reply,
        };
        Ok((submit, Reply { stream, answer }))
    }
}

/// The other ends of a [`Submit`].
struct Reply {
    stream: mpsc::UnboundedReceiver<Result<wire::FollowResponse, Status>>,
    answer: oneshot::Receiver<Result<SequenceId, Status>>,
}

#[tonic::async_trait]
impl LeadService for Follow {
    type FollowStream = EventStream;
    type WatchStream = ReceiverStream<Result<wire::WatchResponse, Status>>;

    async fn follow(
        &self,
        request: Request<wire::FollowRequest>,
    ) -> Result<Response<Self::FollowStream>, Status> {
        let ending = || unavailable("the coordinator is ending", limits::RETRY_AFTER);
        let (submit, reply) = self
            .check(request.into_inner())
            .map_err(|error| invalid(&error))?;
        self.messages
            .send(Message::Submit(submit))
            .await
            .map_err(|_| ending())?;
        let sequence = reply.answer.await.map_err(|_| ending())??;
        let events = UnboundedReceiverStream::new(reply.stream);
        Ok(Response::new(EventStream {
            events,
            sequence,
            cancels: self.cancels.clone(),
        }))
    }

    async fn watch(
        &self,
        _request: Request<wire::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let (sender, stream) = mpsc::channel(1);
        let (mut states, done) = (self.states.clone(), self.done.clone());
        self.tasks.spawn(async move {
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
