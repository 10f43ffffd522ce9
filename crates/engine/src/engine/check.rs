//! What must hold between any two calls.

use std::collections::BTreeSet;

use super::Engine;
use crate::sequence::Sequence;
use crate::sequences::Key;

impl Engine {
    /// Checks that the books agree: every block has exactly the holders that tables name and is
    /// held, cached or free; what a row will write has one holder and is unknown to the cache;
    /// each sequence waits or runs; what is remembered of a waiting one is so. It costs as much as all
    /// blocks and tables together.
    ///
    /// # Panics
    ///
    /// With what does not hold. That is a fault of this crate.
    pub fn check_invariants(&self) {
        assert!(self.in_flight.len() <= self.config.max_in_flight);
        assert_eq!(self.ranks.len(), self.config.num_ranks);
        let numbers = self.in_flight.iter().map(|flight| flight.number.0);
        assert!(
            numbers.eq(self.settled.0 + 1..=self.planned.0),
            "every step is settled or in flight"
        );
        let waiting = self.waiting.check();
        let placed = self.sequences.iter().filter(|(_, s)| s.place.is_some());
        assert_eq!(placed.count() + waiting.len(), self.sequences.len());
        assert!(
            waiting
                .iter()
                .all(|key| self.sequences[*key].place.is_none())
        );
        for index in 0..self.ranks.len() {
            self.check_rank(index);
        }
        for (key, sequence) in self.sequences.iter() {
            self.check_found(key, sequence);
        }
    }

    /// Checks that what is remembered of a cache that is unchanged is what a walk finds.
    fn check_found(&self, key: Key, sequence: &Sequence) {
        assert!(sequence.place.is_none() || sequence.found.is_empty());
        for (index, found) in sequence.found.iter().enumerate() {
            let version = self.ranks[index].kv.version();
            if let Some(found) = found.filter(|found| found.version == version) {
                let id = sequence.id;
                assert_eq!((found.hit, found.takes), self.find(key, index), "{id}");
            }
        }
    }

    fn check_rank(&self, index: usize) {
        let rank = &self.ranks[index];
        let on_rank = |(_, sequence): &(Key, &Sequence)| {
            sequence.place.as_ref().map(|p| p.rank) == Some(index)
        };
        let on_rank = || self.sequences.iter().filter(on_rank);
        let mut slots = BTreeSet::new();
        for (key, sequence) in on_rank() {
            let place = sequence.place.as_ref().expect("filtered");
            assert!(
                slots.insert(place.slot),
                "slot {} is used twice",
                place.slot
            );
            let age = sequence.age.expect("what runs was admitted");
            assert_eq!(rank.running.get(&age), Some(&key));
            self.check_sequence(sequence);
        }
        assert_eq!(slots.len(), rank.running.len());
        rank.check_slots(&slots);
        let tables = on_rank().filter_map(|(_, sequence)| Some(&sequence.place.as_ref()?.table));
        let leaving = rank.leaving.iter().map(|leaving| &leaving.table);
        rank.kv.check(tables.chain(leaving));
    }

    fn check_sequence(&self, sequence: &Sequence) {
        let (id, block_size) = (sequence.id, self.config.kv.block_size);
        let place = sequence.place.as_ref().expect("the sequence runs");
        let (table, kv) = (&place.table, &self.ranks[place.rank].kv);
        assert!(place.computed <= place.planned, "sequence {id}");
        assert!(place.planned <= sequence.expected_len(place), "{id}");
        assert!(place.computed <= sequence.tokens.len(), "sequence {id}");
        assert!(sequence.finish(place.computed).is_none(), "{id} has ended");
        if self.in_flight.is_empty() {
            assert_eq!((place.planned, place.pending), (place.computed, 0));
        }
        let blocks = self.config.blocks_for(place.planned);
        assert!(table.full.len() >= blocks && table.window_end() >= blocks);
        // Exact, so that nothing is kept longer than a row sees it, nor given back before.
        assert_eq!(table.window_first, kv.window_start(place.computed), "{id}");
        let first_written = place.computed / block_size;
        for block in &table.full[first_written..] {
            assert!(kv.full.is_exclusive(*block), "{id} writes full {block}");
        }
        for index in first_written..table.window_end() {
            let block = table.window[index - table.window_first];
            assert!(kv.window.is_exclusive(block), "{id} writes window {block}");
        }
        assert!(place.told.full <= table.full.len(), "sequence {id}");
        assert!(place.told.window <= table.window_end(), "sequence {id}");
    }
}
