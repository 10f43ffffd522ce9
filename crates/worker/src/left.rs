//! The sequences that are at home here, kept for the case that their lead is lost: another one collects
//! them.
//!
//! What is kept is a lead's own record, bytes to us, and the tokens sampled since. It belongs to the term
//! in which it was opened, and is forgotten when a step of a later term comes: then its lead has
//! collected, and opens what goes on.

use std::collections::BTreeMap;

use proto::internal as wire;
use spec::{Fence, PartResult, Rank, Slot, StepNumber, Term};

/// What is kept of all ranks.
#[derive(Debug, Default)]
pub struct Left {
    /// The epoch of the last step that came; zero before the first.
    stepped: Fence,
    /// By place, with the step that opened each: a slot is opened anew while steps of what was in it are
    /// still being computed.
    sequences: BTreeMap<(Rank, Slot), (StepNumber, wire::LeftSequence)>,
}

impl Left {
    /// Takes in what a step opens and closes.
    pub fn begin(&mut self, fence: Fence, step: StepNumber, parts: &[wire::Part]) {
        if fence < self.stepped {
            return;
        }
        if fence.term > self.stepped.term {
            self.sequences.clear();
        }
        self.stepped = fence;
        for part in parts {
            let rank = Rank(part.rank);
            for slot in &part.closes {
                self.sequences.remove(&(rank, Slot(*slot)));
            }
            for open in &part.opens {
                let sequence = wire::LeftSequence {
                    record: open.record.clone(),
                    tokens: open.tokens.clone(),
                    prompt_len: open.prompt_len,
                    term: fence.term.0,
                };
                let place = (rank, Slot(open.slot));
                self.sequences.insert(place, (step, sequence));
            }
        }
    }

    /// Takes in what a step has sampled for the lines of a part, in these slots.
    pub fn sampled(&mut self, fence: Fence, step: StepNumber, slots: &[Slot], result: &PartResult) {
        if fence != self.stepped {
            return;
        }
        for (slot, line) in slots.iter().zip(&result.lines) {
            let found = self.sequences.get_mut(&(result.rank, *slot));
            if let Some((_, sequence)) = found.filter(|(opened, _)| *opened <= step) {
                let sampled = line.tokens.iter().map(|sampled| sampled.token.0);
                sequence.tokens.extend(sampled);
            }
        }
    }

    /// Returns the epoch of the last step that came.
    #[must_use]
    pub fn stepped(&self) -> Option<Fence> {
        (self.stepped != Fence::default()).then_some(self.stepped)
    }

    /// Lists what a lead of this term has to collect.
    pub fn before(&self, term: Term) -> Vec<wire::LeftSequence> {
        if term <= self.stepped.term {
            return Vec::new();
        }
        let all = self.sequences.values().map(|(_, sequence)| sequence);
        all.filter(|sequence| !sequence.record.is_empty())
            .cloned()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use spec::{Epoch, LineResult, SampledToken, TokenId};

    use super::*;

    fn fence(term: u64, epoch: u64) -> Fence {
        Fence {
            term: Term(term),
            epoch: Epoch(epoch),
        }
    }

    fn opened(slot: u32, record: &str) -> wire::Open {
        wire::Open {
            slot,
            tokens: vec![1, 2, 3],
            prompt_len: 2,
            record: record.to_owned().into(),
            ..Default::default()
        }
    }

    fn part(opens: Vec<wire::Open>, closes: Vec<u32>) -> wire::Part {
        wire::Part {
            rank: 0,
            opens,
            closes,
            ..Default::default()
        }
    }

    fn sampled(tokens: &[u32]) -> PartResult {
        let token = |token: &u32| SampledToken {
            token: TokenId(*token),
            logprob: None,
        };
        let line = |sampled| LineResult {
            ran: true,
            tokens: vec![token(sampled)],
            prompt_logprobs: Vec::new(),
        };
        PartResult {
            rank: Rank(0),
            lines: tokens.iter().map(line).collect(),
        }
    }

    #[test]
    fn the_next_lead_gets_what_the_last_one_has_left() {
        let mut left = Left::default();
        let (first, second) = (fence(1, 1), fence(2, 1));
        let part = part(vec![opened(0, "a"), opened(1, "b"), opened(2, "")], vec![]);
        left.begin(first, StepNumber(1), &[part]);
        left.sampled(first, StepNumber(1), &[Slot(0), Slot(1)], &sampled(&[4, 5]));
        assert_eq!(left.before(first.term), [], "its own lead knows");
        let found = left.before(second.term);
        let tokens: Vec<_> = found.iter().map(|left| left.tokens.clone()).collect();
        assert_eq!(tokens, [[1, 2, 3, 4], [1, 2, 3, 5]]);
        assert_eq!(left.before(second.term), found, "until a step of it comes");
        left.begin(second, StepNumber(1), &[]);
        assert_eq!(left.before(Term(3)), []);
    }

    #[test]
    fn a_slot_that_is_opened_anew_gets_no_tokens_of_what_was_in_it() {
        let (term, mut left) = (fence(1, 1), Left::default());
        left.begin(term, StepNumber(1), &[part(vec![opened(0, "a")], vec![])]);
        left.begin(term, StepNumber(2), &[part(vec![opened(0, "b")], vec![0])]);
        // The first step is still being computed when the second one is told.
        left.sampled(term, StepNumber(1), &[Slot(0)], &sampled(&[4]));
        left.sampled(term, StepNumber(2), &[Slot(0)], &sampled(&[5]));
        assert_eq!(left.before(Term(2))[0].tokens, [1, 2, 3, 5]);
    }

    #[test]
    fn what_is_closed_is_not_left() {
        let mut left = Left::default();
        left.begin(
            fence(1, 1),
            StepNumber(1),
            &[part(vec![opened(0, "a")], vec![])],
        );
        left.begin(
            fence(1, 1),
            StepNumber(1),
            &[part(vec![opened(0, "b")], vec![0])],
        );
        let found = left.before(Term(2));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].record.as_ref() as &[u8], b"b");
        left.begin(fence(1, 1), StepNumber(1), &[part(vec![], vec![0])]);
        assert_eq!(left.before(Term(2)), []);
    }

    #[test]
    fn a_late_result_of_an_earlier_term_is_of_no_sequence_of_this_one() {
        let mut left = Left::default();
        left.begin(
            fence(1, 1),
            StepNumber(1),
            &[part(vec![opened(0, "a")], vec![])],
        );
        left.begin(
            fence(2, 1),
            StepNumber(1),
            &[part(vec![opened(0, "a")], vec![])],
        );
        left.sampled(fence(1, 1), StepNumber(1), &[Slot(0)], &sampled(&[9]));
        assert_eq!(left.before(Term(3))[0].tokens, [1, 2, 3]);
    }
}
