//! The store of `--store memory`: the part of etcd's gRPC API that [`Store`](crate::Store) uses,
//! served from memory.
//!
//! It ends with its process, and a store that is started again is another one: watches begin again and
//! leases are lost, as if etcd had lost its disks. What is not served answers UNIMPLEMENTED, by name.

mod kv;
mod lease;
mod state;
mod unserved;
mod watch;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::proto::{
    PbAuthServer, PbClusterServer, PbKvServer, PbLeaseServer, PbMaintenanceServer,
    PbResponseHeader, PbWatchServer,
};
use tokio::sync::watch as signal;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::{Code, Status};

use crate::backoff::random;
use crate::client::Revision;
use crate::limits::{MAX_KEY_BYTES, MAX_TXN_BYTES, MAX_TXN_OPERATIONS};
use state::{Refusal, State};
use unserved::Unserved;

/// How often leases are looked at; a lease ends late by this much at most.
const TICK: Duration = Duration::from_millis(100);

/// The longest request, which is a transaction, with what the encoding adds.
const MAX_REQUEST_BYTES: usize = MAX_TXN_BYTES + MAX_TXN_OPERATIONS * (MAX_KEY_BYTES + 64);

/// A membership store in memory; clones are the same store.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    began: Instant,
    /// Tells this store from another one of the same address.
    name: u64,
    /// The revision, for those who wait for the next one.
    revision: signal::Sender<Revision>,
    stopped: CancellationToken,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// Returns an empty store.
    #[must_use]
    pub fn new() -> Self {
        let name = random();
        // Room for as many leases as there will ever be, and apart from those of another store.
        let state = State::new((name >> 1 & !0xffff_ffff).cast_signed());
        let shared = Shared {
            revision: signal::Sender::new(state.revision()),
            state: Mutex::new(state),
            began: Instant::now(),
            name,
            stopped: CancellationToken::new(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Returns the gRPC services, to be mounted beside others. They answer at once; for leases to end
    /// in time, [`MemoryStore::run`] has to run.
    #[must_use]
    pub fn routes(&self) -> Routes {
        let shared = || Arc::clone(&self.shared);
        let kv = PbKvServer::new(kv::Service(shared()));
        Routes::new(kv.max_decoding_message_size(MAX_REQUEST_BYTES))
            .add_service(PbLeaseServer::new(lease::Service(shared())))
            .add_service(PbWatchServer::new(watch::Service(shared())))
            .add_service(Unserved::<PbAuthServer<()>>::new())
            .add_service(Unserved::<PbClusterServer<()>>::new())
            .add_service(Unserved::<PbMaintenanceServer<()>>::new())
    }

    /// Ends leases when their time has come, until `stop`; then ends all watches, so that the server
    /// can shut down.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => self.shared.with(|_| ()),
                () = stop.cancelled() => break,
            }
        }
        self.shared.stopped.cancel();
    }
}

impl Shared {
    /// Looks at the state, or changes it, at this moment.
    fn with<T>(&self, look: impl FnOnce(&mut State) -> T) -> T {
        // A panic while it is held ends the process; what is left of the state is whole.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.advance(self.began.elapsed());
        let result = look(&mut state);
        let revision = state.revision();
        drop(state);
        self.revision.send_if_modified(|last| {
            let is_newer = revision > *last;
            *last = revision.max(*last);
            is_newer
        });
        result
    }

    fn header(&self, revision: Revision) -> Option<PbResponseHeader> {
        Some(PbResponseHeader {
            cluster_id: self.name,
            member_id: self.name,
            revision,
            raft_term: 1,
        })
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        // Words and codes of etcd v3.5, api/v3rpc/rpctypes/error.go.
        let (code, why) = match refusal {
            Refusal::Compacted => (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision has been compacted",
            ),
            Refusal::FutureRevision => (
                Code::OutOfRange,
                "etcdserver: mvcc: required revision is a future revision",
            ),
            Refusal::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
            Refusal::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
            Refusal::DuplicateKey => (
                Code::InvalidArgument,
                "etcdserver: duplicate key given in txn request",
            ),
            Refusal::NoSpace => (
                Code::ResourceExhausted,
                "etcdserver: mvcc: database space exceeded",
            ),
            Refusal::TooManyLeases => (Code::ResourceExhausted, "etcdserver: too many requests"),
        };
        Self::new(code, why)
    }
}

fn invalid(why: &str) -> Status {
    Status::invalid_argument(format!("etcdserver: {why}"))
}

/// Refuses what is not served, if a request asks for it.
fn only_if(is_served: bool, what: &str) -> Result<(), Status> {
    if is_served {
        return Ok(());
    }
    Err(Status::unimplemented(format!(
        "the memory store does not serve {what} of etcd's API: run etcd and name it with --store"
    )))
}
