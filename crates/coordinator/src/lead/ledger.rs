//! All generations of the lead by name: the live ones, and those that ended lately.
//!
//! A generation belongs to the lead and not to who asked for it: followers come and go, and when the
//! last is gone its own rule says whether it is kept, and for how long. Pure: it is told the time, and
//! says which sequences the engine shall give up.

mod entry;
mod followers;
mod listing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::{Event, Finish, Stop};
use spec::{Sampling, SequenceId, TokenId};
use tokio::sync::watch;

use self::entry::{Entry, Live, State};
use super::log::{Cursor, End, Failure, Log};
use super::workers::AtHome;
use super::{kept, life};
use crate::limits;

/// A generation's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name {
    /// Who asked for it.
    pub(crate) principal: Arc<str>,
    /// What it was called; unique for a principal.
    pub(crate) request_id: Arc<str>,
}

/// SHA-256 of a checked request.
pub(crate) type Fingerprint = [u8; 32];

/// What the engine needs of a generation.
#[derive(Clone, Debug)]
pub(crate) struct Work {
    pub(crate) prompt: Arc<[TokenId]>,
    pub(crate) sampling: Arc<Sampling>,
    pub(crate) stop: Stop,
    pub(crate) cache_salt: u64,
    pub(crate) priority: i32,
}

/// A generation to be entered.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) fingerprint: Fingerprint,
    /// Means nothing here.
    pub(crate) front: Bytes,
    /// What its home rank keeps of it, for another lead.
    pub(crate) kept: Bytes,
    pub(crate) work: Work,
}

/// What a follower wants, beside the events.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Terms {
    /// What it has read.
    pub(crate) cursor: Cursor,
    /// How long the generation goes on without followers.
    pub(crate) keep: Option<Duration>,
    /// Time left until its deadline.
    pub(crate) deadline: Option<Duration>,
    /// Longest wait in the queue.
    pub(crate) queue_timeout: Option<Duration>,
    /// Time since the request arrived.
    pub(crate) age: Duration,
}

/// How a generation enters, beside what it is.
#[derive(Debug)]
pub(crate) struct Entering<'a> {
    /// What the engine calls it.
    pub(crate) sequence: SequenceId,
    /// Most tokens that it may come to generate.
    pub(crate) max_tokens: usize,
    /// Sequences before it in the queue.
    pub(crate) queue_position: usize,
    /// Tokens that it has from elsewhere.
    pub(crate) generated: &'a [TokenId],
    pub(crate) terms: &'a Terms,
    pub(crate) now: Duration,
}

/// How much is remembered of generations that have ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Memory {
    pub(crate) time: Duration,
    pub(crate) count: usize,
    pub(crate) bytes: usize,
}

/// What is known of a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Nothing.
    Nothing,
    /// It is another request's.
    Another,
    /// It is this one's; it lives, or has ended for good.
    This,
    /// It is this one's, and ended so that it may go on.
    Stopped {
        /// After these tokens.
        tokens: Vec<TokenId>,
        /// Whether it could not go on then.
        failed: bool,
    },
}

/// A place among the followers of a generation.
#[derive(Debug)]
pub(crate) struct Following {
    pub(crate) number: u64,
    pub(crate) log: watch::Receiver<Log>,
    pub(crate) cursor: Cursor,
    /// Time since the request arrived; of one that has ended, until its end.
    pub(crate) age: Duration,
}

/// How a generation stands.
#[derive(Debug)]
pub(crate) struct Standing<'a> {
    pub(crate) front: &'a Bytes,
    pub(crate) log: watch::Ref<'a, Log>,
}

/// See the text at the top.
#[derive(Debug)]
pub(crate) struct Ledger {
    memory: Memory,
    entries: BTreeMap<Name, Entry>,
    live: BTreeMap<SequenceId, Name>,
    /// When something happens to a live one by itself.
    due: BTreeSet<(Duration, Name)>,
    /// Those that have ended, the oldest first.
    ended: BTreeMap<u64, Name>,
    ended_bytes: usize,
    /// Numbers followers and ends.
    last_number: u64,
}

impl Ledger {
    pub(crate) fn new(memory: Memory) -> Self {
        Self {
            memory,
            entries: BTreeMap::new(),
            live: BTreeMap::new(),
            due: BTreeSet::new(),
            ended: BTreeMap::new(),
            ended_bytes: 0,
            last_number: 0,
        }
    }

    /// Looks a name up; without a fingerprint any request of that name is the one.
    pub(crate) fn find(&self, name: &Name, fingerprint: Option<&Fingerprint>) -> Found {
        let Some(entry) = self.entries.get(name) else {
            return Found::Nothing;
        };
        if fingerprint.is_some_and(|given| *given != entry.fingerprint) {
            return Found::Another;
        }
        let log = entry.log.borrow();
        match log.end() {
            Some((end, _)) if end.may_go_on() => Found::Stopped {
                tokens: log.tokens().iter().map(|sampled| sampled.token).collect(),
                failed: *end != End::Abandoned,
            },
            _ => Found::This,
        }
    }

    /// Enters a generation that the engine has taken. One that has ended goes on: its log stays.
    pub(crate) fn enter(&mut self, name: &Name, record: &Record, entering: &Entering<'_>) {
        let Entering {
            sequence,
            terms,
            now,
            ..
        } = *entering;
        let prompt_len = record.work.prompt.len();
        let state = State::Live(Live {
            sequence,
            since: now,
            is_running: false,
            max_tokens: entering.max_tokens,
            deadline: None,
            is_followed: false,
            // What has run waits for as long as it takes.
            queue_until: (terms.queue_timeout)
                .filter(|_| entering.generated.is_empty())
                .map(|most| now + most),
            kept_until: None,
            due: None,
        });
        life::accepted(name, entering);
        self.live.insert(sequence, name.clone());
        if let Some(entry) = self.entries.get_mut(name) {
            if let State::Ended { number, bytes, .. } = entry.state {
                self.ended.remove(&number);
                self.ended_bytes -= bytes;
            }
            entry.state = state;
            entry.kept = record.kept.clone();
            entry.log.send_modify(|log| log.set_end(None));
        } else {
            let log = Log::new(prompt_len, entering.queue_position, entering.generated);
            let entry = Entry {
                fingerprint: record.fingerprint,
                front: record.front.clone(),
                kept: record.kept.clone(),
                log: watch::Sender::new(log),
                followers: BTreeSet::new(),
                is_read: false,
                keep: terms.keep,
                entered: now,
                age: terms.age,
                state,
            };
            self.entries.insert(name.clone(), entry);
        }
        self.schedule(name);
    }

    /// Returns what the home rank of a live sequence is told of it.
    pub(crate) fn kept(&self, sequence: SequenceId) -> AtHome {
        let name = self.live.get(&sequence);
        let found = name.and_then(|name| Some((name, self.entries.get(name)?)));
        let at_home = found.map(|(name, entry)| AtHome {
            request_id: name.request_id.to_string(),
            record: entry.kept.clone(),
        });
        at_home.unwrap_or_default()
    }

    /// Returns the name of a live sequence.
    pub(crate) fn name(&self, sequence: SequenceId) -> Option<&Name> {
        self.live.get(&sequence)
    }

    /// Takes in that a sequence left the queue.
    pub(crate) fn run(&mut self, sequence: SequenceId, cached: u32, now: Duration) {
        let Some(name) = self.live.get(&sequence).cloned() else {
            return;
        };
        if let Some(entry) = self.entries.get_mut(&name) {
            let after = entry.after(now);
            entry.log.send_modify(|log| log.run(cached, after));
            if let State::Live(live) = &mut entry.state {
                live.is_running = true;
            }
        }
        life::running(&name, sequence, cached);
        self.schedule(&name);
    }

    /// Takes in the engine's news of a sequence.
    pub(crate) fn tell(&mut self, event: Event, now: Duration) {
        let Some(name) = self.live.get(&event.sequence) else {
            return;
        };
        let Some(entry) = self.entries.get(name) else {
            return;
        };
        let after = entry.after(now);
        entry.log.send_modify(|log| {
            log.push_prompt(event.first_prompt_position as usize, event.prompt_logprobs);
            log.push(event.first_position as usize, event.tokens, after);
        });
        if let Some(finish) = event.finished {
            let end = match finish {
                Finish::Stop { .. } => End::Stop,
                Finish::Length => End::Length,
            };
            let name = name.clone();
            self.end(&name, end, now);
        }
    }

    /// Ends a generation, unless it has ended in good order. Returns the sequence to give up, if it
    /// lived; `None` if the name is unknown.
    pub(crate) fn stop(
        &mut self,
        name: &Name,
        end: End,
        now: Duration,
    ) -> Option<Option<SequenceId>> {
        let entry = self.entries.get(name)?;
        if let State::Live(_) = entry.state {
            return Some(self.end(name, end, now));
        }
        entry.log.send_if_modified(|log| {
            let open = log.end().filter(|(ended, _)| ended.may_go_on());
            let changed = open.map(|(_, after)| (end, *after));
            let is_changed = changed.is_some();
            if is_changed {
                log.set_end(changed);
            }
            is_changed
        });
        Some(None)
    }

    /// Ends a sequence that cannot go on.
    pub(crate) fn fail(&mut self, sequence: SequenceId, failure: Failure, now: Duration) {
        if let Some(name) = self.live.get(&sequence).cloned() {
            self.end(&name, End::Failed(failure), now);
        }
    }

    /// Forgets a generation that has ended, where whoever asks for it may know more of it: it would go on,
    /// or came to its end without anybody having followed it. Says whether it was one.
    pub(crate) fn forget_unheard(&mut self, name: &Name) -> bool {
        let is_unheard = |entry: &&Entry| match entry.log.borrow().end() {
            Some((End::Stop | End::Length, _)) => !entry.is_read,
            // Somebody wanted it to end.
            Some((End::Settled | End::Cancelled, _)) | None => false,
            Some((End::Abandoned | End::Failed(_), _)) => true,
        };
        let entry = self.entries.get(name).filter(is_unheard);
        let Some(State::Ended { number, bytes, .. }) = entry.map(|entry| &entry.state) else {
            return false;
        };
        self.ended_bytes -= bytes;
        self.ended.remove(number);
        self.entries.remove(name);
        true
    }

    /// Returns the live sequences.
    pub(crate) fn sequences(&self) -> Vec<SequenceId> {
        self.live.keys().copied().collect()
    }

    /// Returns the live sequences that have waited for `most` since `since`, or since they came.
    pub(crate) fn waiting_since(
        &self,
        since: Duration,
        most: Duration,
        now: Duration,
    ) -> Vec<SequenceId> {
        let is_late = |name: &Name| match self.entries.get(name).map(|entry| &entry.state) {
            Some(State::Live(live)) => now.saturating_sub(live.since.max(since)) >= most,
            _ => false,
        };
        let late = self.live.iter().filter(|(_, name)| is_late(name));
        late.map(|(sequence, _)| *sequence).collect()
    }

    /// Returns the sequence of a live generation.
    pub(crate) fn sequence(&self, name: &Name) -> Option<SequenceId> {
        match &self.entries.get(name)?.state {
            State::Live(live) => Some(live.sequence),
            State::Ended { .. } => None,
        }
    }

    /// Puts tokens in the place of those after the first `keep`, as far as the request's limit goes.
    pub(crate) fn rewrite(&mut self, name: &Name, keep: usize, tokens: &[TokenId], now: Duration) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let State::Live(live) = &entry.state else {
            return;
        };
        let after = entry.after(now);
        let room = live.max_tokens.saturating_sub(keep).min(tokens.len());
        entry
            .log
            .send_modify(|log| log.rewrite(keep, &tokens[..room], after));
        entry.kept = kept::fixed(&entry.kept, keep + room);
    }

    /// Returns how a generation stands.
    pub(crate) fn standing(&self, name: &Name) -> Option<Standing<'_>> {
        let entry = self.entries.get(name)?;
        Some(Standing {
            front: &entry.front,
            log: entry.log.borrow(),
        })
    }

    /// Returns when [`Ledger::expire`] has something to do.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let live = self.due.first().map(|(due, _)| *due);
        let oldest = self.ended.values().next();
        let forgotten = oldest.and_then(|name| match self.entries.get(name)?.state {
            State::Ended { at, .. } => Some(at + self.memory.time),
            State::Live(_) => None,
        });
        [live, forgotten].into_iter().flatten().min()
    }

    /// Ends what is due, and forgets what ended long ago. Returns the sequences to give up.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<SequenceId> {
        let mut given_up = Vec::new();
        while let Some((_, name)) = self.due.first().filter(|(due, _)| *due <= now).cloned() {
            let Some(end) = self.entries.get(&name).and_then(|entry| entry.overdue(now)) else {
                self.schedule(&name);
                continue;
            };
            given_up.extend(self.end(&name, end, now));
        }
        while let Some((number, name)) = self.ended.first_key_value() {
            let (number, name) = (*number, name.clone());
            let state = self.entries.get(&name).map(|entry| &entry.state);
            let Some(State::Ended { at, bytes, .. }) = state else {
                self.ended.remove(&number);
                continue;
            };
            let is_too_much =
                self.ended.len() > self.memory.count || self.ended_bytes > self.memory.bytes;
            if !is_too_much && now < *at + self.memory.time {
                break;
            }
            self.ended_bytes -= bytes;
            self.ended.remove(&number);
            self.entries.remove(&name);
        }
        given_up
    }

    /// Ends a live generation; returns its sequence.
    fn end(&mut self, name: &Name, end: End, now: Duration) -> Option<SequenceId> {
        let entry = self.entries.get_mut(name)?;
        let after = entry.after(now);
        let State::Live(live) = &mut entry.state else {
            return None;
        };
        let sequence = live.sequence;
        life::ended(name, sequence, &end, after);
        self.live.remove(&sequence);
        if let Some(due) = live.due {
            self.due.remove(&(due, name.clone()));
        }
        entry.log.send_modify(|log| {
            log.set_end(Some((end, after)));
            log.shrink();
        });
        entry.kept = Bytes::new();
        let names = 2 * (name.principal.len() + name.request_id.len());
        let bytes = limits::ENTRY_BYTES + names + entry.front.len() + entry.log.borrow().bytes();
        self.last_number += 1;
        entry.state = State::Ended {
            number: self.last_number,
            at: now,
            bytes,
        };
        self.ended.insert(self.last_number, name.clone());
        self.ended_bytes += bytes;
        Some(sequence)
    }

    /// Notes when something happens to a live generation by itself.
    fn schedule(&mut self, name: &Name) {
        let Some(entry) = self.entries.get_mut(name) else {
            return;
        };
        let State::Live(live) = &mut entry.state else {
            return;
        };
        if let Some(due) = live.due {
            self.due.remove(&(due, name.clone()));
        }
        let queue_until = live.queue_until.filter(|_| !live.is_running);
        let all = [live.deadline, live.kept_until, queue_until];
        live.due = all.into_iter().flatten().min();
        if let Some(due) = live.due {
            self.due.insert((due, name.clone()));
        }
    }
}

#[cfg(test)]
mod tests;
