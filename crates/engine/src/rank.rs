//! One rank as the engine sees it: its KV, its slots, who runs there.

use std::collections::{BTreeMap, BTreeSet};

use spec::{Slot, StepNumber};

use crate::config::EngineConfig;
use crate::kv::{RankKv, Table};
use crate::sequences::Key;

/// Blocks of a sequence that is gone, held until no step in flight has a line of it.
#[derive(Debug)]
pub(crate) struct Leaving {
    last_step: StepNumber,
    pub(crate) table: Table,
}

/// What a slot is used for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct SlotUse {
    occupied: bool,
    /// The last step that opens it; none once the rank surely holds nothing there.
    opened: Option<StepNumber>,
}

/// State of one rank.
#[derive(Debug)]
pub(crate) struct RankState {
    pub(crate) kv: RankKv,
    /// Running sequences by age.
    pub(crate) running: BTreeMap<u64, Key>,
    pub(crate) leaving: Vec<Leaving>,
    slots: Vec<SlotUse>,
    /// Slots that a sequence can have.
    free: BTreeSet<Slot>,
    /// Slots that became empty while or since the last step was planned: their lines may be in it.
    vacated: Vec<Slot>,
    /// Slots to be closed by the next step.
    closes: BTreeSet<Slot>,
}

impl RankState {
    pub(crate) fn new(config: &EngineConfig) -> Self {
        let num_slots = u32::try_from(config.kv.num_slots).expect("the configuration limits slots");
        Self {
            kv: RankKv::new(config),
            running: BTreeMap::new(),
            leaving: Vec::new(),
            slots: vec![SlotUse::default(); config.kv.num_slots],
            free: (0..num_slots).map(Slot).collect(),
            vacated: Vec::new(),
            closes: BTreeSet::new(),
        }
    }

    pub(crate) fn has_free_slot(&self) -> bool {
        !self.free.is_empty()
    }

    /// Gives a sequence the lowest free slot. Opening it will replace what the rank holds there.
    pub(crate) fn occupy(&mut self) -> Slot {
        let slot = self.free.pop_first().expect("the rank has a free slot");
        self.closes.remove(&slot);
        self.slots[slot.index()].occupied = true;
        slot
    }

    /// Takes a slot back. It can be given out from the next step on.
    pub(crate) fn vacate(&mut self, slot: Slot) {
        self.slots[slot.index()].occupied = false;
        self.vacated.push(slot);
    }

    /// Begins a plan: the slots vacated before are free in it, and closed if the rank knows them.
    pub(crate) fn begin_plan(&mut self) {
        for slot in self.vacated.drain(..) {
            self.free.insert(slot);
            if self.slots[slot.index()].opened.is_some() {
                self.closes.insert(slot);
            }
        }
    }

    /// Notes that a step opens a slot.
    pub(crate) fn opened(&mut self, slot: Slot, step: StepNumber) {
        self.slots[slot.index()].opened = Some(step);
    }

    /// Says whether the next step would close slots.
    pub(crate) fn owes_closes(&self) -> bool {
        !self.closes.is_empty()
    }

    /// Ends a plan that became a step: returns the slots it closes.
    pub(crate) fn take_closes(&mut self) -> Vec<Slot> {
        std::mem::take(&mut self.closes).into_iter().collect()
    }

    /// Releases a table, at once or when the last step that may touch it is settled.
    pub(crate) fn release(&mut self, table: Table, last_step: StepNumber, settled: StepNumber) {
        if last_step <= settled {
            self.kv.release(table);
        } else {
            self.leaving.push(Leaving { last_step, table });
        }
    }

    /// Releases what waited for the steps up to `settled`.
    pub(crate) fn release_leaving(&mut self, settled: StepNumber) {
        let done = |leaving: &mut Leaving| leaving.last_step <= settled;
        for leaving in self.leaving.extract_if(.., done) {
            self.kv.release(leaving.table);
        }
    }

    /// Notes that the rank executed a step with these closes.
    pub(crate) fn closed(&mut self, closes: &[Slot], step: StepNumber) {
        for slot in closes {
            let entry = &mut self.slots[slot.index()];
            // Opened again by a later step, it is held all the same.
            if entry.opened.is_some_and(|opened| opened < step) {
                entry.opened = None;
            }
        }
    }

    /// Notes that steps in flight are void: what they closed may be there still.
    pub(crate) fn reopen_closes(&mut self) {
        self.begin_plan();
        for slot in &self.free {
            if self.slots[slot.index()].opened.is_some() {
                self.closes.insert(*slot);
            }
        }
    }

    /// Checks the slots against those of the running sequences.
    pub(crate) fn check_slots(&self, running: &BTreeSet<Slot>) {
        for (slot, entry) in (0..).map(Slot).zip(&self.slots) {
            let spare = usize::from(self.free.contains(&slot))
                + self.vacated.iter().filter(|other| **other == slot).count();
            assert_eq!(entry.occupied, running.contains(&slot), "slot {slot}");
            assert_eq!(spare, usize::from(!entry.occupied), "slot {slot} is spare");
        }
        assert!(self.closes.is_disjoint(running), "an occupied slot closes");
    }
}
