//! What the step loop is told.

use std::sync::Arc;

use cluster::{Event, Refused, Registration};
use proto::internal as wire;
use spec::{Fence, Sampling, SequenceId, Term, TokenId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Status;

/// What a follower is sent.
pub(crate) type Events = mpsc::UnboundedSender<Result<wire::FollowResponse, Status>>;

/// A message to the step loop.
#[derive(Debug)]
pub(crate) enum Message {
    /// A front submits a sequence.
    Submit(Submit),
    /// A worker registers.
    Register(Register),
    /// A worker's stream ended. Not heard if a newer stream has the name.
    Left { name: String, session: u64 },
    /// A worker got ready, or could not.
    Group(Event),
    /// What a running worker says.
    Worker {
        fence: Fence,
        name: String,
        said: wire::RunResponse,
    },
    /// A worker refuses the plan itself: no other attempt will do.
    Hopeless {
        fence: Fence,
        name: String,
        why: String,
    },
    /// A worker's stream of steps broke.
    Broken {
        fence: Fence,
        name: String,
        why: String,
    },
}

/// A sequence to run.
#[derive(Debug)]
pub(crate) struct Submit {
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) sampling: Arc<Sampling>,
    pub(crate) max_tokens: usize,
    pub(crate) stop_tokens: Vec<TokenId>,
    pub(crate) principal: String,
    pub(crate) cache_salt: String,
    /// Where its events go. Not bounded by itself: a sequence has at most as many events as tokens.
    pub(crate) events: Events,
    pub(crate) reply: oneshot::Sender<Result<SequenceId, Status>>,
}

/// A worker that wants to join.
#[derive(Debug)]
pub(crate) struct Register {
    pub(crate) registration: Registration,
    /// Number of the worker's stream.
    pub(crate) session: u64,
    /// Ends that stream.
    pub(crate) evict: CancellationToken,
    pub(crate) reply: oneshot::Sender<Result<Term, Refused>>,
}
