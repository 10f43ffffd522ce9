//! The steps that have been sent and not yet answered by all ranks.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use spec::{PartResult, Rank, SequenceId, Slot, Step, StepNumber};

/// Steps in flight, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    steps: VecDeque<Flying>,
    /// Which sequence a rank's slot holds, as the steps so far have said.
    slots: BTreeMap<(Rank, Slot), SequenceId>,
}

#[derive(Debug)]
struct Flying {
    number: StepNumber,
    results: Vec<Option<PartResult>>,
    /// The sequences that have lines in it.
    sequences: BTreeSet<SequenceId>,
}

impl Flight {
    pub(crate) fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Takes in a step that is about to be sent.
    pub(crate) fn depart(&mut self, step: &Step) {
        let mut sequences = BTreeSet::new();
        for part in &step.parts {
            for open in &part.opens {
                self.slots.insert((part.rank, open.slot), open.sequence);
            }
            let slots = part.lines.iter().map(|line| (part.rank, line.slot));
            sequences.extend(slots.filter_map(|slot| self.slots.get(&slot)));
        }
        let results = vec![None; step.parts.len()];
        self.steps.push_back(Flying {
            number: step.number,
            results,
            sequences,
        });
    }

    /// Says whether a step is the oldest in flight.
    pub(crate) fn is_oldest(&self, step: u64) -> bool {
        self.steps
            .front()
            .is_some_and(|oldest| oldest.number.0 == step)
    }

    /// Takes in one rank's result.
    ///
    /// # Errors
    ///
    /// In words, if it is not due.
    pub(crate) fn arrive(&mut self, step: u64, result: PartResult) -> Result<(), String> {
        let flying = self.steps.iter_mut().find(|flying| flying.number.0 == step);
        let flying = flying.ok_or_else(|| format!("answered step {step}, which is not due"))?;
        let rank = result.rank;
        match flying.results.get_mut(rank.index()) {
            None => Err(format!("answered for rank {rank}, which does not exist")),
            Some(Some(_)) => Err(format!("answered step {step} twice for rank {rank}")),
            Some(place) => {
                *place = Some(result);
                Ok(())
            }
        }
    }

    /// Takes out the oldest step, if all ranks have answered it.
    pub(crate) fn landed(&mut self) -> Option<(StepNumber, Vec<PartResult>)> {
        let oldest = self.steps.front()?;
        if oldest.results.iter().any(Option::is_none) {
            return None;
        }
        let step = self.steps.pop_front()?;
        Some((step.number, step.results.into_iter().flatten().collect()))
    }

    /// Returns whether a rank owes its result of the oldest step.
    pub(crate) fn owes(&self, rank: Rank) -> bool {
        let oldest = self.steps.front();
        oldest.is_some_and(|step| step.results.get(rank.index()).is_some_and(Option::is_none))
    }

    /// Returns the sequences of the oldest step.
    pub(crate) fn oldest(&self) -> BTreeSet<SequenceId> {
        let oldest = self.steps.front();
        oldest.map_or_else(BTreeSet::new, |step| step.sequences.clone())
    }

    /// Gives all of them up.
    pub(crate) fn ground(&mut self) {
        self.steps.clear();
    }
}
