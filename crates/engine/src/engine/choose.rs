//! The choice of a rank for a waiting sequence, by what its prefix cache holds and what runs there.
//!
//! To find a hit is to walk a prefix block by block, thousands of them for a long one. So what was
//! found is remembered, and it serves to say that a sequence has to wait. Only where it says that a
//! sequence can go now is it made sure of, by another walk unless the cache is unchanged.
//!
//! What is remembered may be wrong in the other direction: meanwhile another sequence may have
//! computed the same prefix. Hence one walk a step is spent on looking again, for the first that
//! waits before others. A long walk is paid off by the steps after it, in which there is none.
//!
//! First walks and those that make sure have a budget too, or a few long prompts that come together
//! would hold everybody up: when it is spent, who needs another walk goes on with it in the next step.

use spec::StepNumber;

use super::Engine;
use super::admit::Owed;
use super::plan::Draft;
use crate::kv::{Hit, Room};
use crate::sequence::Found;
use crate::sequences::Key;

/// How many rows of prompt a running sequence weighs when ranks are compared: it will take one row
/// of many steps to come. So a rank with a prefix of 1,000 tokens is preferred to one that is idle
/// until it runs some 15 sequences more.
const ROWS_PER_RUNNING: usize = 64;

/// Most blocks of prefixes that are looked at again in a step, on average.
const BLOCKS_PER_STEP: usize = 64;

/// Blocks of prefixes after which a step looks no further: about as many as the longest context has,
/// in all layers. So a step looks at less than twice as many, which takes a few milliseconds.
const MAX_BLOCKS_PER_STEP: usize = 16_384;

/// Where a waiting sequence can go.
pub(super) enum Choice {
    /// To this rank, with this hit.
    Rank(usize, Hit),
    /// To a rank whose rows of this step are all given away, or to one that is not known yet since
    /// enough was looked at in this step. It is worth the wait.
    Later,
    /// Nowhere, for want of slots or blocks.
    Nowhere,
}

impl Engine {
    /// Finds the rank that has the least to do before the sequence is at its end there.
    pub(super) fn choose_rank(
        &mut self,
        key: Key,
        number: StepNumber,
        owed: &[Owed],
        drafts: &[Draft],
    ) -> Choice {
        if !self.look_around(key, number, drafts) {
            return Choice::Later;
        }
        loop {
            let Some((rank, found)) = self.best_rank(key, owed) else {
                return Choice::Nowhere;
            };
            if drafts[rank].budget == 0 {
                return Choice::Later;
            }
            if found.version == self.ranks[rank].kv.version() {
                return Choice::Rank(rank, found.hit);
            }
            if !self.may_look(drafts) {
                return Choice::Later;
            }
            self.look(key, rank, number);
        }
    }

    /// Whether the step being planned has walks left. They hold nobody up where nothing else runs, and
    /// there always has to be a step.
    fn may_look(&self, drafts: &[Draft]) -> bool {
        self.looked < MAX_BLOCKS_PER_STEP
            || self.in_flight.is_empty() && drafts.iter().all(Draft::is_empty)
    }

    /// Looks where nobody looked yet and, if it is time, again where it is longest ago. Returns whether
    /// somebody has looked everywhere now.
    fn look_around(&mut self, key: Key, number: StepNumber, drafts: &[Draft]) -> bool {
        self.sequences[key].found.resize(self.ranks.len(), None);
        let mut stalest: Option<(StepNumber, usize)> = None;
        for rank in 0..self.ranks.len() {
            if !self.ranks[rank].has_free_slot() {
                continue;
            }
            match self.sequences[key].found[rank] {
                None if self.may_look(drafts) => {
                    self.look(key, rank, number);
                }
                None => return false,
                Some(found) if found.version == self.ranks[rank].kv.version() => {}
                Some(found) => {
                    let seen = (found.step, rank);
                    stalest = Some(stalest.map_or(seen, |other| other.min(seen)));
                }
            }
        }
        let stalest = stalest.filter(|_| number >= self.next_look && self.may_look(drafts));
        if let Some((_, rank)) = stalest {
            let blocks = self.look(key, rank, number);
            let pause = 1 + blocks / BLOCKS_PER_STEP;
            self.next_look = StepNumber(number.0 + pause as u64);
        }
        true
    }

    /// Looks what a rank's prefix cache holds of a sequence; returns how many blocks that took.
    fn look(&mut self, key: Key, rank: usize, number: StepNumber) -> usize {
        let (hit, takes) = self.find(key, rank);
        self.sequences[key].found[rank] = Some(Found {
            hit,
            takes,
            version: self.ranks[rank].kv.version(),
            step: number,
        });
        let blocks = hit.full_blocks + hit.blocks;
        self.looked += blocks;
        blocks
    }

    /// Finds a sequence's hit on a rank, and what it takes there out of the rank's room.
    pub(super) fn find(&self, key: Key, rank: usize) -> (Hit, Room) {
        let (sequence, kv) = (&self.sequences[key], &self.ranks[rank].kv);
        let (history, block_size) = (sequence.history(), self.config.kv.block_size);
        let hit = kv.find(history, sequence.hit_limit() / block_size);
        let (needs, idle) = (self.needs(key), kv.idle_in(history, hit));
        let window_hit = hit.blocks - kv.window_start(hit.blocks * block_size);
        let takes = Room {
            full: needs.full - hit.blocks + idle.full,
            window: needs.window.saturating_sub(window_hit) + idle.window,
        };
        (hit, takes)
    }

    /// Returns the blocks a sequence needs to compute its tokens and one block more, in all.
    pub(super) fn needs(&self, key: Key) -> Room {
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

    /// Returns the best of the ranks that have a slot and room, by what was found there last.
    fn best_rank(&self, key: Key, owed: &[Owed]) -> Option<(usize, Found)> {
        let sequence = &self.sequences[key];
        let ranks = self.ranks.iter().enumerate().zip(&sequence.found).zip(owed);
        let fitting = ranks.filter_map(|(((index, rank), found), owed)| {
            let found = found.filter(|_| rank.has_free_slot())?;
            let (takes, room) = (found.takes, rank.kv.room());
            let fits = takes.full + owed.blocks.full <= room.full
                && takes.window + owed.blocks.window <= room.window;
            let missing = sequence.tokens.len() - found.hit.blocks * self.config.kv.block_size;
            let cost = owed.rows + owed.running * ROWS_PER_RUNNING + missing;
            fits.then_some((cost, index, found))
        });
        let (_, index, found) = fitting.min_by_key(|(cost, ..)| *cost)?;
        Some((index, found))
    }
}
