//! How a frame gets to its rank.

use std::sync::Arc;

use bytes::Bytes;
use kernels::{ExchangeError, Moment, Phase};
use spec::Rank;

use crate::inbox::{Inbox, Refusal};
use crate::payload::{Parts, Payload, Whole};

/// All that one rank has for another in one exchange, as it is delivered.
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

/// A frame before it is sent: its rows lie where they were computed.
#[derive(Clone, Debug, PartialEq)]
pub struct Outgoing<'a> {
    /// Receiving rank.
    pub to: Rank,
    /// The rows, in the byte layout of the phase; at most [`crate::MAX_FRAME_BYTES`].
    pub parts: Parts<'a>,
}

impl Outgoing<'_> {
    /// Returns the frame as it is delivered.
    #[must_use]
    pub fn into_frame(self, (moment, phase): (Moment, Phase), from: Rank) -> Frame {
        Frame {
            moment,
            phase,
            from,
            to: self.to,
            payload: self.parts.to_bytes(),
        }
    }
}

/// Carries frames to the other ranks of the group, and brings theirs.
pub trait Transport: Send {
    /// An exchange that has begun.
    type Round<'a>: Round
    where
        Self: 'a;

    /// Begins an exchange: sends frames on their way, without waiting for the receivers to take them. `inbox`
    /// is this rank's.
    ///
    /// Frames from one rank to another arrive in the order they were sent.
    ///
    /// # Errors
    ///
    /// [`Unsent`]; nothing more reaches that rank in this epoch.
    fn begin<'a>(
        &'a mut self,
        inbox: &'a Inbox,
        exchange: (Moment, Phase),
        frames: Vec<Outgoing<'a>>,
    ) -> Result<Self::Round<'a>, Unsent>;
}

/// An exchange that has begun.
pub trait Round {
    /// What a frame's bytes are read from.
    type Payload<'a>: Payload
    where
        Self: 'a;

    /// Waits for the frame of a rank. Each is taken once, and read to its end before the next call.
    ///
    /// # Errors
    ///
    /// [`ExchangeError`] if it does not come, or another one does.
    fn receive(&mut self, from: Rank) -> Result<Self::Payload<'_>, ExchangeError>;

    /// Waits until what was sent is out of this rank's hands, so that it may compute for long. Comes after all
    /// frames were received.
    ///
    /// # Errors
    ///
    /// [`ExchangeError`] if the epoch is over.
    fn finish(self) -> Result<(), ExchangeError>;
}

/// A frame that was not sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Who it was for.
    pub to: Rank,
    /// What happened.
    pub error: SendError,
}

/// An exchange whose frames all come to the inbox.
#[derive(Debug)]
pub struct Delivered<'a> {
    inbox: &'a Inbox,
    exchange: (Moment, Phase),
}

impl<'a> Delivered<'a> {
    /// Returns the exchange of the inbox's rank, whose own frames have been sent.
    #[must_use]
    pub fn new(inbox: &'a Inbox, exchange: (Moment, Phase)) -> Self {
        Self { inbox, exchange }
    }
}

impl Round for Delivered<'_> {
    type Payload<'a>
        = Whole
    where
        Self: 'a;

    fn receive(&mut self, from: Rank) -> Result<Whole, ExchangeError> {
        self.inbox.take(self.exchange, from).map(Whole::from)
    }

    fn finish(self) -> Result<(), ExchangeError> {
        Ok(())
    }
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
    type Round<'a> = Delivered<'a>;

    fn begin<'a>(
        &'a mut self,
        inbox: &'a Inbox,
        exchange: (Moment, Phase),
        frames: Vec<Outgoing<'a>>,
    ) -> Result<Delivered<'a>, Unsent> {
        for frame in frames {
            let to = frame.to;
            let peer = self.peers.get(to.index());
            let delivered = match peer {
                Some(peer) => peer.deliver(frame.into_frame(exchange, self.rank)),
                None => {
                    let error = SendError::Gone("no such rank".to_owned());
                    return Err(Unsent { to, error });
                }
            };
            delivered.map_err(|refusal| Unsent {
                to,
                error: refusal.into(),
            })?;
        }
        Ok(Delivered::new(inbox, exchange))
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
