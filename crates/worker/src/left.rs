//! The sequences that are at home here, kept for the case that their lead is lost: another one collects
//! them.
//!
//! What is kept is a lead's own record, bytes to us, and the tokens sampled since. It belongs to the epoch
//! in which it was opened, and to each later one of which its lead says that it counts on it. It is over
//! when a step of another epoch comes: then a later lead has collected, or this one has moved it to another
//! home, where it may have ended.

use std::collections::BTreeMap;

use proto::internal as wire;
use spec::{Fence, PartResult, Rank, Slot, StepNumber, Term};

/// What is kept of all ranks.
#[derive(Debug, Default)]
pub struct Left {
    /// The epoch of the last step that came; zero before the first.
    stepped: Fence,
    /// By place.
    sequences: BTreeMap<(Rank, Slot), Kept>,
}

/// A sequence.
#[derive(Debug)]
struct Kept {
    /// The step that opened it: a slot is opened anew while steps of what was in it are still being computed.
    opened: StepNumber,
    /// What is known of it but for the epoch it belongs to.
    sequence: wire::LeftSequence,
    fence: Fence,
    /// Whether its lead has counted on it no more: it may be all there is until a step comes, but belongs to
    /// no later epoch.
    has_moved: bool,
}

impl Left {
    /// Takes in that the worker is ready for an epoch whose lead counts on what is kept of these ranks.
    pub fn ready(&mut self, fence: Fence, counted: &[Rank]) {
        for ((rank, _), kept) in &mut self.sequences {
            kept.has_moved |= kept.fence.term != fence.term || !counted.contains(rank);
            if !kept.has_moved {
                kept.fence = fence;
            }
        }
    }

    /// Takes in what a step opens and closes.
    pub fn begin(&mut self, fence: Fence, step: StepNumber, parts: &[wire::Part]) {
        if fence < self.stepped {
            return;
        }
        if fence > self.stepped {
            self.stepped = fence;
            self.sequences.retain(|_, kept| kept.fence == fence);
        }
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
                    ..Default::default()
                };
                let kept = Kept {
                    opened: step,
                    sequence,
                    fence,
                    has_moved: false,
                };
                self.sequences.insert((rank, Slot(open.slot)), kept);
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
            if let Some(kept) = found.filter(|kept| kept.opened <= step) {
                let sampled = line.tokens.iter().map(|sampled| sampled.token.0);
                kept.sequence.tokens.extend(sampled);
            }
        }
    }

    /// Returns the epoch of the last step that came; what other workers keep of earlier ones is over.
    #[must_use]
    pub fn stepped(&self) -> Option<Fence> {
        (self.stepped != Fence::default()).then_some(self.stepped)
    }

    /// Lists what a lead of this term has to collect.
    pub fn before(&self, term: Term) -> Vec<wire::LeftSequence> {
        if term <= self.stepped.term {
            return Vec::new();
        }
        let all = self.sequences.values();
        let all = all.filter(|kept| !kept.sequence.record.is_empty());
        let all = all.map(|kept| wire::LeftSequence {
            term: kept.fence.term.0,
            epoch: kept.fence.epoch.0,
            ..kept.sequence.clone()
        });
        all.collect()
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

    #[test]
    fn what_has_moved_to_another_home_is_not_left_here() {
        let mut left = Left::default();
        let first = [part(vec![opened(0, "a")], vec![])];
        left.begin(fence(1, 1), StepNumber(1), &first);
        // Somebody else holds the rank for a while; then it is ours again, with nothing in it.
        left.ready(fence(1, 3), &[]);
        let ours = |left: &Left| {
            let all = left.before(Term(2));
            let all = all.iter().map(|left| (left.term, left.epoch));
            all.collect::<Vec<_>>()
        };
        assert_eq!(
            ours(&left),
            [(1, 1)],
            "until a step comes it may be all there is"
        );
        // No step has come when the next epoch is prepared: what had moved has moved.
        left.ready(fence(1, 4), &[Rank(0)]);
        assert_eq!(ours(&left), [(1, 1)]);
        left.begin(fence(1, 4), StepNumber(5), &[part(vec![], vec![])]);
        assert_eq!(ours(&left), []);
        assert_eq!(left.stepped(), Some(fence(1, 4)));
    }

    #[test]
    fn what_its_lead_counts_on_belongs_to_the_next_epoch_too() {
        let mut left = Left::default();
        let first = [part(vec![opened(0, "a")], vec![])];
        left.begin(fence(1, 1), StepNumber(1), &first);
        left.ready(fence(1, 2), &[Rank(0)]);
        let found = left.before(Term(2));
        assert_eq!((found[0].term, found[0].epoch), (1, 2));
        left.begin(fence(1, 2), StepNumber(2), &[part(vec![], vec![])]);
        assert_eq!(left.before(Term(2)), found);
        // Another term is another lead, which opens what it has collected.
        left.ready(fence(2, 1), &[Rank(0)]);
        assert_eq!(left.before(Term(2)), found);
        left.begin(fence(2, 1), StepNumber(1), &[part(vec![], vec![])]);
        assert_eq!(left.before(Term(3)), []);
    }
}
