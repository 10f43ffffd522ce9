//! What is done about steps that fail again and again, none completed in between. Pure.
//!
//! A lost connection or a dead worker never costs a sequence: the worker that is part of every
//! failure is sent away, so that a spare gets its seat. Only what cannot be computed ends, and only
//! sequences that were in every step which failed that way.

use std::collections::{BTreeMap, BTreeSet};

use spec::SequenceId;

use crate::limits;

/// The failures since a step was completed.
#[derive(Debug, Default)]
pub(crate) struct Blame {
    failures: usize,
    /// Those that name no other worker: something could not be computed.
    barren: usize,
    /// The workers that reported or were blamed for every one of them.
    suspects: Option<BTreeSet<String>>,
    /// How often each was sent away for it.
    sent_away: BTreeMap<String, usize>,
    /// The sequences that were in every step of a barren failure.
    sequences: Option<BTreeSet<SequenceId>>,
}

/// A failure of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed<'a> {
    /// The worker that says so.
    pub(crate) by: &'a str,
    /// Another worker, which it puts it down to.
    pub(crate) blames: Option<&'a str>,
    /// Whether something could not be computed; otherwise a connection or a worker was lost.
    pub(crate) barren: bool,
}

impl Blame {
    /// Forgets everything: a step was completed, or the cause is known.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Takes in a failure of a step with these sequences; returns a worker to send away.
    pub(crate) fn failed(
        &mut self,
        failed: Failed<'_>,
        sequences: &BTreeSet<SequenceId>,
    ) -> Option<String> {
        let named = [failed.blames, Some(failed.by)];
        let named: BTreeSet<String> = named.into_iter().flatten().map(str::to_owned).collect();
        self.failures += 1;
        self.suspects = Some(match &self.suspects {
            None => named,
            Some(suspects) => suspects & &named,
        });
        if failed.barren {
            self.barren += 1;
            self.sequences = Some(match &self.sequences {
                None => sequences.clone(),
                Some(before) => before & sequences,
            });
        }
        let due = self.failures > limits::MAX_FAILURES || self.barren == limits::MAX_BARREN / 2;
        if due { self.worst(failed) } else { None }
    }

    /// Returns the sequences to end, once something could not be computed too often.
    pub(crate) fn hopeless(&mut self) -> BTreeSet<SequenceId> {
        if self.barren < limits::MAX_BARREN {
            return BTreeSet::new();
        }
        self.barren = 0;
        self.sequences.take().unwrap_or_default()
    }

    /// Chooses among the workers that are part of every failure the one sent away least often; of
    /// several the one that is blamed.
    fn worst(&mut self, last: Failed<'_>) -> Option<String> {
        let suspects = self.suspects.as_ref()?;
        let times = |name: &String| self.sent_away.get(name).copied().unwrap_or(0);
        let reports = |name: &String| last.blames.is_some_and(|blamed| blamed != name);
        let worst = suspects
            .iter()
            .min_by_key(|name| (times(name), reports(name)));
        let Some(worst) = worst.cloned() else {
            // No single worker explains them all; perhaps one explains those to come.
            self.suspects = None;
            return None;
        };
        *self.sent_away.entry(worst.clone()).or_default() += 1;
        Some(worst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost<'a>(by: &'a str, blames: &'a str) -> Failed<'a> {
        Failed {
            by,
            blames: Some(blames),
            barren: false,
        }
    }

    fn barren(by: &str) -> Failed<'_> {
        Failed {
            by,
            blames: None,
            barren: true,
        }
    }

    fn sequences(ids: &[u64]) -> BTreeSet<SequenceId> {
        ids.iter().copied().map(SequenceId).collect()
    }

    #[test]
    fn lost_connections_end_no_sequence_however_many_there_are() {
        let mut blame = Blame::default();
        for _ in 0..100 {
            blame.failed(lost("a", "b"), &sequences(&[1]));
            assert_eq!(blame.hopeless(), sequences(&[]));
        }
    }

    #[test]
    fn a_worker_that_nobody_reaches_is_sent_away() {
        let mut blame = Blame::default();
        let reporters = ["a", "c", "a", "d", "c", "a"];
        for by in reporters {
            assert_eq!(blame.failed(lost(by, "b"), &sequences(&[])), None);
        }
        let away = blame.failed(lost("c", "b"), &sequences(&[]));
        assert_eq!(away.as_deref(), Some("b"));
    }

    #[test]
    fn a_worker_that_reaches_nobody_is_sent_away_in_the_end() {
        let mut blame = Blame::default();
        for _ in 0..limits::MAX_FAILURES {
            assert_eq!(blame.failed(lost("a", "b"), &sequences(&[])), None);
        }
        let first = blame.failed(lost("a", "b"), &sequences(&[]));
        assert_eq!(first.as_deref(), Some("b"), "between two nobody can tell");
        // A spare has the seat, and it is no better.
        let then = blame.failed(lost("a", "spare"), &sequences(&[]));
        assert_eq!(then.as_deref(), Some("a"));
    }

    #[test]
    fn two_that_do_not_reach_each_other_are_sent_away_in_turn() {
        let mut blame = Blame::default();
        for _ in 0..limits::MAX_FAILURES {
            blame.failed(lost("a", "b"), &sequences(&[]));
        }
        let mut away = || blame.failed(lost("a", "b"), &sequences(&[])).unwrap();
        assert_eq!([away(), away(), away(), away()], ["b", "a", "b", "a"]);
    }

    #[test]
    fn what_cannot_be_computed_ends_and_nothing_beside_it() {
        let mut blame = Blame::default();
        let steps = [[1, 2], [1, 3], [1, 2], [1, 4], [1, 2]];
        for (number, step) in steps.iter().enumerate() {
            assert_eq!(blame.hopeless(), sequences(&[]), "after {number}");
            blame.failed(barren("a"), &sequences(step));
        }
        assert_eq!(blame.hopeless(), sequences(&[1]));
        blame.failed(barren("a"), &sequences(&[2]));
        assert_eq!(blame.hopeless(), sequences(&[]), "it counts anew");
    }

    #[test]
    fn a_worker_that_computes_wrongly_is_sent_away_before_sequences_end() {
        let mut blame = Blame::default();
        assert_eq!(blame.failed(barren("a"), &sequences(&[1])), None);
        let away = blame.failed(barren("a"), &sequences(&[1]));
        assert_eq!(away.as_deref(), Some("a"));
        assert_eq!(blame.hopeless(), sequences(&[]));
    }

    #[test]
    fn a_completed_step_clears_everybody() {
        let mut blame = Blame::default();
        for _ in 0..limits::MAX_FAILURES {
            blame.failed(lost("a", "b"), &sequences(&[1]));
        }
        blame.clear();
        assert_eq!(blame.failed(lost("a", "b"), &sequences(&[1])), None);
    }
}
