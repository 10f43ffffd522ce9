//! All sequences, found by key at once and by name with a search.
//!
//! A step's lines are planned and settled one by one, thousands of times a second: this is where
//! that cost is. A key is used again after its sequence is gone, so whatever outlives a sequence
//! (a line in flight) tells it from the next by its attempt.

use std::collections::BTreeMap;
use std::ops::{Index, IndexMut};

use spec::SequenceId;

use crate::sequence::Sequence;

/// Where a sequence is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(usize);

/// The sequences that wait or run.
#[derive(Debug, Default)]
pub(crate) struct Sequences {
    entries: Vec<Option<Sequence>>,
    free: Vec<Key>,
    keys: BTreeMap<SequenceId, Key>,
}

impl Sequences {
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// Finds a sequence by its name.
    pub(crate) fn key(&self, id: SequenceId) -> Option<Key> {
        self.keys.get(&id).copied()
    }

    /// Adds a sequence of a new name.
    pub(crate) fn insert(&mut self, sequence: Sequence) -> Key {
        let key = self.free.pop().unwrap_or(Key(self.entries.len()));
        let before = self.keys.insert(sequence.id, key);
        assert!(before.is_none(), "sequence {} is there", sequence.id);
        if key.0 == self.entries.len() {
            self.entries.push(None);
        }
        self.entries[key.0] = Some(sequence);
        key
    }

    pub(crate) fn remove(&mut self, key: Key) {
        let sequence = self.entries[key.0].take();
        let sequence = sequence.expect("a key is of a sequence that is there");
        self.keys.remove(&sequence.id);
        self.free.push(key);
    }

    /// Returns the sequence that has the key now, if any: of a key from a line in flight.
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut Sequence> {
        self.entries[key.0].as_mut()
    }

    /// Returns every sequence with its key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Key, &Sequence)> {
        let entries = (0..).map(Key).zip(&self.entries);
        entries.filter_map(|(key, entry)| Some((key, entry.as_ref()?)))
    }

    /// Returns every sequence with its key, to be changed.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (Key, &mut Sequence)> {
        let entries = (0..).map(Key).zip(&mut self.entries);
        entries.filter_map(|(key, entry)| Some((key, entry.as_mut()?)))
    }
}

impl Index<Key> for Sequences {
    type Output = Sequence;

    fn index(&self, key: Key) -> &Sequence {
        let entry = self.entries[key.0].as_ref();
        entry.expect("a key is of a sequence that is there")
    }
}

impl IndexMut<Key> for Sequences {
    fn index_mut(&mut self, key: Key) -> &mut Sequence {
        let entry = self.entries[key.0].as_mut();
        entry.expect("a key is of a sequence that is there")
    }
}
