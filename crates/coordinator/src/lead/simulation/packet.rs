//! What nodes send each other.

use std::sync::Arc;

use cluster::{Ask, EpochPlan, Registration, Seat};
use proto::internal as wire;
use spec::{Fence, Part, Rank, StepNumber, TokenId};
use tonic::Code;

/// A message of a stream.
#[derive(Clone, Debug)]
pub(super) enum Packet {
    /// To the store: tell me of the seat, now and whenever it changes.
    Watch,
    /// From the store.
    Seat(Seat),
    /// To the store: a transaction.
    Txn(Ask),
    /// From the store: a transaction was decided.
    Decided,
    /// To the store: I want a lease.
    Grant,
    /// To the store: this lease goes on.
    KeepAlive(i64),
    /// From the store: this lease is yours.
    Lease(i64),
    /// From the store: there is no such lease.
    NoLease(i64),

    /// From a worker, the first message to its lead.
    Register(Registration),
    /// From a worker.
    Beat { draining: bool },
    /// From a lead.
    Answer { released: bool },
    /// From a lead: another live process has the name.
    NameTaken,

    /// From a lead, the first message to a worker.
    Prepare { plan: Arc<EpochPlan>, lead: u64 },
    /// From a worker: what another lead has left here.
    Left(wire::LeftSequence),
    /// From a worker: for each of its ranks, whether its KV is still there; and the epoch of its last step.
    Ready(Vec<bool>, Fence),
    /// From a worker: it obeys another lead.
    Overtaken(String),
    /// From a lead: a step's parts for this worker's ranks, twice: as they travel and as they are read.
    Parts {
        fence: Fence,
        step: StepNumber,
        sent: Vec<wire::Part>,
        read: Vec<Part>,
    },
    /// From a worker, of its steps.
    Said(wire::RunResponse),

    /// From a worker to another: a rank's rows of a step.
    Rows {
        fence: Fence,
        step: StepNumber,
        from: Rank,
        /// Which worker, in which start.
        by: (usize, u64),
    },

    /// From a client, to be attached to a generation or to begin it.
    Follow(Box<wire::FollowRequest>),
    /// From a client: end it for good. Names are of a principal and a request id.
    Cancel((String, String)),
    /// From a client: its text has come to its end.
    Settle((String, String)),
    /// From a client: how does it stand?
    Get((String, String)),
    /// From a client: put tokens in the place of those after these.
    Force {
        name: (String, String),
        generated: Vec<TokenId>,
        tokens: Vec<TokenId>,
    },
    /// From a lead.
    Event(wire::FollowResponse),
    /// From a lead, the last message: with this status and reason.
    Refused(Code, String),
    /// From a lead: how it stands, where it is wanted that it has ended.
    Standing(wire::SequenceStanding),
    /// From a lead: they are there.
    Forced,
}

impl Packet {
    /// Says whether it may come twice, or late. HTTP/2 rules both out within a stream. What begins a stream,
    /// what a client reads and what a watch tells rely on that; all others have to bear more.
    pub(super) fn may_stray(&self) -> bool {
        matches!(
            self,
            Self::Txn(_)
                | Self::Decided
                | Self::Beat { .. }
                | Self::Answer { .. }
                | Self::Left(_)
                | Self::Ready(..)
                | Self::Said(_)
                | Self::Rows { .. }
        )
    }
}
