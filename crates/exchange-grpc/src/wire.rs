//! The transport of a rank of a worker process.

use std::io::{self, ErrorKind, IoSliceMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use exchange::{
    Delivered, ExchangeError, Inbox, Moment, Outgoing, Payload, Phase, SendError, Transport,
    Unsent, Whole,
};
use exchange_unix::{Arrived, Lanes};
use rustix::io::Errno;
use spec::Rank;

use crate::door;
use crate::epoch::{Epoch, Route};
use crate::limits::SHARE_OF_FILES;

/// The transport of a rank: in memory to ranks of its own process, by lanes to those of other processes of
/// this machine that have a door, over gRPC to all others.
#[derive(Debug)]
pub struct Wire {
    epoch: Arc<Epoch>,
    group: Arc<str>,
    /// Where this process has a door itself.
    lanes: Option<Lanes>,
    /// The doors of others were tried.
    has_knocked: bool,
    sent: Arc<Sent>,
}

/// How a frame gets to another rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// In this process's memory.
    Local,
    /// By a socket of this machine.
    Unix,
    /// Over gRPC.
    Grpc,
}

impl Way {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Local, Self::Unix, Self::Grpc];
}

/// Bytes of rows that a rank has sent in an epoch.
#[derive(Debug, Default)]
pub struct Sent {
    /// By [`Phase`], then [`Way`].
    bytes: [[AtomicU64; Way::ALL.len()]; 2],
}

impl Sent {
    /// Returns the bytes sent in exchanges of a phase in one way.
    #[must_use]
    pub fn bytes(&self, phase: Phase, way: Way) -> u64 {
        self.bytes[phase as usize][way as usize].load(Ordering::Relaxed)
    }

    fn add(&self, phase: Phase, way: Way, bytes: usize) {
        let sum = &self.bytes[phase as usize][way as usize];
        sum.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Wire {
    pub(crate) fn new(epoch: Arc<Epoch>, group: Arc<str>, lanes: Option<Lanes>) -> Self {
        Self {
            epoch,
            group,
            lanes,
            has_knocked: false,
            sent: Arc::default(),
        }
    }

    /// Returns what the rank sends, as it counts up.
    #[must_use]
    pub fn sent(&self) -> &Arc<Sent> {
        &self.sent
    }

    /// Opens lanes to the ranks of other processes of this machine, at the first exchange: all processes have
    /// entered the epoch by then. Where none is taken up at once, frames go over gRPC until the next epoch.
    fn knock(&mut self, own: Rank) {
        let Some(lanes) = &mut self.lanes else { return };
        if std::mem::replace(&mut self.has_knocked, true) {
            return;
        }
        let patience = door::Patience::begin();
        let mut knocks = Vec::new();
        for peer in self.epoch.links.iter().map(|link| &link.peer) {
            if self.epoch.num_files_to(peer) > sockets::most_files() / SHARE_OF_FILES {
                tracing::debug!(peer = %peer.address, "too many lanes; rows go over TCP");
                continue;
            }
            for to in &peer.ranks {
                let lane = (self.epoch.fence, own, *to);
                match door::knock(&peer.address, &self.group, lane, patience) {
                    Ok(lane) => knocks.push((*to, lane)),
                    // Who is not on this machine, or of another user, has no door to any of its ranks.
                    Err(error) if is_no_door(&error) => break,
                    Err(error) => tracing::warn!(rank = %to, %error, "no lane; rows go over TCP"),
                }
            }
        }
        for (to, lane) in knocks {
            match door::is_let_in(&lane, patience) {
                true => lanes.lead(to, lane),
                false => tracing::warn!(rank = %to, "a lane was not taken up; rows go over TCP"),
            }
        }
    }
}

/// Whether an error says that there is no door for us at an address at all.
fn is_no_door(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied
    ) || error.raw_os_error() == Some(Errno::NAMETOOLONG.raw_os_error())
}

impl Transport for Wire {
    type Round<'a> = Round<'a>;

    fn begin<'a>(
        &'a mut self,
        inbox: &'a Inbox,
        exchange: (Moment, Phase),
        frames: Vec<Outgoing<'a>>,
    ) -> Result<Round<'a>, Unsent> {
        self.knock(inbox.rank());
        let mut by_lanes = Vec::new();
        for frame in frames {
            let (to, bytes) = (frame.to, frame.parts.num_bytes());
            let unsent = |error| Unsent { to, error };
            let way = match self.epoch.routes.get(to.index()) {
                Some(Route::Own(entrance)) => {
                    let frame = frame.into_frame(exchange, inbox.rank());
                    let delivered = entrance.inbox.deliver(frame);
                    delivered.map_err(|refusal| unsent(refusal.into()))?;
                    Way::Local
                }
                Some(Route::Peer(_)) if self.lanes.as_ref().is_some_and(|l| l.lead_to(to)) => {
                    by_lanes.push(frame);
                    Way::Unix
                }
                Some(Route::Peer(link)) => {
                    let frame = frame.into_frame(exchange, inbox.rank());
                    self.epoch.links[*link].outlet.send(frame).map_err(unsent)?;
                    Way::Grpc
                }
                None => return Err(unsent(SendError::Gone("no such rank".to_owned()))),
            };
            self.sent.add(exchange.1, way, bytes);
        }
        match &mut self.lanes {
            Some(lanes) => lanes.begin(inbox, exchange, by_lanes).map(Round::Lanes),
            None => Ok(Round::Inbox(Delivered::new(inbox, exchange))),
        }
    }
}

impl Drop for Wire {
    /// Where this process has left the epoch, the peers that are about to learn that it is over must not take
    /// this rank for lost. Where it has not, the rank's thread has failed.
    fn drop(&mut self) {
        if let Some(lanes) = &mut self.lanes
            && self.epoch.left.is_cancelled()
        {
            lanes.say_goodbye();
        }
    }
}

/// An exchange of a rank that has begun.
#[derive(Debug)]
pub enum Round<'a> {
    /// All comes to the inbox.
    Inbox(Delivered<'a>),
    /// Frames may come by lanes too.
    Lanes(exchange_unix::Round<'a>),
}

/// A frame that has come to a rank.
#[derive(Debug)]
pub enum Incoming<'r, 'a> {
    /// Into the inbox.
    Whole(Whole),
    /// Into the inbox or by a lane.
    Arrived(Arrived<'r, 'a>),
}

impl<'a> exchange::Round for Round<'a> {
    type Payload<'r>
        = Incoming<'r, 'a>
    where
        Self: 'r;

    fn receive(&mut self, from: Rank) -> Result<Incoming<'_, 'a>, ExchangeError> {
        match self {
            Self::Inbox(round) => round.receive(from).map(Incoming::Whole),
            Self::Lanes(round) => round.receive(from).map(Incoming::Arrived),
        }
    }

    fn finish(self) -> Result<(), ExchangeError> {
        match self {
            Self::Inbox(round) => round.finish(),
            Self::Lanes(round) => round.finish(),
        }
    }
}

impl Payload for Incoming<'_, '_> {
    fn num_bytes(&self) -> usize {
        match self {
            Self::Whole(frame) => frame.num_bytes(),
            Self::Arrived(frame) => frame.num_bytes(),
        }
    }

    fn fill(&mut self, parts: &mut [IoSliceMut<'_>]) -> Result<(), ExchangeError> {
        match self {
            Self::Whole(frame) => frame.fill(parts),
            Self::Arrived(frame) => frame.fill(parts),
        }
    }
}
