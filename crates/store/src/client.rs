//! The client: what is where, and the operations that need no task of their own.

use std::sync::Arc;
use std::time::Duration;

use etcd_client::{GetOptions, KeyValue, ResponseHeader};
use sockets::Dialer;
use telemetry::StoreEvent;
use telemetry::labels::StoreOp;
use tokio::sync::watch;

use crate::error::Error;
use crate::key::Prefix;
use crate::lease::Lease;
use crate::link::{Health, Link, Repeat};
use crate::txn::{Outcome, Txn};
use crate::watch::Watch;

/// How often everything in a store has changed; each change of a key has a higher one.
pub type Revision = i64;

/// A lease, as the store knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LeaseId(pub i64);

/// Where a store is, and whose keys are meant.
#[derive(Clone)]
pub struct Config {
    /// `host:port` of each endpoint; one is used at a time, and any will do. Names are looked up each
    /// time that a connection is made.
    pub endpoints: Vec<String>,
    /// The cluster: letters, digits, `-`, `_` and `.`. All keys lie under `/conclave/<cluster>/`.
    pub cluster: String,
    /// Connects to an endpoint.
    pub dialer: Dialer,
}

/// A [`Config`] that cannot be meant.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// No endpoint.
    #[error("no endpoint of the membership store is named: name one, as --store host:2379")]
    NoEndpoint,
    /// Not the address of an endpoint.
    #[error("{endpoint:?} is no endpoint of a membership store: {why}; write host:2379")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
    /// Not a name.
    #[error(
        "{cluster:?} cannot name a cluster: use 1 to {limit} letters, digits, '-', '_' and '.'"
    )]
    Cluster {
        /// What was given.
        cluster: String,
        /// The most bytes it may have.
        limit: usize,
    },
}

/// A key and what the store knows of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, without the cluster's prefix.
    pub key: String,
    /// Its value.
    pub value: Vec<u8>,
    /// When it was created. A key that was deleted and put again has a new one.
    pub create_revision: Revision,
    /// When it was put last.
    pub mod_revision: Revision,
    /// The lease it ends with.
    pub lease: Option<LeaseId>,
}

/// What lay under a prefix at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// All entries, by key.
    pub entries: Vec<Entry>,
    /// The moment.
    pub revision: Revision,
}

/// The client of a membership store; clones share its connections.
#[derive(Clone)]
pub struct Store {
    pub(crate) link: Arc<Link>,
    pub(crate) prefix: Prefix,
}

impl Store {
    /// Returns a client. It connects when it is used first, so the store need not be there yet.
    ///
    /// # Errors
    ///
    /// If an endpoint or the cluster's name cannot be meant.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let link = Link::new(&config.endpoints, config.dialer)?;
        Ok(Self {
            link: Arc::new(link),
            prefix: Prefix::new(&config.cluster)?,
        })
    }

    /// Returns `/conclave/<cluster>/`.
    #[must_use]
    pub fn prefix(&self) -> &str {
        self.prefix.as_str()
    }

    /// Returns whether the store is there, for logs and `/startupz`; it follows the use of the store
    /// and asks nothing by itself.
    #[must_use]
    pub fn health(&self) -> watch::Receiver<Health> {
        self.link.health()
    }

    /// Tells this one from now on what the client sees of the store; the first one who asks is told.
    pub fn observe(&self, observer: impl Fn(StoreEvent) + Send + Sync + 'static) {
        self.link.observer().tell(observer);
    }

    /// Reads a key.
    ///
    /// # Errors
    ///
    /// If the key is none, or the store refuses or cannot be reached within
    /// [`OPERATION_LIMIT`](crate::OPERATION_LIMIT).
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, Error> {
        let full = self.prefix.key(key)?;
        let read = |services: crate::link::Services| {
            let (mut kv, full) = (services.kv, full.clone());
            async move { kv.get(full, None).await }
        };
        let what = format!("read {key}");
        let mut answer = self
            .link
            .call(StoreOp::Read, &what, Repeat::Harmless, read)
            .await?;
        Ok(self.entries(answer.take_kvs()).pop())
    }

    /// Reads all keys that start with `prefix` (all of the cluster, for the empty one), at one moment.
    ///
    /// # Errors
    ///
    /// As for [`Store::get`].
    pub async fn list(&self, prefix: &str) -> Result<Listing, Error> {
        let range = self.prefix.range(prefix)?;
        let read = |services: crate::link::Services| {
            let (mut kv, range) = (services.kv, range.clone());
            async move { kv.get(range, Some(GetOptions::new().with_prefix())).await }
        };
        let what = match prefix {
            "" => "list the cluster's keys".to_owned(),
            prefix => format!("list {prefix}"),
        };
        let mut answer = self
            .link
            .call(StoreOp::Read, &what, Repeat::Harmless, read)
            .await?;
        Ok(Listing {
            revision: answer.header().map_or(0, ResponseHeader::revision),
            entries: self.entries(answer.take_kvs()),
        })
    }

    /// Carries out a transaction: all of it or nothing, and nobody sees a part.
    ///
    /// # Errors
    ///
    /// As for [`Store::get`]; if a key, a value or the whole is larger than its limit; and
    /// [`Error::Unknown`] if it was sent and not answered, because it is never sent twice.
    pub async fn txn(&self, txn: Txn) -> Result<Outcome, Error> {
        crate::txn::run(self, txn).await
    }

    /// Takes out a lease and keeps it alive until it is revoked, dropped or lost. The store may give a
    /// longer one than was asked for.
    ///
    /// # Errors
    ///
    /// As for [`Store::get`]; and if `ttl` is below a second or above
    /// [`MAX_LEASE_TTL`](crate::MAX_LEASE_TTL).
    pub async fn lease(&self, ttl: Duration) -> Result<Lease, Error> {
        Lease::grant(Arc::clone(&self.link), ttl).await
    }

    /// Follows all keys that start with `prefix` (all of the cluster, for the empty one), from now on
    /// until the watch is dropped; the store may come and go.
    ///
    /// # Errors
    ///
    /// If the prefix cannot be one.
    pub fn watch(&self, prefix: &str) -> Result<Watch, Error> {
        Watch::start(self.clone(), prefix)
    }

    /// Waits for as long as it takes until the store answers. What it waits for is in
    /// [`Store::health`].
    pub async fn ready(&self) {
        // An operation has pauses of its own.
        while self
            .get("ready")
            .await
            .is_err_and(|error| error.is_transient())
        {}
    }

    /// The callers' entries among what was read.
    pub(crate) fn entries(&self, read: Vec<KeyValue>) -> Vec<Entry> {
        let entry = |read| self.entry(read);
        read.into_iter().filter_map(entry).collect()
    }

    pub(crate) fn entry(&self, KeyValue(read): KeyValue) -> Option<Entry> {
        Some(Entry {
            key: self.prefix.strip(&read.key)?,
            value: read.value,
            create_revision: read.create_revision,
            mod_revision: read.mod_revision,
            lease: (read.lease != 0).then_some(LeaseId(read.lease)),
        })
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("prefix", &self.prefix.as_str())
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}
