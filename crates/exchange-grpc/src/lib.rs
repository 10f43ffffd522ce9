//! The exchange between worker processes, over gRPC.
//!
//! A worker process has one [`Hub`]. On entering an epoch it hands out the exchanges of the
//! process's ranks: frames between two of them stay in memory, frames to another process go through
//! one client stream to it, from the first frame for as long as both are in the epoch. The other
//! direction has a stream of its own, opened by the other side.
//!
//! ```text
//! compute thread ─ HostExchange ─ Wire ─┬─ Inbox of a rank in this process
//!                                       ├─ Lanes ─ socket ─ Lanes of a rank on this machine
//!                                       └─ Outlet ─ task ─ Push stream ─ Service ─ Inbox over there
//! ```
//!
//! The compute thread never touches the network: it queues frames and waits on its inbox. But where a
//! process of this machine has a door ([`Hub::open_door`]), frames go there by Unix sockets, which the
//! compute threads use themselves: see [`exchange_unix`]. A stream or a lane
//! that breaks in either direction means that the peer is lost for the rest of the epoch; there is
//! no reconnecting inside one, because the lead answers a loss with the next epoch.

mod convert;
mod door;
mod epoch;
mod hub;
mod limits;
mod lobby;
mod outlet;
mod service;
mod settings;
mod wire;

pub use epoch::Peer;
pub use hub::{EnterError, Hub};
pub use limits::{
    CONNECT_LIMIT, ENTER_LIMIT, KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_MESSAGE_BYTES,
};
pub use service::Service;
pub use settings::server;
pub use wire::{Incoming, Round, Sent, Way, Wire};
