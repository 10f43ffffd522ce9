//! Admission: which waiting sequence runs next, and on which rank.

use spec::StepNumber;

use super::Engine;
use super::choose::Choice;
use super::plan::Draft;
use crate::kv::{Hit, Room};
use crate::outcome::{Admitted, Shortage};
use crate::sequence::{Place, Told, wire};
use crate::sequences::Key;

/// Most sequences passed over in one step because the rank they want has no row left in it.
const MAX_PASSED_OVER: usize = 4;

/// What the sequences that run on a rank have yet to be given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Owed {
    pub(super) running: usize,
    pub(super) rows: usize,
    pub(super) blocks: Room,
}

impl Engine {
    /// Lets waiting sequences in, in their order, and plans their first lines.
    ///
    /// One that fits nowhere keeps all behind it waiting: what becomes free is for it. One that
    /// had rather wait for a rank lets a few by that go elsewhere, whosever they are. In the next
    /// step it is asked before those behind it again, and every rank with a slot has rows for it.
    pub(super) fn admit(&mut self, number: StepNumber, drafts: &mut [Draft]) {
        self.shortage = None;
        if self.waiting.len() == 0 {
            return;
        }
        if !self.can_admit(drafts) {
            self.shortage = Some(Shortage::Room);
            return;
        }
        self.looked = 0;
        let ranks = 0..self.ranks.len();
        let mut owed: Vec<_> = ranks.map(|rank| self.owed(rank)).collect();
        let mut passed = Vec::new();
        while self.can_admit(drafts)
            && let Some(key) = self.waiting.next(&passed)
        {
            if self.is_paused && self.sequences[key].returned().is_none() {
                self.shortage.get_or_insert(Shortage::Pause);
                break;
            }
            match self.choose_rank(key, number, &owed, drafts) {
                Choice::Rank(rank, hit) => {
                    self.start(key, rank, hit);
                    self.add_owed(&mut owed[rank], key);
                    let draft = &mut drafts[rank];
                    self.plan_line(key, number, draft.budget, draft);
                }
                Choice::Later => {
                    self.shortage.get_or_insert(Shortage::Room);
                    if passed.len() == MAX_PASSED_OVER {
                        break;
                    }
                    passed.push(key);
                }
                Choice::Nowhere => {
                    // There is a slot somewhere, or nobody would have been asked.
                    self.shortage.get_or_insert(Shortage::Kv);
                    break;
                }
            }
        }
        // Whoever is left was not asked, as the rows of the step were given away.
        if self.waiting.len() > 0 {
            self.shortage.get_or_insert(Shortage::Room);
        }
    }

    /// Returns whether any rank has both a slot and a row to give away.
    fn can_admit(&self, drafts: &[Draft]) -> bool {
        let mut ranks = self.ranks.iter().zip(drafts);
        ranks.any(|(rank, draft)| draft.budget > 0 && rank.has_free_slot())
    }

    fn owed(&self, rank: usize) -> Owed {
        let mut owed = Owed::default();
        for key in self.ranks[rank].running.values() {
            self.add_owed(&mut owed, *key);
        }
        owed
    }

    fn add_owed(&self, owed: &mut Owed, key: Key) {
        let sequence = &self.sequences[key];
        let place = sequence.place.as_ref().expect("the sequence runs");
        let needs = self.needs(key);
        let held = place.table.full.len();
        owed.running += 1;
        owed.rows += sequence.rows_left(place);
        owed.blocks.full += needs.full.saturating_sub(held);
        owed.blocks.window += needs.window.saturating_sub(place.table.window.len());
    }

    /// Moves a waiting sequence to a rank.
    fn start(&mut self, key: Key, rank_index: usize, hit: Hit) {
        let sequence = &mut self.sequences[key];
        let rank = &mut self.ranks[rank_index];
        self.waiting.remove(sequence);
        sequence.found = Vec::new();
        let block_size = self.config.kv.block_size;
        let computed = hit.blocks * block_size;
        let tokens = sequence.tokens.len();
        if sequence.age.is_none() {
            self.admitted.push(Admitted {
                sequence: sequence.id,
                cached_prompt_tokens: wire(computed.min(sequence.prompt_len)),
            });
            self.waiting.admitted(sequence.principal);
            self.waiting.charge(sequence.principal, tokens - computed);
        }
        let age = *sequence.age.get_or_insert(self.clock);
        self.clock += 1;
        self.attempts += 1;
        rank.running.insert(age, key);
        sequence.place = Some(Place {
            rank: rank_index,
            slot: rank.occupy(),
            table: rank.kv.acquire(sequence.history(), hit),
            computed,
            planned: computed,
            pending: 0,
            attempt: self.attempts,
            open: false,
            told: Told::default(),
            last_step: StepNumber(0),
            branch: hit.full_blocks * block_size,
        });
        self.report.admitted += 1;
        self.report.admitted_rows += tokens;
        self.report.hit_rows += computed;
    }
}
