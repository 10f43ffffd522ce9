//! Who is in the group: workers come and go, and the leader says what follows.

use cluster::{Action, Event};
use spec::{Fence, Rank};
use telemetry::labels::EpochEnd;

use super::{Session, StepLoop};
use crate::lead::life;
use crate::lead::message::Register;
use crate::lead::progress::ProgressWatch;
use crate::limits;

impl StepLoop {
    pub(super) fn register(&mut self, register: Register) {
        let Register {
            registration,
            session,
            orders,
            reply,
        } = register;
        let (name, incarnation) = (registration.name.clone(), registration.incarnation);
        let (address, build) = (registration.address.clone(), registration.build.clone());
        let stepped = registration.stepped.unwrap_or_default();
        let cause = match registration.draining {
            true => EpochEnd::Drain,
            false => EpochEnd::Leave,
        };
        let actions = match self.leader.register(registration, self.now) {
            Ok(actions) => actions,
            Err(refused) => {
                tracing::warn!(worker = %name, reason = %refused, "worker refused");
                return drop(reply.send(Err(refused)));
            }
        };
        tracing::info!(worker = %name, %address, %build, "worker registered");
        // Also of one that gets no seat: it knows what is over elsewhere.
        self.stepped = self.stepped.max(stepped);
        let session = Session {
            number: session,
            incarnation,
            orders,
        };
        if let Some(other) = self.sessions.insert(name, session) {
            // Mostly it is gone already. One that lives would go on without being known: where this
            // coordinator stood still, streams are heard in any order.
            other.orders.evict.cancel();
        }
        let term = self.leader.status().fence.term;
        // If the worker is gone already, the end of its stream says so.
        drop(reply.send(Ok(term)));
        self.act(actions, cause);
    }

    pub(super) fn left(&mut self, name: String, session: u64) {
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

    /// A worker is about to end.
    pub(super) fn drains(&mut self, name: String, session: u64) {
        let current = self.sessions.get(&name);
        if let Some(current) = current.filter(|current| current.number == session) {
            tracing::info!(worker = %name, "worker drains");
            let incarnation = current.incarnation;
            self.tell_leader(Event::Draining { name, incarnation });
        }
    }

    /// Lets those end who drain and are not needed.
    pub(super) fn release(&mut self) {
        let is_idle = self.engine.num_running() == 0 && self.flight.is_empty();
        for name in self.leader.released(is_idle) {
            if let Some(session) = self.sessions.get(&name) {
                session.orders.release.cancel();
            }
        }
    }

    /// A worker refuses the very plan. Where all do that, and nothing was ever served, the plan is at
    /// fault; otherwise it may be that worker's memory, and another may take its seat.
    pub(super) fn refused(&mut self, fence: Fence, name: String, why: &str) {
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

    pub(super) fn tell_leader(&mut self, event: Event) {
        if let Event::PrepareFailed { name, why, .. } = &event {
            tracing::warn!(worker = %name, reason = %why, "worker could not get ready");
        }
        let cause = cause(&event);
        let actions = self.leader.on(event, self.now);
        self.act(actions, cause);
    }

    /// Does what the leader says; where that ends the epoch, for this cause.
    fn act(&mut self, actions: Vec<Action>, cause: EpochEnd) {
        for action in actions {
            match action {
                Action::Prepare(plan) => {
                    tracing::info!(epoch = %plan.fence, "preparing");
                    let kv = &self.engine.config().kv;
                    self.workers.prepare(&plan, kv, self.max_step_rows);
                    self.epoch = Some(plan);
                }
                Action::Serve { fence, kept_kv } => self.serve(fence, &kept_kv),
                Action::Stop { fence, why } => {
                    tracing::warn!(epoch = %fence, reason = %why, "epoch ended");
                    // Before it serves nothing runs in an epoch that could be interrupted.
                    let running = match self.serving {
                        true => self.engine.num_running(),
                        false => 0,
                    };
                    if self.serving {
                        life::void(&self.ledger);
                    }
                    self.meter.end_epoch(cause, running, self.now);
                    self.engine.void();
                    self.flight.ground();
                    self.serving = false;
                    self.unserved_since.get_or_insert(self.now);
                    self.workers.end();
                    self.epoch = None;
                }
                Action::Raise { above } => {
                    // The store decides on terms; the answer is [`Event::Raised`].
                    self.outranked
                        .send_modify(|highest| *highest = above.max(*highest));
                }
                Action::Evict { name, why, .. } => {
                    tracing::warn!(worker = %name, reason = %why, "worker sent away");
                    if let Some(session) = self.sessions.remove(&name) {
                        session.orders.evict.cancel();
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
        self.progress = ProgressWatch::new(self.num_ranks, limits::PROGRESS_LIMIT, self.now);
        self.serving = true;
        self.unserved_since = None;
        self.has_served = true;
        self.meter.serve(self.ledger.running().count(), self.now);
        self.go_on();
    }
}

/// Returns what an epoch has ended for that ends with this event.
fn cause(event: &Event) -> EpochEnd {
    match event {
        Event::Draining { .. } => EpochEnd::Drain,
        Event::PrepareFailed { .. } | Event::Overtaken { .. } => EpochEnd::PrepareFailed,
        Event::StepFailed { .. } => EpochEnd::StepFailed,
        Event::Left { .. } | Event::Prepared { .. } | Event::Raised(_) | Event::Tick => {
            EpochEnd::Leave
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spec::Term;
    use telemetry::{About, Telemetry};
    use tokio::sync::oneshot;
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::lead::message::{Message, Orders};
    use crate::lead::meter::LeadMeter;
    use crate::lead::step_loop::Heard;
    use crate::lead::step_loop::tests::{World, follow, world};

    impl World {
        /// Registers a worker; returns what ends its stream.
        fn register(&mut self, session: u64) -> CancellationToken {
            let orders = Orders::new(CancellationToken::new());
            let (reply, mut answer) = oneshot::channel();
            let registration = cluster::Registration {
                name: "w".into(),
                incarnation: 1,
                address: "http://w:1".into(),
                wire: (1, 1),
                build: String::new(),
                weights: String::new(),
                tokenizer: String::new(),
                numerics: "exact".into(),
                num_ranks: 1,
                term: Term(0),
                lead: 0,
                stepped: None,
                draining: false,
            };
            let register = Message::Register(Box::new(Register {
                registration,
                session,
                orders: orders.clone(),
                reply,
            }));
            self.step_loop.on(Heard::Message(register), Duration::ZERO);
            answer.try_recv().unwrap().unwrap();
            orders.evict
        }
    }

    #[test]
    fn the_stream_of_a_worker_that_registers_again_is_ended() {
        let mut world = world(8, 4);
        // The older stream may be heard last; its end takes the worker's name with it.
        let (one, other) = (world.register(2), world.register(1));
        assert!(one.is_cancelled() && !other.is_cancelled());
    }

    #[test]
    fn what_runs_is_interrupted_once_however_often_the_next_epoch_fails() {
        let mut world = world(8, 4);
        let telemetry = Telemetry::coordinator(About::default(), vec!["0".into()], 1);
        world.step_loop.meter = LeadMeter::new(telemetry.clone(), 0, (4, 1));
        world.register(1);
        let mut now = Duration::ZERO;
        let mut tell = |step_loop: &mut StepLoop, event: fn(Fence) -> Event| {
            now += Duration::from_secs(1);
            let fence = step_loop.leader.status().fence;
            let told = Heard::Message(Message::Group(event(fence)));
            step_loop.on(told, now);
        };
        let ready = |fence| Event::Prepared {
            fence,
            name: "w".into(),
            kept_kv: vec![true],
        };
        tell(&mut world.step_loop, ready);
        let _follower = world.follow(follow("a", 6)).unwrap();
        tell(&mut world.step_loop, |_| Event::Tick);
        assert_eq!(world.step_loop.engine.num_running(), 1);
        tell(&mut world.step_loop, |fence| Event::StepFailed {
            fence,
            why: "reset".into(),
            silent: None,
        });
        for _ in 0..3 {
            tell(&mut world.step_loop, |_| Event::Tick);
            tell(&mut world.step_loop, |fence| Event::PrepareFailed {
                fence,
                name: "w".into(),
                why: "disk".into(),
            });
        }
        assert_eq!(world.step_loop.engine.num_running(), 1);
        let text = telemetry.render();
        let of_epochs = |line: &&str| {
            line.starts_with("conclave_preemptions_total") && line.contains("\"epoch\"")
        };
        let shown = text.lines().find(of_epochs).unwrap();
        assert!(shown.ends_with(" 1"), "{shown}");
    }
}
