//! How a frame gets to its rank.

use std::sync::Arc;

use bytes::Bytes;
use kernels::{Moment, Phase};
use spec::Rank;

use crate::inbox::{Inbox, Refusal};

/// All that one rank has for another in one exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Epoch, step and layer.
    pub moment: Moment,
    /// Which of the layer's two exchanges.
    pub phase: Phase,
    /// Sending rank.
    pub from: Rank,
    /// Receiving rank.
    pub to: Rank,
    /// The rows, in the byte layout of the phase; at most [`crate::MAX_FRAME_BYTES`].
    pub payload: Bytes,
}

/// Carries frames to the other ranks of the group.
pub trait Transport: Send {
    /// Sends `frame` on its way, without waiting for the receiver to take it.
    ///
    /// Frames from one rank to another arrive in the order they were sent.
    ///
    /// # Errors
    ///
    /// [`SendError`]; nothing more reaches that rank in this epoch.
    fn send(&mut self, to: Rank, frame: Frame) -> Result<(), SendError>;
}

/// Why a frame was not sent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no way to the receiver any more.
    #[error("{0}")]
    Gone(String),
    /// This side or the other has left the epoch.
    #[error("the epoch has been left")]
    Left,
    /// The receiver does not want it.
    #[error(transparent)]
    Refused(Refusal),
}

/// Delivers straight into the inboxes of ranks that are threads of this process.
///
/// The group has no lead that would watch over it, so dropping one rank's `Local` (its thread
/// failed, or panicked) tells the others that it is gone.
#[derive(Debug)]
pub struct Local {
    rank: Rank,
    peers: Vec<Arc<Inbox>>,
}

impl Local {
    /// Returns the transport of `rank` among `peers`, the inboxes of all ranks in rank order.
    #[must_use]
    pub fn new(rank: Rank, peers: Vec<Arc<Inbox>>) -> Self {
        Self { rank, peers }
    }
}

impl Transport for Local {
    fn send(&mut self, to: Rank, frame: Frame) -> Result<(), SendError> {
        let inbox = self.peers.get(to.index());
        let inbox = inbox.ok_or_else(|| SendError::Gone("no such rank".to_owned()))?;
        inbox.deliver(frame).map_err(SendError::from)
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        for (rank, peer) in (0..).map(Rank).zip(&self.peers) {
            if rank != self.rank {
                peer.peer_lost(self.rank, "it has left the group");
            }
        }
    }
}

impl From<Refusal> for SendError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Aborted => Self::Left,
            other => Self::Refused(other),
        }
    }
}
