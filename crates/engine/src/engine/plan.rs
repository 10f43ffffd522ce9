//! The plan of one step: a row for every sequence that decodes, then chunks of prompts.

use spec::{BlockRun, Line, Part, Rank, Step, StepNumber};

use super::{Engine, Flight, FlightLine, FlightPart};
use crate::kv::Table;
use crate::rank::RankState;
use crate::sequence::{Place, Told, wire};
use crate::sequences::Key;

/// A part under construction.
#[derive(Debug)]
pub(super) struct Draft {
    part: Part,
    lines: Vec<FlightLine>,
    /// Rows that may still be added.
    pub(super) budget: usize,
    /// Sequences that run with more than one row to go, the oldest first, until they are planned.
    prompts: Vec<Key>,
    /// Rows set aside for the oldest of them, not in `budget`.
    held: usize,
}

impl Draft {
    /// Whether nothing was planned yet.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl Engine {
    /// Plans the next step; none if there is nothing to plan now or enough is in flight.
    ///
    /// A row may be planned whose input the step before has yet to sample. If nothing is in flight
    /// and there is work, there is a step; also a last one that only closes what has ended.
    pub fn next_step(&mut self) -> Option<Step> {
        if self.in_flight.len() >= self.config.max_in_flight {
            return None;
        }
        let number = StepNumber(self.planned.0 + 1);
        let mut drafts = Vec::with_capacity(self.ranks.len());
        for rank in 0..self.ranks.len() {
            self.ranks[rank].begin_plan();
            let mut draft = Draft {
                part: Part {
                    rank: Rank(wire(rank)),
                    ..Part::default()
                },
                lines: Vec::new(),
                budget: self.config.max_step_rows,
                prompts: Vec::new(),
                held: 0,
            };
            self.plan_running(rank, number, &mut draft);
            drafts.push(draft);
        }
        self.admit(number, &mut drafts);
        for (rank, draft) in drafts.iter_mut().enumerate() {
            self.plan_prompts(rank, number, draft);
        }
        if drafts.iter().all(Draft::is_empty) && !self.owes_closes() {
            return None;
        }
        self.planned = number;
        let mut parts = Vec::with_capacity(drafts.len());
        let mut flights = Vec::with_capacity(drafts.len());
        for (mut draft, rank) in drafts.into_iter().zip(&mut self.ranks) {
            draft.part.closes = rank.take_closes();
            flights.push(FlightPart {
                closes: draft.part.closes.clone(),
                lines: draft.lines,
            });
            parts.push(draft.part);
        }
        self.in_flight.push_back(Flight {
            number,
            parts: flights,
        });
        Some(Step {
            fence: self.fence,
            number,
            parts,
        })
    }

    /// Says whether ranks hold what is gone and no step will come that would tell them: what a rank keeps
    /// of a sequence must not outlive it, or another lead would go on with it.
    fn owes_closes(&self) -> bool {
        self.in_flight.is_empty() && self.ranks.iter().any(RankState::owes_closes)
    }

    /// Plans a row for each sequence of a rank that decodes, the oldest first, and sets aside half
    /// of what is left for the oldest that has a prompt to compute.
    fn plan_running(&mut self, rank: usize, number: StepNumber, draft: &mut Draft) {
        let running: Vec<_> = self.ranks[rank].running.values().copied().collect();
        draft.part.lines.reserve(running.len());
        draft.lines.reserve(running.len());
        let mut prompts = Vec::new();
        for key in running {
            match self.rows_left(key, rank, number) {
                0 => {}
                1 => self.plan_line(key, number, draft.budget, draft),
                _ => prompts.push(key),
            }
        }
        if let Some(oldest) = prompts.first() {
            // With the blocks for these rows, before those who are let in take some.
            draft.held = self.reserve(*oldest, self.half(draft.budget));
            draft.budget -= draft.held;
            draft.prompts = prompts;
        }
    }

    /// Returns half of a budget, in whole blocks if there is one, and at least a row.
    fn half(&self, budget: usize) -> usize {
        match budget / 2 / self.config.kv.block_size {
            0 => budget.div_ceil(2),
            blocks => blocks * self.config.kv.block_size,
        }
    }

    /// Plans chunks of the prompts that run on a rank, behind those that were let in just now.
    ///
    /// The oldest has what was set aside for it, so that it gets on in every step, and what the
    /// others cannot use. These come in the order of their rows: a short prompt is not kept
    /// waiting by a long one, and a long one is the oldest in the end.
    fn plan_prompts(&mut self, rank: usize, number: StepNumber, draft: &mut Draft) {
        let held = std::mem::take(&mut draft.held);
        draft.budget += held;
        let prompts = std::mem::take(&mut draft.prompts).into_iter();
        let rows = |key| (self.rows_left(key, rank, number), key);
        let mut prompts: Vec<_> = prompts.map(rows).filter(|(rows, _)| *rows > 0).collect();
        let Some(((_, oldest), others)) = prompts.split_first_mut() else {
            return;
        };
        let behind: usize = others.iter().map(|(rows, _)| rows).sum();
        let share = held.max(draft.budget.saturating_sub(behind));
        self.plan_line(*oldest, number, share, draft);
        others.sort_by_key(|(rows, _)| *rows);
        for (_, key) in others {
            if self.rows_left(*key, rank, number) > 0 {
                self.plan_line(*key, number, draft.budget, draft);
            }
        }
    }

    /// Returns how many rows a sequence could be given on a rank in this step.
    ///
    /// There are none if it has its line, or was sent back to waiting for the sake of an older one
    /// and maybe runs elsewhere by now.
    fn rows_left(&self, key: Key, rank: usize, number: StepNumber) -> usize {
        let sequence = &self.sequences[key];
        let here = |place: &&Place| place.rank == rank && place.last_step < number;
        let place = sequence.place.as_ref().filter(here);
        place.map_or(0, |place| sequence.rows_left(place))
    }

    /// Plans a line of a running sequence, of at most `most` rows and as long as the blocks allow;
    /// maybe none.
    pub(super) fn plan_line(
        &mut self,
        key: Key,
        number: StepNumber,
        most: usize,
        draft: &mut Draft,
    ) {
        let len = self.reserve(key, most);
        if len == 0 {
            return;
        }
        let sequence = &mut self.sequences[key];
        let place = sequence.place.as_ref().expect("the sequence runs");
        let (slot, start) = (place.slot, place.planned);
        let prompt_logprobs = sequence.owes_logprobs(start);
        let logprobs = match prompt_logprobs {
            true => sequence.logprobs_in(start, len),
            false => 0,
        };
        let expected = sequence.expected_len(place);
        let samples = start + len == expected && expected < sequence.limit;
        if !place.open {
            draft.part.opens.push(sequence.open(slot));
            self.ranks[place.rank].opened(slot, number);
        }
        let place = sequence.place.as_mut().expect("the sequence runs");
        place.open = true;
        place.planned = start + len;
        place.pending += usize::from(samples);
        place.last_step = number;
        let told_before = place.told;
        let (full, window, told_after) = changes(&place.table, told_before);
        place.told = told_after;
        draft.budget -= len;
        draft.lines.push(FlightLine {
            sequence: key,
            attempt: place.attempt,
            start,
            len,
            samples,
            logprobs,
            told_before,
            told_after,
        });
        draft.part.lines.push(Line {
            slot,
            start: wire(start),
            len: wire(len),
            full,
            window,
            samples,
            prompt_logprobs,
        });
    }

    /// Gives a running sequence blocks for its next rows, at most `budget`; returns how many rows.
    ///
    /// What the cache alone holds is evicted for it; if not even one row fits, the youngest
    /// sequences of the rank go back to waiting. The oldest so always gets on.
    fn reserve(&mut self, key: Key, budget: usize) -> usize {
        loop {
            let sequence = &mut self.sequences[key];
            let place = sequence.place.as_ref().expect("the sequence runs");
            let planned = place.planned;
            let mut want = sequence.rows_left(place).min(budget);
            if planned < sequence.reported && sequence.owes_logprobs(sequence.reported) {
                // Rows whose logprobs were emitted before are not in one line with the others.
                want = want.min(sequence.reported - planned);
            }
            let rank_index = place.rank;
            let waits_for_blocks = place.last_step > self.settled;
            let rank = &mut self.ranks[rank_index];
            // A chunk leaves each other sequence the block it may need next.
            let spare = if want > 1 { rank.running.len() - 1 } else { 0 };
            let place = sequence.place.as_mut().expect("the sequence runs");
            let rows = rank.kv.rows_that_fit(&place.table, planned, want, spare);
            if rows > 0 || want == 0 {
                rank.kv.extend(&mut place.table, planned + rows);
                return rows;
            }
            // Steps in flight give blocks back: those of sequences that left, and window blocks
            // that this one has passed.
            if waits_for_blocks || !rank.leaving.is_empty() {
                return 0;
            }
            let (_, &youngest) = rank.running.last_key_value().expect("this one runs");
            if youngest == key {
                return 0;
            }
            self.preempt(youngest);
        }
    }
}

/// Returns the changes of a table since a rank was last told, and what it has been told then.
fn changes(table: &Table, told: Told) -> (BlockRun, BlockRun, Told) {
    let full = BlockRun {
        first: wire(told.full),
        blocks: table.full[told.full..].to_vec(),
    };
    let first = told.window.max(table.window_first);
    let new = table.window.range(first - table.window_first..);
    let window = BlockRun {
        first: wire(first),
        blocks: new.copied().collect(),
    };
    let told = Told {
        full: table.full.len(),
        window: table.window_end(),
    };
    (full, window, told)
}
