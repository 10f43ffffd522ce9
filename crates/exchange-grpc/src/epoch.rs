//! One epoch as this process takes part in it: its ranks' inboxes and the links to the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use exchange::Inbox;
use exchange_unix::Arrivals;
use spec::{Fence, Rank};
use tokio_util::sync::CancellationToken;

use crate::outlet::Outlet;

/// Another worker process of the epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where its server listens: `host:port`, or a URI.
    pub address: String,
    /// The ranks it holds.
    pub ranks: Vec<Rank>,
}

/// Everything of one epoch. Never used again once it has been left.
#[derive(Debug)]
pub(crate) struct Epoch {
    pub(crate) fence: Fence,
    /// Where the frames for each rank go, in rank order.
    pub(crate) routes: Vec<Route>,
    /// One for each peer.
    pub(crate) links: Vec<Link>,
    /// Cancelled when this process leaves the epoch.
    pub(crate) left: CancellationToken,
}

/// The way to one rank.
#[derive(Debug)]
pub(crate) enum Route {
    /// It is one of this process's.
    Own(Entrance),
    /// The index of the link to its process.
    Peer(usize),
}

/// Where frames come to a rank of this process.
#[derive(Clone, Debug)]
pub(crate) struct Entrance {
    pub(crate) inbox: Arc<Inbox>,
    /// Lanes from processes of this machine, where such are taken.
    pub(crate) arrivals: Option<Arc<Arrivals>>,
}

/// What joins this process with one peer.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: Peer,
    /// What goes there.
    pub(crate) outlet: Outlet,
    /// Whether the peer's own stream is here. There is one at a time.
    occupied: AtomicBool,
}

impl Link {
    pub(crate) fn new(peer: Peer, outlet: Outlet) -> Self {
        Self {
            peer,
            outlet,
            occupied: AtomicBool::new(false),
        }
    }

    /// Makes this stream the peer's one, until the epoch ends: a stream that ended is not replaced.
    /// False if there is or was another.
    pub(crate) fn occupy(&self) -> bool {
        !self.occupied.swap(true, Ordering::Relaxed)
    }
}

impl Epoch {
    /// Returns where frames come to a rank of this process.
    pub(crate) fn entrance(&self, rank: Rank) -> Option<&Entrance> {
        match self.routes.get(rank.index())? {
            Route::Own(entrance) => Some(entrance),
            Route::Peer(_) => None,
        }
    }

    /// Returns the link to the process of a rank, if it is another one.
    pub(crate) fn link(&self, rank: Rank) -> Option<&Link> {
        match self.routes.get(rank.index())? {
            Route::Own(_) => None,
            Route::Peer(link) => Some(&self.links[*link]),
        }
    }

    /// Returns how many files the lanes to a peer and from it take, one for each two ranks and direction.
    pub(crate) fn num_files_to(&self, peer: &Peer) -> u64 {
        let own = self.inboxes().count();
        2 * (own * peer.ranks.len()) as u64
    }

    /// Notes that a peer is gone for the rest of the epoch, and wakes who waits for it.
    pub(crate) fn lose(&self, link: &Link, why: &str) {
        if self.left.is_cancelled() {
            return;
        }
        tracing::warn!(epoch = %self.fence, peer = %link.peer.address, why, "lost a peer");
        link.outlet.fail(why);
        for inbox in self.inboxes() {
            for &rank in &link.peer.ranks {
                inbox.peer_lost(rank, why);
            }
        }
    }

    /// Wakes all who wait, and ends the streams in order.
    pub(crate) fn leave(&self) {
        self.left.cancel();
        self.inboxes().for_each(|inbox| inbox.abort());
        self.links.iter().for_each(|link| link.outlet.close());
    }

    fn inboxes(&self) -> impl Iterator<Item = &Inbox> {
        self.routes.iter().filter_map(|route| match route {
            Route::Own(entrance) => Some(&*entrance.inbox),
            Route::Peer(_) => None,
        })
    }
}
