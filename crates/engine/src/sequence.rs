//! One sequence: what it has committed, and what is planned for it where it runs.

use std::sync::Arc;

use spec::{Open, Sampling, SequenceId, Slot, StepNumber, TokenId};

use crate::config::EngineConfig;
use crate::kv::{BlockKey, History, Hit, Room, Table};
use crate::outcome::Finish;
use crate::submit::{MAX_PRIORITY, PRIORITY_TURNS, Stop, Submit};

/// A position as steps carry it.
pub(crate) fn wire(position: usize) -> u32 {
    u32::try_from(position).expect("the configuration limits the context to u32")
}

/// Returns the place of a sequence in its principal's queue.
fn turn(arrival: u64, priority: i32) -> u64 {
    let above_lowest = priority.clamp(-MAX_PRIORITY, MAX_PRIORITY) + MAX_PRIORITY;
    let lead = u64::from(above_lowest.unsigned_abs()) * PRIORITY_TURNS;
    // So that the highest is not below zero.
    let start = 2 * u64::from(MAX_PRIORITY.unsigned_abs()) * PRIORITY_TURNS;
    start + arrival - lead
}

/// The place of one that comes before all new ones; the least is first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Returned {
    /// It ran before, and is of this age.
    Ran(u64),
    /// It was taken elsewhere, and has its turn among such.
    Accepted { turn: u64, arrival: u64 },
}

/// A sequence that waits or runs.
#[derive(Debug)]
pub(crate) struct Sequence {
    pub(crate) id: SequenceId,
    pub(crate) principal: u32,
    /// Order of submission, shifted by its priority: the lower is first of its principal.
    pub(crate) turn: u64,
    /// Order of submission.
    pub(crate) arrival: u64,
    /// Order of first admission; a higher one is younger.
    pub(crate) age: Option<u64>,
    /// Whether it was taken before, elsewhere.
    was_accepted: bool,
    /// Prompt and committed output.
    pub(crate) tokens: Vec<TokenId>,
    pub(crate) prompt_len: usize,
    /// Nothing is sampled once there are so many tokens.
    pub(crate) limit: usize,
    pub(crate) stop: Stop,
    pub(crate) sampling: Arc<Sampling>,
    /// The root of its prefixes, then the key of each whole block of `tokens` so far.
    chain: Vec<BlockKey>,
    /// Rows whose logprobs of the prompt have been emitted. Row p tells about token p + 1.
    pub(crate) reported: usize,
    /// Where it runs; none while it waits.
    pub(crate) place: Option<Place>,
    /// What was found for it on each rank, while it waits; none where nobody looked yet.
    pub(crate) found: Vec<Option<Found>>,
}

/// What a walk through a rank's prefix cache found for a waiting sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) hit: Hit,
    /// Blocks that its tokens and one block more take out of the rank's room: those that it is yet
    /// to be given, and those of the hit that are idle.
    pub(crate) takes: Room,
    /// The cache's version then. With another one, all this is only likely.
    pub(crate) version: u64,
    /// The step that was being planned.
    pub(crate) step: StepNumber,
}

/// How much of its tables a rank has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// Entries of the full-attention table.
    pub(crate) full: usize,
    /// Index behind the last entry of the window table.
    pub(crate) window: usize,
}

/// A running sequence's place.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) rank: usize,
    pub(crate) slot: Slot,
    pub(crate) table: Table,
    /// Positions whose KV is committed: rows below were computed.
    pub(crate) computed: usize,
    /// Rows below are computed or in flight.
    pub(crate) planned: usize,
    /// Lines in flight that sample.
    pub(crate) pending: usize,
    /// Sets lines of the present plan apart from those of one that was given up.
    pub(crate) attempt: u64,
    /// Whether the rank has been sent the sequence, by a step that is not void.
    pub(crate) open: bool,
    pub(crate) told: Told,
    /// The last step with a line of it here.
    pub(crate) last_step: StepNumber,
    /// Where its history left one in the cache whose window blocks were gone.
    pub(crate) branch: usize,
}

impl Place {
    /// Gives up what is planned beyond the committed state.
    pub(crate) fn rewind(&mut self, told: Told, attempt: u64) {
        self.planned = self.computed;
        self.pending = 0;
        self.told = told;
        self.attempt = attempt;
    }
}

impl Sequence {
    pub(crate) fn new(submit: Submit, arrival: u64, config: &EngineConfig) -> Self {
        let limit = Self::limit_of(&submit, config);
        let resumed = submit.tokens.len() > submit.prompt_len;
        let mut sequence = Self {
            id: submit.sequence,
            principal: submit.principal,
            turn: turn(arrival, submit.priority),
            arrival,
            age: None,
            was_accepted: submit.was_accepted,
            reported: if resumed { submit.prompt_len - 1 } else { 0 },
            tokens: submit.tokens,
            prompt_len: submit.prompt_len,
            limit,
            stop: submit.stop,
            sampling: submit.sampling,
            chain: vec![BlockKey::root(submit.principal, submit.cache_salt)],
            place: None,
            found: Vec::new(),
        };
        sequence.extend_chain(config.kv.block_size);
        sequence
    }

    /// Returns its place among those that come before all new ones, if it is one of them: it ran before,
    /// or was taken elsewhere.
    pub(crate) fn returned(&self) -> Option<Returned> {
        // What has output ran there, and does not stand still for what only waited.
        let has_run = self.tokens.len() > self.prompt_len;
        let accepted = Returned::Accepted {
            turn: if has_run { 0 } else { self.turn },
            arrival: self.arrival,
        };
        let accepted = self.was_accepted.then_some(accepted);
        self.age.map(Returned::Ran).or(accepted)
    }

    /// Returns how many tokens the sequence may come to have.
    pub(crate) fn limit_of(submit: &Submit, config: &EngineConfig) -> usize {
        let asked = submit.prompt_len.saturating_add(submit.stop.max_tokens);
        asked.min(config.max_context)
    }

    /// Puts tokens in the place of its output behind the first `keep`, as far as its limit goes.
    pub(crate) fn rewrite(&mut self, keep: usize, tokens: &[TokenId], block_size: usize) {
        self.tokens.truncate(self.prompt_len + keep);
        let room = self.limit.saturating_sub(self.tokens.len());
        let full_blocks = self.tokens.len() / block_size;
        self.tokens.extend(&tokens[..room.min(tokens.len())]);
        self.chain.truncate(1 + full_blocks);
        self.extend_chain(block_size);
    }

    /// Adds the keys of the blocks that its tokens fill.
    pub(crate) fn extend_chain(&mut self, block_size: usize) {
        let blocks = self.tokens.chunks_exact(block_size);
        for tokens in blocks.skip(self.chain.len() - 1) {
            let parent = *self.chain.last().expect("a chain begins with its root");
            self.chain.push(parent.child(tokens));
        }
    }

    /// Returns its history and, apart from it, its place.
    pub(crate) fn split(&mut self) -> (History<'_>, Option<&mut Place>) {
        let history = History {
            chain: &self.chain,
            tokens: &self.tokens,
        };
        (history, self.place.as_mut())
    }

    pub(crate) fn history(&self) -> History<'_> {
        History {
            chain: &self.chain,
            tokens: &self.tokens,
        }
    }

    /// Returns how many positions may be taken from the prefix cache: at least one row is always
    /// computed, and none whose logprobs are still owed is left out.
    pub(crate) fn hit_limit(&self) -> usize {
        if self.owes_logprobs(self.reported) {
            return self.reported;
        }
        self.tokens.len() - 1
    }

    /// Returns whether logprobs are to be reported from row `row` on.
    pub(crate) fn owes_logprobs(&self, row: usize) -> bool {
        self.sampling.prompt_logprobs.is_some() && row >= self.reported && row + 1 < self.prompt_len
    }

    /// Returns how many prompt tokens the rows `start .. start + len` tell about.
    pub(crate) fn logprobs_in(&self, start: usize, len: usize) -> usize {
        (start + len).min(self.prompt_len - 1).saturating_sub(start)
    }

    /// Returns how many tokens it will have when all that is in flight has come.
    pub(crate) fn expected_len(&self, place: &Place) -> usize {
        self.tokens.len() + place.pending
    }

    /// Returns how many rows could be planned for it now.
    pub(crate) fn rows_left(&self, place: &Place) -> usize {
        let expected = self.expected_len(place);
        if place.pending > 0 && expected >= self.limit {
            return 0;
        }
        expected - place.planned
    }

    /// Returns how many positions of KV it needs at its full length: the last token is never fed.
    pub(crate) fn most_positions(&self) -> usize {
        self.tokens.len().max(self.limit.saturating_sub(1))
    }

    /// Returns how it ends here, if it does, its tokens and computed positions being committed.
    pub(crate) fn finish(&self, computed: usize) -> Option<Finish> {
        if let Some(finish) = self.finish_by_token() {
            return Some(finish);
        }
        let all_computed = computed >= self.tokens.len();
        let sampled = self.tokens.len() > self.prompt_len;
        (self.tokens.len() >= self.limit && (sampled || all_computed)).then_some(Finish::Length)
    }

    fn finish_by_token(&self) -> Option<Finish> {
        let token = *self.tokens[self.prompt_len..].last()?;
        let stops = self.stop.stop_tokens.contains(&token);
        stops.then_some(Finish::Stop { token })
    }

    /// Returns whether the cache prefers to keep block `index` of the window layers: one of those
    /// that a row sees which follows the prompt's end, a branch, or a multiple of the interval.
    pub(crate) fn keeps_window(&self, index: usize, branch: usize, config: &EngineConfig) -> bool {
        let size = config.kv.block_size;
        let (start, end) = (index * size, (index + 1) * size);
        let interval = config.checkpoint_interval;
        let checkpoints = [
            self.prompt_len / size * size,
            // The same prompt again hits one block earlier if its length is a whole number of them.
            (self.prompt_len - 1) / size * size,
            branch,
            (start / interval + 1) * interval,
        ];
        let seen = |at: usize| start < at && at + 1 < end + config.sliding_window;
        checkpoints.into_iter().any(seen)
    }

    /// Returns what opens it on a rank.
    pub(crate) fn open(&self, slot: Slot) -> Open {
        Open {
            slot,
            sequence: self.id,
            tokens: Arc::from(self.tokens.as_slice()),
            prompt_len: wire(self.prompt_len),
            sampling: Arc::clone(&self.sampling),
        }
    }
}
