//! Admission: which waiting sequence runs next, and on which rank.

use spec::StepNumber;

use super::Engine;
use super::plan::Draft;
use crate::kv::{Hit, Room};
use crate::outcome::Admitted;
use crate::sequence::{Place, Told, wire};
use crate::sequences::Key;

/// How many rows of prompt a running sequence weighs when ranks are compared: it will take one row
/// of many steps to come. So a rank with a prefix of 1,000 tokens is preferred to one that is idle
/// until it runs some 15 sequences more.
const ROWS_PER_RUNNING: usize = 64;

/// Most sequences passed over in one step because the rank they want has no row left in it.
const MAX_PASSED_OVER: usize = 4;

/// What the sequences that run on a rank have yet to be given.
#[derive(Clone, Copy, Debug, Default)]
struct Owed {
    running: usize,
    rows: usize,
    blocks: Room,
}

/// Where a waiting sequence can go.
enum Choice {
    /// To this rank, with this hit.
    Rank(usize, Hit),
    /// To a rank whose rows of this step are all given away. It is worth the wait.
    Later,
    /// Nowhere, for want of slots or blocks.
    Nowhere,
}

impl Engine {
    /// Lets waiting sequences in, in their order, and plans their first lines.
    ///
    /// One that fits nowhere keeps all behind it waiting: what becomes free is for it.
    pub(super) fn admit(&mut self, number: StepNumber, drafts: &mut [Draft]) {
        let has_room =
            |(rank, draft): (usize, &Draft)| draft.budget > 0 && self.ranks[rank].has_free_slot();
        if self.waiting.len() == 0 || !drafts.iter().enumerate().any(has_room) {
            return;
        }
        let ranks = 0..self.ranks.len();
        let mut owed: Vec<_> = ranks.map(|rank| self.owed(rank)).collect();
        let mut passed_over = 0;
        let mut behind = None;
        while let Some((turn, key)) = self.waiting.next(behind) {
            match self.choose_rank(key, &owed, drafts) {
                Choice::Rank(rank, hit) => {
                    self.start(key, rank, hit);
                    self.add_owed(&mut owed[rank], key);
                    self.plan_line(key, number, &mut drafts[rank]);
                }
                Choice::Later if passed_over < MAX_PASSED_OVER => {
                    passed_over += 1;
                    behind = Some(turn);
                }
                Choice::Later | Choice::Nowhere => break,
            }
        }
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

    /// Returns the blocks a sequence needs to compute its tokens and one block more, in all.
    fn needs(&self, key: Key) -> Room {
        let sequence = &self.sequences[key];
        let positions = sequence.tokens.len() + self.config.kv.block_size;
        let full = self
            .config
            .blocks_for(positions.min(sequence.most_positions()));
        Room {
            full,
            window: full.min(self.config.window_need()),
        }
    }

    /// Finds the rank that has the least to do before the sequence is at its end there.
    fn choose_rank(&self, key: Key, owed: &[Owed], drafts: &[Draft]) -> Choice {
        let sequence = &self.sequences[key];
        let history = sequence.history();
        let limit = sequence.hit_limit() / self.config.kv.block_size;
        let needs = self.needs(key);
        let mut best: Option<(usize, usize, Hit)> = None;
        for (index, rank) in self.ranks.iter().enumerate() {
            if !rank.has_free_slot() {
                continue;
            }
            let hit = rank.kv.find(history, limit);
            let (room, idle) = (rank.kv.room(), rank.kv.idle_in(history, hit));
            let window_hit =
                hit.blocks - rank.kv.window_start(hit.blocks * self.config.kv.block_size);
            let owed = &owed[index];
            let fits = needs.full - hit.blocks + idle.full + owed.blocks.full <= room.full
                && needs.window.saturating_sub(window_hit) + idle.window + owed.blocks.window
                    <= room.window;
            if !fits {
                continue;
            }
            let missing = sequence.tokens.len() - hit.blocks * self.config.kv.block_size;
            let cost = owed.rows + owed.running * ROWS_PER_RUNNING + missing;
            if best.is_none_or(|(least, ..)| cost < least) {
                best = Some((cost, index, hit));
            }
        }
        match best {
            None => Choice::Nowhere,
            Some((_, rank, _)) if drafts[rank].budget == 0 => Choice::Later,
            Some((_, rank, hit)) => Choice::Rank(rank, hit),
        }
    }

    /// Moves a waiting sequence to a rank.
    fn start(&mut self, key: Key, rank_index: usize, hit: Hit) {
        let sequence = &mut self.sequences[key];
        let rank = &mut self.ranks[rank_index];
        self.waiting.remove(sequence);
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
