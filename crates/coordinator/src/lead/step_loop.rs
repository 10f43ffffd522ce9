//! The one task that owns a group's state: the leader, the engine and who follows what.
//!
//! It goes round: hear what happened, do what the leader says, send the steps the engine plans, and
//! give the engine the results once all ranks have answered.

mod answers;
mod ask;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use cluster::{Action, Event, Leader, LeaderConfig};
use engine::Engine;
use proto::internal as wire;
use spec::{Fence, Rank, SequenceId, Term};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::answers::Broken;
use super::blame::{Blame, Failed};
use super::flight::Flight;
use super::ledger::{Ledger, Memory, Name};
use super::log::Failure;
use super::message::{Message, Register};
use super::progress::ProgressWatch;
use super::ranks::{Connect, Ranks};
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
    pub(crate) messages: mpsc::Sender<Message>,
    /// Where followers say that they are gone.
    pub(crate) gone: mpsc::UnboundedSender<(Name, u64)>,
    /// How long a generation waits for the group to serve.
    pub(crate) hold: Duration,
    pub(crate) tasks: TaskTracker,
    pub(crate) state: watch::Sender<wire::WatchResponse>,
    /// Ends it.
    pub(crate) end: CancellationToken,
    /// Cancelled when the loop has ended.
    pub(crate) done: CancellationToken,
}

/// A member's current stream.
struct Session {
    number: u64,
    incarnation: u64,
    evict: CancellationToken,
}

/// The loop's state.
pub(crate) struct StepLoop {
    leader: Leader,
    engine: Engine,
    max_step_rows: usize,
    vocab_size: usize,
    num_ranks: usize,
    connect: Connect,
    state: watch::Sender<wire::WatchResponse>,
    end: CancellationToken,
    outranked: watch::Sender<Term>,
    done: CancellationToken,
    started: Instant,
    sessions: BTreeMap<String, Session>,
    /// The workers of the epoch that is prepared or serves.
    ranks: Option<Ranks>,
    serving: bool,
    flight: Flight,
    /// Failures of steps since one was completed.
    blame: Blame,
    /// Workers that refused the plan, whatever it was.
    refusing: BTreeSet<String>,
    /// A sequence that could not be computed as part of a step that others came before.
    suspect: Option<SequenceId>,
    /// Whether an epoch has served.
    has_served: bool,
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
}

impl StepLoop {
    pub(crate) fn new(setup: Setup) -> Self {
        let num_ranks = setup.leader.num_ranks;
        let progress = ProgressWatch::new(num_ranks, limits::PROGRESS_LIMIT, Duration::ZERO);
        Self {
            leader: Leader::new(setup.leader, setup.term),
            engine: setup.engine,
            max_step_rows: setup.max_step_rows,
            vocab_size: setup.vocab_size,
            num_ranks,
            connect: Connect {
                messages: setup.messages,
                tasks: setup.tasks,
            },
            state: setup.state,
            end: setup.end,
            outranked: setup.outranked,
            done: setup.done,
            started: Instant::now(),
            sessions: BTreeMap::new(),
            ranks: None,
            serving: false,
            flight: Flight::default(),
            blame: Blame::default(),
            refusing: BTreeSet::new(),
            suspect: None,
            has_served: false,
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
        }
    }

    /// Runs until it is told to end; its sequences may go on at another lead.
    ///
    /// # Errors
    ///
    /// In words, if a worker refuses the very plan: then no cluster can serve with it.
    pub(crate) async fn run(
        mut self,
        mut inbox: mpsc::Receiver<Message>,
        mut gone: mpsc::UnboundedReceiver<(Name, u64)>,
    ) -> Result<(), String> {
        // However this ends, by a panic too, the internal server goes with it.
        let _done = self.done.clone().drop_guard();
        let mut tick = tokio::time::interval(limits::TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let end = self.end.clone();
        self.publish();
        loop {
            tokio::select! {
                Some(message) = inbox.recv() => self.hear(message),
                Some((name, follower)) = gone.recv() => {
                    let now = self.now();
                    let unwanted = self.ledger.unfollow(&name, follower, now);
                    self.give_up(unwanted);
                }
                () = self.due() => self.expire(),
                _ = tick.tick() => self.tick(),
                () = end.cancelled() => break,
            }
            self.plan();
            self.publish();
            if self.hopeless.is_some() {
                break;
            }
        }
        let now = self.now();
        for sequence in self.ledger.sequences() {
            self.ledger.fail(sequence, Failure::Ending, now);
        }
        self.hopeless.map_or(Ok(()), Err)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Ask(ask) => self.answer(ask),
            Message::Register(register) => self.register(register),
            Message::Left { name, session } => self.left(name, session),
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

    /// Voids the step that a worker could not complete, and sees to it that this has an end.
    fn blame_for(&mut self, by: &str, broken: Broken) {
        let Some(ranks) = &self.ranks else {
            return;
        };
        let Broken {
            why,
            blamed,
            barren,
        } = broken;
        let mut away = None;
        // A worker that goes while nothing is computed has failed nothing.
        if !self.flight.is_empty() {
            let failed = Failed {
                by,
                blames: blamed.and_then(|rank| ranks.holder(rank)),
                barren,
            };
            let worst = self.blame.failed(failed, &self.flight.oldest());
            away = worst.and_then(|name| ranks.of(&name).first().copied());
        }
        let hopeless = self.blame.hopeless();
        if !hopeless.is_empty() {
            self.end_sequences(&hopeless, &why);
        }
        self.fail_step(format!("worker '{by}': {why}"), away);
    }

    /// A worker refuses the very plan. Where all do that, and nothing was ever served, the plan is at
    /// fault; otherwise it may be that worker's memory, and another may take its seat.
    fn refused(&mut self, fence: Fence, name: String, why: &str) {
        self.refusing.insert(name.clone());
        let all = self
            .sessions
            .keys()
            .all(|name| self.refusing.contains(name));
        if all && !self.has_served {
            self.hopeless = Some(format!("worker '{name}' refuses the plan: {why}"));
        }
        let why = format!("it refuses the plan: {why}");
        self.tell_leader(Event::PrepareFailed { fence, name, why });
    }

    fn is_current(&self, fence: Fence) -> bool {
        self.ranks
            .as_ref()
            .is_some_and(|ranks| ranks.fence() == fence)
    }

    fn register(&mut self, register: Register) {
        let Register {
            registration,
            session,
            evict,
            reply,
        } = register;
        let (name, incarnation) = (registration.name.clone(), registration.incarnation);
        let (address, build) = (registration.address.clone(), registration.build.clone());
        let actions = match self.leader.register(registration, self.now()) {
            Ok(actions) => actions,
            Err(refused) => {
                tracing::warn!(worker = %name, reason = %refused, "worker refused");
                return drop(reply.send(Err(refused)));
            }
        };
        tracing::info!(worker = %name, %address, %build, "worker registered");
        self.sessions.insert(
            name,
            Session {
                number: session,
                incarnation,
                evict,
            },
        );
        let term = self.leader.status().fence.term;
        // If the worker is gone already, the end of its stream says so.
        drop(reply.send(Ok(term)));
        self.act(actions);
    }

    fn left(&mut self, name: String, session: u64) {
        if self
            .sessions
            .get(&name)
            .is_none_or(|current| current.number != session)
        {
            return;
        }
        if let Some(Session { incarnation, .. }) = self.sessions.remove(&name) {
            self.refusing.remove(&name);
            self.tell_leader(Event::Left { name, incarnation });
        }
    }

    fn tell_leader(&mut self, event: Event) {
        if let Event::PrepareFailed { name, why, .. } = &event {
            tracing::warn!(worker = %name, reason = %why, "worker could not get ready");
        }
        let actions = self.leader.on(event, self.now());
        self.act(actions);
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Prepare(plan) => {
                    tracing::info!(epoch = %plan.fence, "preparing");
                    let (kv, rows) = (&self.engine.config().kv, self.max_step_rows);
                    self.ranks = Some(Ranks::prepare(&plan, kv, rows, &self.connect));
                }
                Action::Serve { fence, kept_kv } => self.serve(fence, &kept_kv),
                Action::Stop { fence, why } => {
                    tracing::warn!(epoch = %fence, reason = %why, "epoch ended");
                    self.engine.void();
                    self.flight.ground();
                    self.serving = false;
                    self.unserved_since.get_or_insert(self.started.elapsed());
                    self.ranks = None;
                }
                Action::Raise { above } => {
                    // The store decides on terms; the answer is [`Event::Raised`].
                    self.outranked
                        .send_modify(|highest| *highest = above.max(*highest));
                }
                Action::Evict { name, why, .. } => {
                    tracing::warn!(worker = %name, reason = %why, "worker sent away");
                    if let Some(session) = self.sessions.remove(&name) {
                        session.evict.cancel();
                    }
                }
            }
        }
    }

    fn serve(&mut self, fence: Fence, kept_kv: &[bool]) {
        tracing::info!(epoch = %fence, kept_kv = ?kept_kv, "serving");
        let ranks = kept_kv.iter().enumerate();
        let homes: Vec<Option<Rank>> = ranks
            .map(|(rank, kept)| kept.then_some(Rank(rank as u32)))
            .collect();
        let begun = self.engine.begin_epoch(fence, &homes);
        begun.expect("the leader's fences ascend, and each rank is its own home");
        self.progress = ProgressWatch::new(self.num_ranks, limits::PROGRESS_LIMIT, self.now());
        self.serving = true;
        self.unserved_since = None;
        self.has_served = true;
    }

    fn fail_step(&mut self, why: String, silent: Option<Rank>) {
        let Some(fence) = self.ranks.as_ref().map(Ranks::fence) else {
            return;
        };
        self.tell_leader(Event::StepFailed { fence, why, silent });
    }

    /// Sends steps for as long as the engine plans any.
    fn plan(&mut self) {
        while self.serving {
            let Some(step) = self.engine.next_step() else {
                break;
            };
            for admitted in self.engine.take_admitted() {
                let (cached, now) = (admitted.cached_prompt_tokens, self.now());
                self.ledger.run(admitted.sequence, cached, now);
            }
            if self.flight.is_empty() {
                self.progress.restart(self.now());
            }
            self.flight.depart(&step);
            let sent = self
                .ranks
                .as_ref()
                .map_or(Ok(()), |ranks| ranks.send(&step));
            if let Err(name) = sent {
                let broken = Broken {
                    why: "takes no steps".into(),
                    blamed: None,
                    barren: false,
                };
                self.blame_for(&name, broken);
            }
        }
    }

    fn tick(&mut self) {
        let now = self.now();
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
        self.tell_leader(Event::Tick);
        if let Some(since) = self.unserved_since {
            let late = self.ledger.waiting_since(since, self.hold, now);
            for sequence in &late {
                self.ledger
                    .fail(*sequence, Failure::Unserved(self.hold), now);
            }
            self.give_up(late);
        }
    }

    /// Waits until something in the ledger happens by itself.
    async fn due(&self) {
        match self.ledger.next_due() {
            Some(due) => tokio::time::sleep_until((self.started + due).into()).await,
            None => std::future::pending().await,
        }
    }

    fn expire(&mut self) {
        let overdue = self.ledger.expire(self.now());
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
