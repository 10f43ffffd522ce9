//! What the step loop is told.

use cluster::{Event, Refused, Registration};
use proto::internal as wire;
use spec::{Fence, Term, TokenId};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::ledger::{Fingerprint, Following, Name, Record, Terms};
use super::log::End;
use super::step_loop::Inquiry;

/// A message to the step loop.
#[derive(Debug)]
pub(crate) enum Message {
    /// A front asks.
    Ask(Ask),
    /// An operator asks.
    Inquiry(Inquiry),
    /// A worker registers.
    Register(Box<Register>),
    /// A worker's stream ended. Not heard if a newer stream has the name.
    Left { name: String, session: u64 },
    /// A worker is about to end.
    Draining { name: String, session: u64 },
    /// A worker got ready, or could not.
    Group(Event),
    /// A worker that gets ready has a sequence that an earlier lead has left.
    Collected(wire::LeftSequence),
    /// A worker that is ready has taken part in steps of this epoch last.
    Stepped(Fence),
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

/// What a front asks about a generation.
#[derive(Debug)]
pub(crate) enum Ask {
    /// To follow it, or to begin it.
    Follow(Box<Follow>, oneshot::Sender<Result<Follower, Status>>),
    /// To end it: for good, or because its text has come to its end.
    Stop(
        Name,
        End,
        oneshot::Sender<Result<wire::SequenceStanding, Status>>,
    ),
    /// To put tokens in the place of those after these others.
    Force(
        Name,
        Vec<TokenId>,
        Vec<TokenId>,
        oneshot::Sender<Result<(), Status>>,
    ),
    /// How it stands.
    Get(
        Name,
        oneshot::Sender<Result<wire::SequenceStanding, Status>>,
    ),
}

/// A front's wish to follow a generation.
#[derive(Debug)]
pub(crate) struct Follow {
    pub(crate) name: Name,
    /// The request's fingerprint, where it is told.
    pub(crate) fingerprint: Option<Fingerprint>,
    /// To be submitted if it is not known; `None` attaches only.
    pub(crate) record: Option<Record>,
    /// Tokens that it has from elsewhere.
    pub(crate) generated: Vec<TokenId>,
    /// Whether a lead has accepted it before.
    pub(crate) was_accepted: bool,
    pub(crate) terms: Terms,
}

/// A place among the followers of a generation, given up when dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) name: Name,
    pub(crate) following: Following,
    /// Whether the generation was known.
    pub(crate) attached: bool,
    /// Term of the lead.
    pub(crate) term: Term,
    pub(crate) gone: mpsc::UnboundedSender<(Name, u64)>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        let gone = (self.name.clone(), self.following.number);
        // After shutdown nobody hears.
        self.gone.send(gone).ok();
    }
}

/// What the loop has told a worker's stream, by cancelling.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    /// The stream ends.
    pub(crate) evict: CancellationToken,
    /// The worker shall drain: an operator wants it.
    pub(crate) drain: CancellationToken,
    /// The worker drains, and may end.
    pub(crate) release: CancellationToken,
}

impl Orders {
    /// Nothing is told yet; the stream ends with the lead.
    pub(crate) fn new(evict: CancellationToken) -> Self {
        Self {
            evict,
            drain: CancellationToken::new(),
            release: CancellationToken::new(),
        }
    }
}

/// A worker that wants to join.
#[derive(Debug)]
pub(crate) struct Register {
    pub(crate) registration: Registration,
    /// Number of the worker's stream.
    pub(crate) session: u64,
    pub(crate) orders: Orders,
    pub(crate) reply: oneshot::Sender<Result<Term, Refused>>,
}
