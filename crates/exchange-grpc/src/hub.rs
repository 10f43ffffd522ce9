//! The exchange of one worker process: which epoch it is in, and whom it reaches how.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exchange::{HostExchange, Inbox};
use exchange_unix::{Arrivals, Bell, Lanes};
use proto::internal::exchange_service_server::ExchangeServiceServer;
use sockets::{Dialer, Door};
use spec::{Fence, Rank};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::Endpoint;

use crate::door;
use crate::epoch::{Entrance, Epoch, Link, Peer, Route};
use crate::limits::{ENTER_LIMIT, FRAMES_IN_FLIGHT, MAX_MESSAGE_BYTES};
use crate::lobby::Lobby;
use crate::outlet::{self, Destination, Outlet};
use crate::service::Service;
use crate::settings;
use crate::wire::Wire;

/// The exchange of one worker process, shared by its ranks and its server. Clones are the same hub.
#[derive(Clone, Debug)]
pub struct Hub {
    runtime: Handle,
    dialer: Dialer,
    group: Arc<str>,
    epochs: Arc<Epochs>,
}

/// Why an epoch was not entered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnterError {
    /// The process has been in that epoch, or in a later one.
    #[error("epoch {got} is not after epoch {have}, which this worker has entered")]
    NotNewer {
        /// The last epoch entered.
        have: Fence,
        /// The one asked for.
        got: Fence,
    },
    /// The ranks of this process and its peers are not `0..n`, each once.
    #[error("rank {rank} is named {times} times among the {num_ranks} ranks of the epoch")]
    Ranks {
        /// The rank.
        rank: Rank,
        /// How often it is named.
        times: usize,
        /// How many ranks are named.
        num_ranks: usize,
    },
    /// A peer's address is no address.
    #[error("address {address:?} of a peer: {why}")]
    Address {
        /// The address.
        address: String,
        /// What is wrong.
        why: String,
    },
}

impl Hub {
    /// Returns a hub of this group that has entered no epoch, and reaches its peers by `dialer`.
    ///
    /// Its ranks wait for a frame for as long as the epoch lasts, unless the peer is lost: who it is
    /// for has to watch their progress and call [`Hub::abort`].
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime: the streams' tasks run in the one this is called in.
    #[must_use]
    pub fn new(dialer: Dialer, group: &str) -> Self {
        let group: Arc<str> = group.into();
        let lobby = Lobby::new();
        let epochs = Arc::new(Epochs {
            group: Arc::clone(&group),
            current: watch::Sender::new(None),
            vestibule: lobby.beside(),
            lobby,
            has_door: AtomicBool::new(false),
        });
        Self {
            runtime: Handle::current(),
            dialer,
            group,
            epochs,
        }
    }

    /// Exchanges with other workers of this machine by Unix sockets from the next epoch on, where they do so
    /// too. `address` is the one that they know this worker by.
    ///
    /// # Errors
    ///
    /// If another process has this door, the address is longer than some eighty bytes, or no socket can be made;
    /// all goes over gRPC then.
    pub fn open_door(&self, address: &str) -> io::Result<()> {
        let _inside = self.runtime.enter();
        let door = Door::open(&door::name(address))?;
        let epochs = Arc::downgrade(&self.epochs);
        self.runtime.spawn(door::serve(door, epochs));
        self.epochs.has_door.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Enters an epoch and returns the exchanges of `my_ranks`, in that order.
    ///
    /// An epoch that was entered before is aborted. Connecting to the peers begins, but is not
    /// waited for; a peer that is not reached within [`crate::CONNECT_LIMIT`] counts as lost.
    ///
    /// # Errors
    ///
    /// [`EnterError`]; nothing has changed.
    pub fn enter(
        &self,
        fence: Fence,
        my_ranks: &[Rank],
        peers: Vec<Peer>,
    ) -> Result<Vec<HostExchange<Wire>>, EnterError> {
        let endpoints = peers.iter().map(endpoint).collect::<Result<Vec<_>, _>>()?;
        let has_door = self.epochs.has_door.load(Ordering::Relaxed);
        let (epoch, queues) = Self::epoch(fence, my_ranks, peers, has_door)?;
        let epoch = Arc::new(epoch);
        self.epochs.enter(&epoch)?;
        for ((index, endpoint), frames) in endpoints.into_iter().enumerate().zip(queues) {
            let peer = Destination {
                dialer: self.dialer.clone(),
                endpoint,
                group: Arc::clone(&self.group),
            };
            self.runtime
                .spawn(outlet::run(Arc::clone(&epoch), index, peer, frames));
        }
        let num_ranks = epoch.routes.len();
        let entrances = my_ranks.iter().filter_map(|rank| epoch.entrance(*rank));
        let exchanges = entrances.map(|Entrance { inbox, arrivals }| {
            let lanes = arrivals
                .clone()
                .map(|arrivals| Lanes::new(num_ranks, arrivals));
            let wire = Wire::new(Arc::clone(&epoch), Arc::clone(&self.group), lanes);
            HostExchange::new(Arc::clone(inbox), num_ranks, wire)
        });
        Ok(exchanges.collect())
    }

    /// Gives `fence` up, if it is the epoch this process is in: every wait in it ends with
    /// [`exchange::ExchangeError::Aborted`], and its streams are closed in order.
    pub fn abort(&self, fence: Fence) {
        if let Some(epoch) = self.epochs.current().filter(|epoch| epoch.fence == fence) {
            epoch.leave();
        }
    }

    /// Leaves the epoch this process is in, if any, like [`Hub::abort`].
    pub fn leave(&self) {
        if let Some(epoch) = self.epochs.current() {
            epoch.leave();
        }
    }

    /// Leaves the epoch and ends every stream of a peer, also those that come later, so that a
    /// server with [`Hub::service`] can end in order. Whoever closes enters no epoch afterwards.
    pub fn close(&self) {
        self.epochs.lobby.close();
        self.leave();
    }

    /// Returns the service, to be mounted into the worker's server; see [`crate::server`].
    #[must_use]
    pub fn service(&self) -> ExchangeServiceServer<Service> {
        ExchangeServiceServer::new(Service::new(Arc::clone(&self.epochs)))
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
    }

    fn epoch(
        fence: Fence,
        my_ranks: &[Rank],
        peers: Vec<Peer>,
        has_door: bool,
    ) -> Result<(Epoch, Vec<Frames>), EnterError> {
        let num_ranks = check_ranks(my_ranks, &peers)?;
        let (mut links, mut queues) = (Vec::new(), Vec::new());
        for peer in peers {
            let pairs = my_ranks.len() * peer.ranks.len();
            let (outlet, frames) = Outlet::new((FRAMES_IN_FLIGHT * pairs).max(1));
            links.push(Link::new(peer, outlet));
            queues.push(frames);
        }
        let route = |rank: Rank| match links.iter().position(|l| l.peer.ranks.contains(&rank)) {
            Some(link) => Route::Peer(link),
            None => Route::Own(entrance(
                Inbox::enter(fence, rank, num_ranks),
                num_ranks,
                has_door,
            )),
        };
        let routes = (0..num_ranks as u32).map(Rank).map(route).collect();
        Ok((
            Epoch {
                fence,
                routes,
                links,
                left: CancellationToken::new(),
            },
            queues,
        ))
    }
}

type Frames = tokio::sync::mpsc::Receiver<exchange::Frame>;

/// Makes the entrance of a rank with this inbox. Where the process may open no more files, no lane comes.
fn entrance(inbox: Inbox, num_ranks: usize, has_door: bool) -> Entrance {
    let bell = has_door.then(Bell::new).and_then(|bell| {
        bell.inspect_err(|error| tracing::warn!(%error, "no file for a bell; rows come over TCP"))
            .ok()
    });
    let Some(bell) = bell.map(Arc::new) else {
        return Entrance {
            inbox: Arc::new(inbox),
            arrivals: None,
        };
    };
    Entrance {
        inbox: Arc::new(inbox.with_alarm(Arc::clone(&bell) as _)),
        arrivals: Some(Arc::new(Arrivals::new(num_ranks, bell))),
    }
}

fn endpoint(peer: &Peer) -> Result<Endpoint, EnterError> {
    settings::endpoint(&peer.address).map_err(|error| EnterError::Address {
        address: peer.address.clone(),
        why: crate::convert::reason(&Status::from_error(error.into())),
    })
}

/// Checks that all ranks together are `0..n`, each once, and returns `n`.
fn check_ranks(my_ranks: &[Rank], peers: &[Peer]) -> Result<usize, EnterError> {
    let all = || {
        my_ranks
            .iter()
            .chain(peers.iter().flat_map(|peer| &peer.ranks))
    };
    let num_ranks = all().count();
    for rank in (0..num_ranks as u32).map(Rank) {
        let times = all().filter(|named| **named == rank).count();
        if times != 1 {
            return Err(EnterError::Ranks {
                rank,
                times,
                num_ranks,
            });
        }
    }
    Ok(num_ranks)
}

/// The epoch that was entered last, as the hub and the service share it.
#[derive(Debug)]
pub(crate) struct Epochs {
    /// The group whose epochs these are.
    pub(crate) group: Arc<str>,
    current: watch::Sender<Option<Arc<Epoch>>>,
    /// Peers' streams that belong to no epoch yet.
    pub(crate) lobby: Lobby,
    /// The same for peers' lanes.
    pub(crate) vestibule: Lobby,
    /// Whether lanes from processes of this machine are taken.
    has_door: AtomicBool,
}

impl Epochs {
    fn current(&self) -> Option<Arc<Epoch>> {
        self.current.borrow().clone()
    }

    /// Makes `epoch` the current one, if it is newer, and leaves the one before.
    fn enter(&self, epoch: &Arc<Epoch>) -> Result<(), EnterError> {
        let mut outcome = Ok(());
        self.current.send_if_modified(|current| {
            if let Some(before) = current {
                if before.fence >= epoch.fence {
                    let (have, got) = (before.fence, epoch.fence);
                    outcome = Err(EnterError::NotNewer { have, got });
                    return false;
                }
                before.leave();
            }
            *current = Some(Arc::clone(epoch));
            true
        });
        outcome
    }

    /// Returns the epoch of `fence`, and waits a little if it has not been entered yet.
    pub(crate) async fn entered(&self, fence: Fence) -> Result<Arc<Epoch>, Status> {
        let mut current = self.current.subscribe();
        let reached = current.wait_for(|epoch| epoch.as_ref().is_some_and(|e| e.fence >= fence));
        let reached = tokio::time::timeout(ENTER_LIMIT, reached).await;
        let reached = match reached {
            Ok(Ok(epoch)) => epoch.clone(),
            _ => self.current(),
        };
        match reached {
            Some(epoch) if epoch.fence == fence && !epoch.left.is_cancelled() => Ok(epoch),
            Some(epoch) => {
                let left = if epoch.left.is_cancelled() {
                    "left"
                } else {
                    "entered"
                };
                let why = format!(
                    "the frame is of epoch {fence}, but this worker has {left} epoch {}",
                    epoch.fence
                );
                Err(Status::failed_precondition(why))
            }
            None => {
                let why =
                    format!("the frame is of epoch {fence}, but this worker has entered none");
                Err(Status::failed_precondition(why))
            }
        }
    }
}

impl Drop for Epochs {
    fn drop(&mut self) {
        self.lobby.close();
        if let Some(epoch) = self.current() {
            epoch.leave();
        }
    }
}
