//! Who waits, and who is next.
//!
//! Sequences that ran before come first, the oldest of them leading, and behind them those that were taken
//! elsewhere, whosever they are: first those that have output, then by arrival, but for priorities. Then principals take turns by
//! the rows they were given: the one that had the least is next, within it the first to arrive, but for priorities. A
//! principal that comes back after a pause starts level with the others, so that silence earns no
//! credit; so the least served is served, and nobody waits for ever.

use std::collections::{BTreeMap, BTreeSet};

use crate::sequence::{Returned, Sequence};
use crate::sequences::Key;

/// The waiting sequences.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    returned: BTreeMap<Returned, Key>,
    /// By principal, then by turn and arrival. None is empty.
    queues: BTreeMap<u32, BTreeMap<(u64, u64), Key>>,
    num_new: usize,
    /// Principals with a queue, by rows served.
    order: BTreeSet<(u64, u32)>,
    /// Rows given to each principal that waits or is ahead of `floor`.
    served: BTreeMap<u32, u64>,
    /// Where a principal starts: the rows of the one admitted last.
    floor: u64,
}

impl Waiting {
    pub(crate) fn len(&self) -> usize {
        self.returned.len() + self.num_new
    }

    /// Returns how many new ones wait for their first admission.
    pub(crate) fn num_new(&self) -> usize {
        self.num_new
    }

    /// Adds a sequence, in front if it is no new one.
    pub(crate) fn insert(&mut self, key: Key, sequence: &Sequence) {
        if let Some(place) = sequence.returned() {
            self.returned.insert(place, key);
            return;
        }
        let principal = sequence.principal;
        self.num_new += 1;
        let queue = self.queues.entry(principal).or_default();
        if queue.is_empty() {
            let served = self.served.entry(principal).or_default();
            *served = self.floor.max(*served);
            self.order.insert((*served, principal));
        }
        queue.insert((sequence.turn, sequence.arrival), key);
    }

    /// Removes a sequence that waits.
    pub(crate) fn remove(&mut self, sequence: &Sequence) {
        if let Some(place) = sequence.returned() {
            self.returned.remove(&place);
            return;
        }
        let principal = sequence.principal;
        let queue = self.queues.get_mut(&principal);
        let queue = queue.expect("a new sequence that waits is in its principal's queue");
        queue.remove(&(sequence.turn, sequence.arrival));
        self.num_new -= 1;
        if queue.is_empty() {
            self.queues.remove(&principal);
            self.order.remove(&(self.served[&principal], principal));
        }
    }

    /// Returns the first in the order that is not among `passed`, which are few.
    pub(crate) fn next(&self, passed: &[Key]) -> Option<Key> {
        let queues = self
            .order
            .iter()
            .map(|(_, principal)| &self.queues[principal]);
        let new = queues.flat_map(BTreeMap::values);
        let mut all = self.returned.values().chain(new);
        all.find(|key| !passed.contains(key)).copied()
    }

    /// Notes that a principal's turn came.
    pub(crate) fn admitted(&mut self, principal: u32) {
        if let Some(&served) = self.served.get(&principal) {
            self.floor = self.floor.max(served);
        }
        // Who is level with the floor need not be remembered; twice as many as wait are let be.
        if self.served.len() > 2 * self.queues.len() + 16 {
            let (queues, floor) = (&self.queues, self.floor);
            self.served
                .retain(|principal, served| *served > floor || queues.contains_key(principal));
        }
    }

    /// Adds to the rows that a principal was given.
    pub(crate) fn charge(&mut self, principal: u32, rows: usize) {
        let served = self.served.entry(principal).or_insert(self.floor);
        let before = (*served, principal);
        *served += rows as u64;
        if self.order.remove(&before) {
            self.order.insert((*served, principal));
        }
    }

    /// Checks that the queues and their order agree, and returns who waits.
    pub(crate) fn check(&self) -> BTreeSet<Key> {
        let queued = self.queues.values().flat_map(BTreeMap::values);
        assert_eq!(queued.clone().count(), self.num_new, "new sequences");
        let order = self.queues.keys().map(|p| (self.served[p], *p));
        assert_eq!(order.collect::<BTreeSet<_>>(), self.order, "turns");
        assert!(self.queues.values().all(|queue| !queue.is_empty()));
        queued.chain(self.returned.values()).copied().collect()
    }
}
