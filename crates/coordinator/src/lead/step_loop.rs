//! What owns a group's state: the leader, the engine and who follows what.
//!
//! It hears what happened, does what the leader says, sends the steps the engine plans, and gives the
//! engine the results once all ranks have answered. It has no clock and waits for nothing: it is told
//! the time with all that it hears, workers are behind [`Workers`], and answers go into channels.

mod answers;
mod ask;
mod collect;
mod describe;
mod members;
mod steps;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use cluster::{EpochPlan, Event, Leader, LeaderConfig};
use engine::Engine;
use proto::internal as wire;
use spec::{Fence, Rank, SequenceId, Term};
use telemetry::labels::EpochEnd;
use tokio::sync::{mpsc, watch};

use self::answers::Broken;
use self::collect::Collected;
pub(crate) use self::describe::Inquiry;
pub(in crate::lead) use self::describe::millis;
use super::blame::Blame;
use super::flight::Flight;
use super::ledger::{Ledger, Memory, Name};
use super::log::Failure;
use super::message::{Message, Orders};
use super::meter::LeadMeter;
use super::progress::ProgressWatch;
use super::workers::Workers;
use crate::limits;

#[cfg(test)]
mod tests;

/// What a loop is made of.
pub(crate) struct Setup {
    pub(crate) leader: LeaderConfig,
    /// The term in which this coordinator was elected.
    pub(crate) term: Term,
    /// Told of the highest term that a worker has obeyed, where that is not below ours.
    pub(crate) outranked: watch::Sender<Term>,
    pub(crate) engine: Engine,
    pub(crate) max_step_rows: usize,
    pub(crate) vocab_size: usize,
    pub(crate) workers: Box<dyn Workers>,
    /// Where followers say that they are gone.
    pub(crate) gone: mpsc::UnboundedSender<(Name, u64)>,
    /// How long a generation waits for the group to serve.
    pub(crate) hold: Duration,
    pub(crate) meter: LeadMeter,
    pub(crate) state: watch::Sender<wire::WatchResponse>,
}

/// Something that the loop hears.
#[derive(Debug)]
pub(crate) enum Heard {
    /// What it is told.
    Message(Message),
    /// A follower of a generation has gone.
    Gone(Name, u64),
    /// The time of [`StepLoop::next_due`] has come.
    Due,
    /// Time has passed.
    Tick,
}

/// A member's current stream.
struct Session {
    number: u64,
    incarnation: u64,
    orders: Orders,
}

/// The loop's state.
pub(crate) struct StepLoop {
    leader: Leader,
    engine: Engine,
    max_step_rows: usize,
    vocab_size: usize,
    num_ranks: usize,
    workers: Box<dyn Workers>,
    state: watch::Sender<wire::WatchResponse>,
    outranked: watch::Sender<Term>,
    /// The time that it was told last, since it began.
    now: Duration,
    sessions: BTreeMap<String, Session>,
    /// The epoch that is prepared or serves.
    epoch: Option<EpochPlan>,
    serving: bool,
    /// Whether it served, and since when.
    stood: (bool, Duration),
    flight: Flight,
    /// Failures of steps since one was completed.
    blame: Blame,
    /// Workers that refused the plan, whatever it was.
    refusing: BTreeSet<String>,
    /// A sequence that could not be computed as part of a step that others came before.
    suspect: Option<SequenceId>,
    /// Whether an epoch has served.
    has_served: bool,
    /// What the last lead has left at the workers, until an epoch serves.
    collected: Collected,
    /// The latest epoch in which a worker of ours has taken part in a step of another lead.
    stepped: Fence,
    /// When the loop last looked for steps without progress.
    ticked: Duration,
    /// Why the loop cannot go on.
    hopeless: Option<String>,
    progress: ProgressWatch,
    ledger: Ledger,
    gone: mpsc::UnboundedSender<(Name, u64)>,
    hold: Duration,
    /// Since when no epoch has served; `None` while one does.
    unserved_since: Option<Duration>,
    principals: BTreeMap<String, u32>,
    last_sequence: u64,
    meter: LeadMeter,
}

impl StepLoop {
    /// Begins at time zero.
    pub(crate) fn new(setup: Setup) -> Self {
        let num_ranks = setup.leader.num_ranks;
        let progress = ProgressWatch::new(num_ranks, limits::PROGRESS_LIMIT, Duration::ZERO);
        let begun = Self {
            leader: Leader::new(setup.leader, setup.term),
            engine: setup.engine,
            max_step_rows: setup.max_step_rows,
            vocab_size: setup.vocab_size,
            num_ranks,
            workers: setup.workers,
            state: setup.state,
            outranked: setup.outranked,
            now: Duration::ZERO,
            sessions: BTreeMap::new(),
            epoch: None,
            serving: false,
            stood: (false, Duration::ZERO),
            flight: Flight::default(),
            blame: Blame::default(),
            refusing: BTreeSet::new(),
            suspect: None,
            has_served: false,
            collected: Collected::default(),
            stepped: Fence::default(),
            ticked: Duration::ZERO,
            hopeless: None,
            progress,
            ledger: Ledger::new(Memory {
                time: limits::ENDED_TIME,
                count: limits::MAX_ENDED,
                bytes: limits::MAX_ENDED_BYTES,
            }),
            gone: setup.gone,
            hold: setup.hold,
            unserved_since: Some(Duration::ZERO),
            principals: BTreeMap::new(),
            last_sequence: 0,
            meter: setup.meter,
        };
        begun.publish();
        begun
    }

    /// Takes in what happened, and does what follows from it.
    pub(crate) fn on(&mut self, heard: Heard, now: Duration) {
        self.now = now;
        match heard {
            Heard::Message(message) => self.hear(message),
            Heard::Gone(name, follower) => {
                let unwanted = self.ledger.unfollow(&name, follower, now);
                self.give_up(unwanted);
            }
            Heard::Due => self.expire(),
            Heard::Tick => self.tick(),
        }
        self.note_change();
        self.plan();
        self.release();
        self.publish();
    }

    /// Says why it cannot go on: a worker refuses the very plan, so no cluster can serve with it.
    pub(crate) fn hopeless(&self) -> Option<&str> {
        self.hopeless.as_deref()
    }

    /// Shows all generations that it knows.
    #[cfg(test)]
    pub(in crate::lead) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Returns when something happens by itself.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.ledger.next_due()
    }

    /// Ends it; its sequences may go on at another lead.
    ///
    /// # Errors
    ///
    /// As [`StepLoop::hopeless`].
    pub(crate) fn end(mut self, now: Duration) -> Result<(), String> {
        if self.epoch.is_some() {
            self.meter.end_epoch(EpochEnd::LeaderChange, 0, now);
        }
        for sequence in self.ledger.sequences() {
            self.ledger.fail(sequence, Failure::Ending, now);
        }
        self.workers.end();
        self.hopeless.map_or(Ok(()), Err)
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Ask(ask) => self.answer(ask),
            Message::Inquiry(inquiry) => self.inquire(inquiry),
            Message::Register(register) => self.register(*register),
            Message::Left { name, session } => self.left(name, session),
            Message::Draining { name, session } => self.drains(name, session),
            Message::Collected(left) => self.collect(left),
            Message::Stepped(fence) => self.stepped = self.stepped.max(fence),
            Message::Group(event) => self.tell_leader(event),
            Message::Worker { fence, name, said } => {
                if self.is_current(fence)
                    && let Err(broken) = self.hear_worker(&name, said)
                {
                    self.blame_for(&name, broken);
                }
            }
            Message::Hopeless { fence, name, why } => self.refused(fence, name, &why),
            Message::Broken { fence, name, why } => {
                if self.is_current(fence) {
                    let broken = Broken {
                        why,
                        blamed: None,
                        barren: false,
                    };
                    self.blame_for(&name, broken);
                }
            }
        }
    }

    fn tick(&mut self) {
        let now = self.now;
        let pause = now.saturating_sub(std::mem::replace(&mut self.ticked, now));
        if pause > limits::OWN_PAUSE {
            // What the ranks said in the meantime is still in the queue.
            self.progress.restart(now);
        }
        if !self.flight.is_empty() {
            let owes = |rank: Rank| self.flight.owes(rank);
            if let Some(stalled) = self.progress.stalled(now, owes) {
                self.fail_step(stalled.why, stalled.to_blame);
            }
        }
        // More may have ended than is remembered.
        self.expire();
        self.tell_leader(Event::Tick);
        let (status, load) = (self.leader.status(), self.engine.load());
        self.meter.show(&status, self.leader.standings(), &load);
        if let Some(since) = self.unserved_since {
            let late = self.ledger.waiting_since(since, self.hold, now);
            for sequence in &late {
                self.ledger
                    .fail(*sequence, Failure::Unserved(self.hold), now);
            }
            self.give_up(late);
        }
    }

    fn expire(&mut self) {
        let overdue = self.ledger.expire(self.now);
        self.give_up(overdue);
    }

    /// Takes sequences out of the engine.
    fn give_up(&mut self, sequences: impl IntoIterator<Item = SequenceId>) {
        for sequence in sequences {
            self.engine.cancel(sequence);
        }
    }

    /// Publishes the group's state where it changed.
    fn publish(&self) {
        let status = self.leader.status();
        let load = self.engine.load();
        let state = wire::WatchResponse {
            term: status.fence.term.0,
            epoch: status.fence.epoch.0,
            serving: status.serving,
            ranks_present: status.ranks_present as u32,
            ranks_needed: self.num_ranks as u32,
            missing: status.missing,
            status: status.text,
            waiting: load.waiting as u32,
            running: load.running as u32,
        };
        self.state.send_if_modified(|old| {
            let changed = *old != state;
            *old = state;
            changed
        });
    }
}
