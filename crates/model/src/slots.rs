//! What a rank keeps of its sequences: tokens by position, block tables and penalty counts.

use std::collections::HashMap;
use std::sync::Arc;

use spec::{Attention, Open, Sampling, SequenceId, Slot, TokenId};

use crate::sampler::Penalized;
use crate::table::Table;

/// One sequence as this rank knows it.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) id: SequenceId,
    /// Token `p` is the input at position `p`.
    tokens: Vec<TokenId>,
    pub(crate) prompt_len: usize,
    pub(crate) sampling: Arc<Sampling>,
    pub(crate) full: Table,
    pub(crate) window: Table,
    /// Kept only for sequences with penalties.
    tally: Tally,
}

impl Sequence {
    fn new(open: &Open) -> Self {
        Self {
            id: open.sequence,
            tokens: open.tokens.to_vec(),
            prompt_len: open.prompt_len as usize,
            sampling: Arc::clone(&open.sampling),
            full: Table::default(),
            window: Table::default(),
            tally: Tally::default(),
        }
    }

    /// Returns the tokens known so far.
    pub(crate) fn tokens(&self) -> &[TokenId] {
        &self.tokens
    }

    /// Returns the block table that layers of this kind use.
    pub(crate) fn table(&self, attention: Attention) -> &Table {
        match attention {
            Attention::Full => &self.full,
            Attention::Sliding => &self.window,
        }
    }

    /// Sets the token at `position`, at most one past the last known. What was known after it came
    /// from another run of the same steps and is forgotten.
    pub(crate) fn set_token(&mut self, position: usize, token: TokenId) {
        self.tokens.truncate(position);
        self.tokens.push(token);
        if self.tally.counted > position {
            self.tally = Tally::default();
        }
    }

    /// Counts how often each token occurs before `position`, by ascending token. Empty for a
    /// sequence without penalties.
    pub(crate) fn penalized(&mut self, position: usize, out: &mut Vec<(TokenId, Penalized)>) {
        out.clear();
        let sampling = &self.sampling;
        if sampling.presence_penalty == 0.0
            && sampling.frequency_penalty == 0.0
            && sampling.repetition_penalty == 1.0
        {
            return;
        }
        self.tally.count(&self.tokens[..position], self.prompt_len);
        out.extend(self.tally.counts.iter().map(|(id, count)| (*id, *count)));
        // The map's order differs from run to run; the sampler's must not.
        out.sort_unstable_by_key(|(token, _)| *token);
    }
}

/// How often each of the first `counted` tokens occurred.
#[derive(Debug, Default)]
struct Tally {
    counted: usize,
    counts: HashMap<TokenId, Penalized>,
}

impl Tally {
    fn count(&mut self, tokens: &[TokenId], prompt_len: usize) {
        if self.counted > tokens.len() {
            *self = Self::default();
        }
        for (position, token) in tokens.iter().enumerate().skip(self.counted) {
            let entry = self.counts.entry(*token).or_default();
            entry.generated += u32::from(position >= prompt_len);
        }
        self.counted = tokens.len();
    }
}

/// The sequences of a rank, by slot.
#[derive(Debug)]
pub(crate) struct Slots {
    sequences: Vec<Option<Sequence>>,
}

impl Slots {
    pub(crate) fn new(num_slots: usize) -> Self {
        Self {
            sequences: (0..num_slots).map(|_| None).collect(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.sequences.len()
    }

    pub(crate) fn find(&self, slot: Slot) -> Option<&Sequence> {
        self.sequences.get(slot.index())?.as_ref()
    }

    /// Forgets the slot's sequence.
    pub(crate) fn close(&mut self, slot: Slot) {
        self.sequences[slot.index()] = None;
    }

    /// Puts a sequence into a slot, whatever was there.
    pub(crate) fn open(&mut self, open: &Open) {
        self.sequences[open.slot.index()] = Some(Sequence::new(open));
    }

    /// Returns the sequence of a slot that the part's check found open.
    pub(crate) fn at(&self, slot: Slot) -> &Sequence {
        self.sequences[slot.index()]
            .as_ref()
            .expect("the part's check found the slot open")
    }

    /// Like [`Slots::at`], to change it.
    pub(crate) fn at_mut(&mut self, slot: Slot) -> &mut Sequence {
        self.sequences[slot.index()]
            .as_mut()
            .expect("the part's check found the slot open")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(tokens: &[u32], prompt_len: u32) -> Sequence {
        let sampling = Sampling {
            frequency_penalty: 1.0,
            ..Sampling::default()
        };
        Sequence::new(&Open {
            slot: Slot(0),
            sequence: SequenceId(1),
            tokens: tokens.iter().copied().map(TokenId).collect(),
            prompt_len,
            sampling: Arc::new(sampling),
        })
    }

    fn counts(sequence: &mut Sequence, position: usize) -> Vec<(u32, u32)> {
        let mut out = Vec::new();
        sequence.penalized(position, &mut out);
        out.iter()
            .map(|(token, count)| (token.0, count.generated))
            .collect()
    }

    #[test]
    fn counts_output_apart_from_the_prompt() {
        let mut sequence = sequence(&[5, 3, 5, 9], 2);
        assert_eq!(counts(&mut sequence, 4), [(3, 0), (5, 1), (9, 1)]);
    }

    #[test]
    fn counts_follow_a_token_that_is_sampled_again() {
        let mut sequence = sequence(&[1, 2], 1);
        sequence.set_token(2, TokenId(7));
        assert_eq!(counts(&mut sequence, 3), [(1, 0), (2, 1), (7, 1)]);
        sequence.set_token(2, TokenId(2));
        assert_eq!(counts(&mut sequence, 3), [(1, 0), (2, 2)]);
        // An earlier position is asked for, as after a void step.
        assert_eq!(counts(&mut sequence, 2), [(1, 0), (2, 1)]);
    }

    #[test]
    fn a_token_set_again_forgets_those_after_it() {
        let mut sequence = sequence(&[1, 2, 3, 4], 1);
        sequence.set_token(2, TokenId(9));
        assert_eq!(sequence.tokens(), [TokenId(1), TokenId(2), TokenId(9)]);
    }
}
