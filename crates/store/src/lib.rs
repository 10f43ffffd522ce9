//! The membership store: one client of it, and the server behind `--store memory`.
//!
//! Members, leads and groups find each other through a small store of keys with revisions, leases
//! and watches: [etcd](https://etcd.io), or, for a cluster of one coordinator, a [`MemoryStore`]
//! that the coordinator serves itself. Both speak etcd's own API, so there is one client, [`Store`],
//! and one behaviour; `tests/suite` holds both to it.
//!
//! ```text
//! Store ─┬─ get, list, txn ─┐
//!        ├─ Lease ──────────┼─ Link ─ one endpoint at a time ─ gRPC ─┬─ etcd
//!        └─ Watch ──────────┘                                        └─ MemoryStore
//! ```
//!
//! Nothing here decides anything about the cluster. A store that is not there is waited for; what
//! was lost with it is told (a [`Lease`] is lost, a [`Watch`] begins again), and what follows from
//! that is the business of the control plane's state machines.

mod backoff;
mod client;
mod clusters;
mod error;
mod key;
mod lease;
mod limits;
mod link;
mod memory;
mod observer;
mod txn;
mod watch;

pub use client::{Config, ConfigError, Entry, LeaseId, Listing, Revision, Store};
pub use error::Error;
pub use lease::Lease;
pub use limits::{
    MAX_CLUSTERS, MAX_KEY_BYTES, MAX_LEASE_TTL, MAX_TXN_BYTES, MAX_TXN_OPERATIONS, MAX_VALUE_BYTES,
    OPERATION_LIMIT,
};
pub use link::Health;
pub use memory::MemoryStore;
pub use txn::{Outcome, Txn};
pub use watch::{Change, Watch};
