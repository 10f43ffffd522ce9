//! The exchange of rows between the ranks of a group, around the experts of each layer.
//!
//! `dispatch` sends every row once to each rank that holds one of its experts; the ranks compute;
//! `combine` brings one row per (token, expert) home, unweighted and in the token's top-k order.
//! Every rank takes part in both, in every layer of every step, also with zero rows: the schedule
//! of exchanges never depends on data.

use std::fmt;
use std::time::Duration;

use spec::{ExpertId, Fence, Rank, StepNumber};

/// The step and layer an exchange belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment {
    /// Term and epoch.
    pub fence: Fence,
    /// The step.
    pub step: StepNumber,
    /// The layer.
    pub layer: u32,
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "epoch {} step {} layer {}",
            self.fence, self.step, self.layer
        )
    }
}

/// Which of a layer's two exchanges.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Rows to the experts.
    Dispatch,
    /// Expert outputs back home.
    Combine,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Dispatch => "dispatch",
            Self::Combine => "combine",
        })
    }
}

/// Rows to send, with the experts chosen for them.
#[derive(Clone, Copy, Debug)]
pub struct Dispatch<'a> {
    /// When.
    pub moment: Moment,
    /// Width of a row.
    pub hidden: usize,
    /// Experts of a row.
    pub k: usize,
    /// `[rows, hidden]`.
    pub rows: &'a [f32],
    /// `[rows, k]`, in top-k order; distinct within a row.
    pub experts: &'a [u32],
    /// The owner of each expert of this layer.
    pub owners: &'a [Rank],
}

/// One (row, expert) pair to compute here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// The expert.
    pub expert: ExpertId,
    /// Index into [`Received::rows`].
    pub row: u32,
}

/// What came to this rank's experts.
#[derive(Clone, Debug, Default)]
pub struct Received {
    /// `[n, hidden]`, by sending rank, then in the sender's order.
    pub rows: Vec<f32>,
    /// The pairs to compute, by row, then in the row's top-k order. `combine` takes one output row
    /// for each, in this order.
    pub work: Vec<Work>,
    /// How many of `work` came from each rank, in rank order.
    pub counts: Vec<usize>,
}

/// The outputs of this rank's own rows.
#[derive(Clone, Debug, Default)]
pub struct Returned {
    /// `[rows, k, hidden]`, in top-k order.
    pub outputs: Vec<f32>,
}

/// Exchanges rows with the other ranks. Calls alternate: `dispatch`, `combine`, `dispatch`, …,
/// with ascending moments; every rank of the group makes the same calls.
pub trait Exchange: Send {
    /// Sends rows to the ranks of their experts and returns what came to this rank's own.
    ///
    /// # Errors
    ///
    /// See [`ExchangeError`]; the step is then void for this rank.
    fn dispatch(&mut self, args: Dispatch<'_>) -> Result<Received, ExchangeError>;

    /// Sends `outputs`, `[received.work.len(), hidden]`, home and returns those of this rank's rows.
    ///
    /// # Errors
    ///
    /// See [`ExchangeError`]; the step is then void for this rank.
    fn combine(&mut self, received: &Received, outputs: &[f32]) -> Result<Returned, ExchangeError>;
}

/// Why an exchange did not happen. Each names the peer, the phase and the moment.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExchangeError {
    /// A peer's connection is gone.
    #[error("rank {peer} is gone ({why}) in {phase} of {moment}")]
    PeerLost {
        /// Who.
        peer: Rank,
        /// What the transport said.
        why: String,
        /// The exchange.
        phase: Phase,
        /// When.
        moment: Moment,
    },
    /// The lead gave the step up.
    #[error("{phase} of {moment} was aborted while waiting for rank {peer}")]
    Aborted {
        /// Who was waited for.
        peer: Rank,
        /// The exchange.
        phase: Phase,
        /// When.
        moment: Moment,
    },
    /// Nothing came within the limit.
    #[error("rank {peer} sent nothing for {waited:?} in {phase} of {moment}")]
    TimedOut {
        /// Who.
        peer: Rank,
        /// How long.
        waited: Duration,
        /// The exchange.
        phase: Phase,
        /// When.
        moment: Moment,
    },
    /// A frame does not say what the plan expects.
    #[error("rank {peer} sent a wrong frame in {phase} of {moment}: {why}")]
    BadFrame {
        /// Who.
        peer: Rank,
        /// What is wrong.
        why: String,
        /// The exchange.
        phase: Phase,
        /// When.
        moment: Moment,
    },
}
