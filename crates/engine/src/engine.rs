//! The engine's state and what changes it from outside: submit, cancel, void, a new epoch.

mod admit;
mod check;
mod choose;
mod complete;
mod plan;

use std::collections::{BTreeSet, VecDeque};

use spec::{Fence, Rank, SequenceId, Slot, StepNumber, TokenId};

use crate::config::{ConfigError, EngineConfig};
use crate::outcome::{Admitted, Finish, Load, RankLoad, Report, Shortage};
use crate::queue::Waiting;
use crate::rank::RankState;
use crate::sequence::{Sequence, Told};
use crate::sequences::{Key, Sequences};
use crate::submit::{Refused, Submit};

/// The scheduler of one group. See the crate's text for the rules it keeps.
#[derive(Debug)]
pub struct Engine {
    config: EngineConfig,
    fence: Fence,
    sequences: Sequences,
    waiting: Waiting,
    ranks: Vec<RankState>,
    /// Steps handed out and not settled, oldest first.
    in_flight: VecDeque<Flight>,
    /// The last step handed out.
    planned: StepNumber,
    /// Every step up to here is complete or void.
    settled: StepNumber,
    /// Counts submissions and first admissions.
    clock: u64,
    /// Counts plans for a sequence, see `Place::attempt`.
    attempts: u64,
    /// The first step in which a prefix may be looked at again, see [`choose`].
    next_look: StepNumber,
    /// Blocks of prefixes that were looked at in the step being planned.
    looked: usize,
    report: Report,
    admitted: Vec<Admitted>,
    /// Only what has run before is let in.
    is_paused: bool,
    /// What kept the first that waits from being let in last.
    shortage: Option<Shortage>,
}

/// What the engine remembers of a step in flight.
#[derive(Debug)]
struct Flight {
    number: StepNumber,
    parts: Vec<FlightPart>,
}

#[derive(Debug, Default)]
struct FlightPart {
    closes: Vec<Slot>,
    lines: Vec<FlightLine>,
}

/// What the engine remembers of a line.
#[derive(Debug)]
struct FlightLine {
    sequence: Key,
    attempt: u64,
    start: usize,
    len: usize,
    samples: bool,
    /// Logprobs of the prompt that it owes.
    logprobs: usize,
    told_before: Told,
    told_after: Told,
}

impl Engine {
    /// Makes an engine with nothing to do.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`] if [`EngineConfig::check`] finds one.
    pub fn new(config: EngineConfig, fence: Fence) -> Result<Self, ConfigError> {
        config.check()?;
        let ranks = (0..config.num_ranks).map(|_| RankState::new(&config));
        Ok(Self {
            ranks: ranks.collect(),
            config,
            fence,
            sequences: Sequences::default(),
            waiting: Waiting::default(),
            in_flight: VecDeque::new(),
            planned: StepNumber(0),
            settled: StepNumber(0),
            clock: 0,
            attempts: 0,
            next_look: StepNumber(0),
            looked: 0,
            report: Report::default(),
            admitted: Vec::new(),
            is_paused: false,
            shortage: None,
        })
    }

    /// Lets nobody in who has not run or been accepted before, or again everybody. Who runs goes on to the end, also
    /// where it has to wait for blocks in between; a group that is about to lose a member so loses
    /// nothing.
    pub const fn pause_admission(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// Takes a sequence; it waits until a step has room for it.
    ///
    /// # Errors
    ///
    /// [`Refused`] says why it cannot be taken; then nothing has changed.
    pub fn submit(&mut self, submit: Submit) -> Result<(), Refused> {
        if self.sequences.key(submit.sequence).is_some() {
            let sequence = submit.sequence;
            return Err(Refused::Duplicate { sequence });
        }
        let (tokens, prompt_len) = (submit.tokens.len(), submit.prompt_len);
        if prompt_len == 0 || prompt_len > tokens {
            return Err(Refused::Empty { prompt_len, tokens });
        }
        let max_context = self.config.max_context;
        if tokens > max_context {
            let refused = Refused::TooLong {
                tokens,
                max_context,
            };
            return Err(refused);
        }
        self.check_room(submit.was_accepted)?;
        let sequence = Sequence::new(submit, self.clock, &self.config);
        let needed = self.config.blocks_for(sequence.most_positions());
        let have = self.config.kv.full_blocks;
        if needed > have {
            return Err(Refused::NeverFits { needed, have });
        }
        if let Some(finish) = sequence.finish(0) {
            return Err(Refused::Finished { finish });
        }
        self.clock += 1;
        let key = self.sequences.insert(sequence);
        self.waiting.insert(key, &self.sequences[key]);
        Ok(())
    }

    /// Says whether the queue has room, before a sequence is made for it: one that was taken before,
    /// elsewhere, always has.
    ///
    /// # Errors
    ///
    /// [`Refused::QueueFull`].
    pub fn check_room(&self, was_accepted: bool) -> Result<(), Refused> {
        let waiting = self.waiting.num_new();
        match waiting >= self.config.max_waiting && !was_accepted {
            true => Err(Refused::QueueFull { waiting }),
            false => Ok(()),
        }
    }

    /// Returns the sequences that left the queue for the first time since the last call. To be
    /// called after each [`Self::next_step`].
    pub fn take_admitted(&mut self) -> Vec<Admitted> {
        std::mem::take(&mut self.admitted)
    }

    /// Ends a sequence; no event of it comes any more. Returns whether there was one.
    ///
    /// Its blocks are free at once, but for those that a step in flight may touch: they are free
    /// when that step is complete or void.
    pub fn cancel(&mut self, sequence: SequenceId) -> bool {
        let Some(key) = self.sequences.key(sequence) else {
            return false;
        };
        let entry = &self.sequences[key];
        if entry.place.is_none() {
            self.waiting.remove(entry);
        }
        self.leave_rank(key);
        self.sequences.remove(key);
        true
    }

    /// Puts tokens in the place of a sequence's output behind its first `keep` tokens, as far as its
    /// limit goes. It goes on after them, before all that have not run yet; what is in flight for it
    /// is wasted. Returns how it has ended thereby, if it has: the engine has then forgotten it.
    ///
    /// # Errors
    ///
    /// [`Refused::Unknown`], nothing being changed.
    pub fn rewrite(
        &mut self,
        sequence: SequenceId,
        keep: usize,
        tokens: &[TokenId],
    ) -> Result<Option<Finish>, Refused> {
        let known = self.sequences.key(sequence);
        let has_output = |key: &Key| {
            let sequence = &self.sequences[*key];
            sequence.tokens.len() >= sequence.prompt_len + keep
        };
        let known = known.filter(has_output);
        let key = known.ok_or(Refused::Unknown { sequence, keep })?;
        if self.sequences[key].place.is_none() {
            self.waiting.remove(&self.sequences[key]);
        }
        self.leave_rank(key);
        let entry = &mut self.sequences[key];
        entry.found.clear();
        entry.rewrite(keep, tokens, self.config.kv.block_size);
        let finish = entry.finish(0);
        match finish {
            None => self.waiting.insert(key, &self.sequences[key]),
            Some(_) => self.sequences.remove(key),
        }
        Ok(finish)
    }

    /// Says that no step in flight happened. Every sequence is back at what it has committed, and
    /// the next lines tell its rank everything again.
    pub fn void(&mut self) {
        self.in_flight.clear();
        self.settled = self.planned;
        for rank in &mut self.ranks {
            rank.release_leaving(self.settled);
            rank.reopen_closes();
        }
        let places = self
            .sequences
            .iter_mut()
            .filter_map(|(_, s)| s.place.as_mut());
        for place in places {
            self.attempts += 1;
            place.rewind(Told::default(), self.attempts);
            place.open = false;
        }
    }

    /// Begins an epoch: steps in flight are void, and rank `r` of the group is from now on the one
    /// that was `homes[r]` and still has its KV, or one that holds nothing.
    ///
    /// Sequences of ranks that are gone return to the front of the waiting, in their order.
    ///
    /// # Errors
    ///
    /// A [`ConfigError`], nothing being changed, if `fence` is not above the present one, or
    /// `homes` is empty, names a rank that is not there, or one twice.
    pub fn begin_epoch(&mut self, fence: Fence, homes: &[Option<Rank>]) -> Result<(), ConfigError> {
        self.check_epoch(fence, homes)?;
        self.void();
        self.fence = fence;
        self.config.num_ranks = homes.len();
        let mut old: Vec<_> = self.ranks.drain(..).map(Some).collect();
        let mut moves: Vec<Option<usize>> = vec![None; old.len()];
        for (new, home) in homes.iter().enumerate() {
            let kept = home.and_then(|home| {
                moves[home.index()] = Some(new);
                old[home.index()].take()
            });
            let rank = kept.unwrap_or_else(|| RankState::new(&self.config));
            self.ranks.push(rank);
        }
        for (key, sequence) in self.sequences.iter_mut() {
            sequence.found.clear();
            let Some(place) = &mut sequence.place else {
                continue;
            };
            if let Some(new) = moves[place.rank] {
                place.rank = new;
                continue;
            }
            sequence.place = None;
            sequence.extend_chain(self.config.kv.block_size);
            self.waiting.insert(key, sequence);
        }
        Ok(())
    }

    fn check_epoch(&self, fence: Fence, homes: &[Option<Rank>]) -> Result<(), ConfigError> {
        let refuse = |field, why: String| Err(ConfigError { field, why });
        if fence <= self.fence {
            let why = format!("{fence} is not above the present {}", self.fence);
            return refuse("fence", why);
        }
        if homes.is_empty() {
            return refuse("homes", "a group needs at least one rank".into());
        }
        let mut seen = BTreeSet::new();
        for home in homes.iter().flatten() {
            if home.index() >= self.ranks.len() {
                let why = format!("there is no rank {home} among {}", self.ranks.len());
                return refuse("homes", why);
            }
            if !seen.insert(home) {
                return refuse("homes", format!("rank {home} is named twice"));
            }
        }
        Ok(())
    }

    /// Takes a running sequence off its rank, leaving what it computed to the prefix cache.
    fn leave_rank(&mut self, key: Key) {
        let block_size = self.config.kv.block_size;
        let sequence = &mut self.sequences[key];
        sequence.extend_chain(block_size);
        let Some(place) = sequence.place.take() else {
            return;
        };
        let rank = &mut self.ranks[place.rank];
        let age = sequence.age.expect("what runs was admitted");
        rank.running.remove(&age);
        rank.vacate(place.slot);
        // Steps in flight write behind the computed positions only, so these blocks are final.
        rank.kv
            .publish_rest(&place.table, place.computed, sequence.history());
        rank.release(place.table, place.last_step, self.settled);
    }

    /// Sends a running sequence back to waiting.
    fn preempt(&mut self, key: Key) {
        self.leave_rank(key);
        self.waiting.insert(key, &self.sequences[key]);
        self.report.preemptions += 1;
    }

    /// Returns the configuration; its number of ranks is that of the present epoch.
    #[must_use]
    pub const fn config(&self) -> &EngineConfig {
        &self.config
    }

    /// Returns the fence that steps carry.
    #[must_use]
    pub const fn fence(&self) -> Fence {
        self.fence
    }

    /// Returns whether any sequence waits or runs.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.sequences.len() > 0
    }

    /// Returns how many sequences wait.
    #[must_use]
    pub fn num_waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Returns how many sequences run.
    #[must_use]
    pub fn num_running(&self) -> usize {
        self.sequences.len() - self.waiting.len()
    }

    /// Returns how many steps are in flight.
    #[must_use]
    pub fn num_in_flight(&self) -> usize {
        self.in_flight.len()
    }

    /// Returns how full everything is.
    #[must_use]
    pub fn load(&self) -> Load {
        let ranks = self.ranks.iter().map(|rank| RankLoad {
            running: rank.running.len(),
            full: rank.kv.full.load(),
            window: rank.kv.window.load(),
        });
        Load {
            waiting: self.num_waiting(),
            shortage: self.shortage.filter(|_| self.waiting.len() > 0),
            running: self.num_running(),
            in_flight: self.in_flight.len(),
            ranks: ranks.collect(),
        }
    }
}
