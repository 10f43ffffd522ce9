//! The memory store's state machine: keys, revisions, leases and history, as etcd has them.
//!
//! It is pure. It knows no clock and is told the time, as the time since it began, by
//! [`State::advance`]; it sends nothing and is asked for what has happened.

mod lease;
mod span;
mod txn;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use span::Span;
pub(crate) use txn::{Compare, Done, Is, Operation, Outcome, Target};

use crate::client::Revision;

/// Revisions that are kept for watches that come back. A cluster of hundreds of members changes a few
/// keys a second at its worst.
pub(crate) const KEPT_REVISIONS: Revision = 10_000;

/// Bytes of history that are kept for them.
pub(crate) const KEPT_BYTES: usize = 32 << 20;

/// Bytes of all keys and values: far more than a cluster's records, and little beside a model.
pub(crate) const MAX_BYTES: usize = 64 << 20;

/// Leases at a time: some for each process of the largest cluster.
pub(crate) const MAX_LEASES: usize = 100_000;

/// What a key, a lease or a change costs beside its bytes, roughly; so that empty values count, too.
const OVERHEAD: usize = 128;

/// A key and what is known of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pair {
    pub(crate) key: Vec<u8>,
    pub(crate) value: Vec<u8>,
    pub(crate) create_revision: Revision,
    pub(crate) mod_revision: Revision,
    /// How often it has been put since it was created.
    pub(crate) version: i64,
    /// 0 without a lease.
    pub(crate) lease: i64,
}

/// A change of a key. Of a deleted one the pair has only key and revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) pair: Arc<Pair>,
    pub(crate) is_delete: bool,
}

/// Why an operation is refused; the texts and codes are etcd's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Compacted,
    FutureRevision,
    LeaseNotFound,
    LeaseExists,
    TooManyLeases,
    DuplicateKey,
    NoSpace,
}

/// Some changes for a watch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Batch {
    pub(crate) events: Vec<Event>,
    /// Where the watch goes on.
    pub(crate) next: Revision,
}

/// The store.
#[derive(Debug)]
pub(crate) struct State {
    revision: Revision,
    /// Changes of lower revisions are forgotten.
    compacted: Revision,
    pairs: BTreeMap<Vec<u8>, Arc<Pair>>,
    bytes: usize,
    history: VecDeque<Event>,
    history_bytes: usize,
    leases: BTreeMap<i64, lease::Lease>,
    expiries: BTreeSet<(Duration, i64)>,
    next_lease: i64,
    now: Duration,
}

impl State {
    /// An empty store. Its leases are named from `first_lease` on: if that is not what another store
    /// of the same address began with, a client of that one cannot renew a lease of this one.
    pub(crate) fn new(first_lease: i64) -> Self {
        Self {
            revision: 1,
            compacted: 0,
            pairs: BTreeMap::new(),
            bytes: 0,
            history: VecDeque::new(),
            history_bytes: 0,
            leases: BTreeMap::new(),
            expiries: BTreeSet::new(),
            next_lease: first_lease.max(1),
            now: Duration::ZERO,
        }
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// Returns up to `limit` pairs of a span, by key, and how many there are.
    pub(crate) fn range(&self, span: &Span, limit: usize) -> (Vec<Arc<Pair>>, usize) {
        let within = || span.within(&self.pairs).map(|(_, pair)| pair);
        (within().take(limit).cloned().collect(), within().count())
    }

    /// Returns the changes in a span from a revision on: whole revisions, about `bytes` at most, or
    /// else that of a single revision.
    ///
    /// # Errors
    ///
    /// The oldest revision that is kept, if the changes are not kept so long.
    pub(crate) fn changes(
        &self,
        span: &Span,
        from: Revision,
        bytes: usize,
    ) -> Result<Batch, Revision> {
        if from < self.compacted {
            return Err(self.compacted);
        }
        let start = (self.history).partition_point(|event| event.pair.mod_revision < from);
        let (mut events, mut taken, mut last) = (Vec::new(), 0, 0);
        for event in self.history.range(start..) {
            let revision = event.pair.mod_revision;
            if taken > bytes && revision > last {
                return Ok(Batch {
                    events,
                    next: revision,
                });
            }
            if span.contains(&event.pair.key) {
                taken += event.pair.cost();
                events.push(event.clone());
            }
            last = revision;
        }
        Ok(Batch {
            events,
            next: from.max(self.revision + 1),
        })
    }

    /// Forgets the changes before a revision.
    pub(crate) fn compact(&mut self, revision: Revision) -> Result<(), Refusal> {
        if revision <= self.compacted {
            return Err(Refusal::Compacted);
        }
        if revision > self.revision {
            return Err(Refusal::FutureRevision);
        }
        self.forget_before(revision);
        Ok(())
    }

    /// The revision of what is being written; [`State::commit`] makes it the store's.
    fn next_revision(&self) -> Revision {
        self.revision + 1
    }

    /// Ends a revision, if anything was written in it, and forgets the oldest ones.
    fn commit(&mut self) {
        let last = self.history.back().map(|event| event.pair.mod_revision);
        if last != Some(self.next_revision()) {
            return;
        }
        self.revision += 1;
        while let Some(oldest) = self.too_old() {
            self.forget_before(oldest + 1);
        }
    }

    /// Returns the oldest revision, if it is one too many; the newest never is.
    fn too_old(&self) -> Option<Revision> {
        let oldest = self.history.front()?.pair.mod_revision;
        let is_long = self.revision - oldest >= KEPT_REVISIONS || self.history_bytes > KEPT_BYTES;
        (is_long && oldest < self.revision).then_some(oldest)
    }

    /// Puts a key; its lease is there.
    fn put(&mut self, key: Vec<u8>, value: Vec<u8>, lease: i64) {
        let revision = self.next_revision();
        let old = self.take(&key);
        let pair = Arc::new(Pair {
            value,
            create_revision: old.as_ref().map_or(revision, |old| old.create_revision),
            mod_revision: revision,
            version: old.as_ref().map_or(0, |old| old.version) + 1,
            lease,
            key,
        });
        if let Some(lease) = self.leases.get_mut(&lease) {
            lease.keys.insert(pair.key.clone());
        }
        self.bytes += pair.cost();
        self.pairs.insert(pair.key.clone(), Arc::clone(&pair));
        self.record(pair, false);
    }

    fn delete(&mut self, key: &[u8]) {
        if self.take(key).is_none() {
            return;
        }
        let pair = Pair {
            key: key.to_owned(),
            value: Vec::new(),
            create_revision: 0,
            mod_revision: self.next_revision(),
            version: 0,
            lease: 0,
        };
        self.record(Arc::new(pair), true);
    }

    fn record(&mut self, pair: Arc<Pair>, is_delete: bool) {
        self.history_bytes += pair.cost();
        self.history.push_back(Event { pair, is_delete });
    }

    /// Takes a pair away from keys and leases.
    fn take(&mut self, key: &[u8]) -> Option<Arc<Pair>> {
        let old = self.pairs.remove(key)?;
        self.bytes -= old.cost();
        if let Some(lease) = self.leases.get_mut(&old.lease) {
            lease.keys.remove(key);
        }
        Some(old)
    }

    fn forget_before(&mut self, revision: Revision) {
        self.compacted = revision;
        while let Some(event) = self.history.front()
            && event.pair.mod_revision < revision
        {
            self.history_bytes -= event.pair.cost();
            self.history.pop_front();
        }
    }
}

impl Pair {
    fn cost(&self) -> usize {
        cost(&self.key, &self.value)
    }
}

fn cost(key: &[u8], value: &[u8]) -> usize {
    key.len() + value.len() + OVERHEAD
}
