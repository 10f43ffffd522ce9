//! A worker: the rules it keeps are its own ([`worker::member`]), its ranks compute nothing but check all
//! that they are told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use cluster::{EpochPlan, LeadRecord, Registration};
use engine::stub::{Model, StubRank};
use proto::internal as wire;
use spec::{Fence, Rank, Term};
use tokio_util::sync::CancellationToken;
use worker::member::{Epochs, Left};

use super::net::{Event, Net, Node, Port};
use super::packet::Packet;
use super::rules::Rules;
use super::run::{Peers, Run};

const TICK: Duration = Duration::from_millis(250);

/// How long a lead may be silent.
const SILENCE: Duration = Duration::from_secs(5);

/// How long a worker that is to end waits for its release.
const DRAIN: Duration = Duration::from_secs(10);

/// One of a worker's ranks.
#[derive(Default)]
pub(super) struct Held {
    pub(super) stub: StubRank,
    /// The term of the last step that it computed.
    pub(super) used: Option<Term>,
}

/// An epoch that is being prepared, or is ready.
pub(super) struct Prepared {
    port: Port,
    pub(super) plan: Arc<EpochPlan>,
    alive: CancellationToken,
    number: u64,
}

pub(super) struct Worker {
    index: usize,
    pub(super) incarnation: u64,
    pub(super) num_ranks: usize,
    model: Model,
    store: Option<Port>,
    lead: Option<LeadRecord>,
    attends: Option<Port>,
    /// When the lead was heard last, and when it is tried again.
    heard: Duration,
    retry: Duration,
    /// Since when it is to end.
    draining: Option<Duration>,
    epochs: Epochs<()>,
    left: Left,
    ranks: BTreeMap<Rank, Held>,
    prepared: Option<Prepared>,
    run: Option<Run>,
    peers: Peers,
    /// Numbers what takes time.
    work: u64,
}

pub(super) fn name(index: usize) -> String {
    format!("w{index}")
}

impl Worker {
    pub(super) fn new(index: usize, incarnation: u64, num_ranks: usize, model: Model) -> Self {
        Self {
            index,
            incarnation,
            num_ranks,
            model,
            store: None,
            lead: None,
            attends: None,
            heard: Duration::ZERO,
            retry: Duration::ZERO,
            draining: None,
            epochs: Epochs::new(&CancellationToken::new()),
            left: Left::default(),
            ranks: BTreeMap::new(),
            prepared: None,
            run: None,
            peers: Peers::default(),
            work: 0,
        }
    }

    pub(super) fn node(&self) -> Node {
        Node::Worker(self.index)
    }

    pub(super) fn begin(&mut self, net: &mut Net) {
        net.start(self.node(), self.incarnation);
        net.after(TICK, Event::Tick(self.node()));
    }

    /// Tells it to end in order.
    pub(super) fn drain(&mut self, net: &Net) {
        self.draining.get_or_insert(net.now);
    }

    /// Returns whether it has come to its end.
    pub(super) fn tick(&mut self, net: &mut Net) -> bool {
        let now = net.now;
        net.after(TICK, Event::Tick(self.node()));
        if self.store.is_none() {
            let port = net.dial(self.node(), Node::Store);
            net.send(port, Packet::Watch);
            self.store = Some(port);
        }
        if let Some(port) = self.attends {
            if now > self.heard + SILENCE {
                net.close(port);
                self.attends = None;
            } else {
                let draining = self.draining.is_some();
                net.send(port, Packet::Beat { draining });
            }
        } else if now >= self.retry {
            self.attend(net);
        }
        if let Some(run) = &mut self.run {
            run.report(net, &self.peers);
        }
        let grace = self.draining.map(|since| since + DRAIN);
        grace.is_some_and(|grace| now >= grace || self.attends.is_none())
    }

    fn attend(&mut self, net: &mut Net) {
        let Some(lead) = self.lead.clone() else {
            return;
        };
        let port = net.dial(self.node(), super::coordinator::at(&lead.address));
        let registration = Registration {
            name: name(self.index),
            incarnation: self.incarnation,
            address: format!("http://{}:1", name(self.index)),
            wire: (1, 1),
            build: "simulated".into(),
            weights: "w".into(),
            tokenizer: "t".into(),
            numerics: "exact".into(),
            num_ranks: self.num_ranks,
            term: self.epochs.obeyed().term,
            lead: self.epochs.lead(),
            stepped: self.left.stepped(),
            draining: self.draining.is_some(),
        };
        net.send(port, Packet::Register(registration));
        (self.attends, self.heard) = (Some(port), net.now);
    }

    /// Takes in a message; returns whether it has come to its end.
    pub(super) fn hear(
        &mut self,
        net: &mut Net,
        rules: &mut Rules,
        port: Port,
        packet: Packet,
    ) -> bool {
        match packet {
            Packet::Seat(_) if self.store != Some(port) => {}
            Packet::Seat(seat) => self.follow(net, seat.lead.map(|(lead, _)| lead)),
            Packet::Answer { released } => {
                self.heard = net.now;
                return released && self.draining.is_some();
            }
            Packet::NameTaken => self.leave(net, port),
            Packet::Prepare { plan, lead } => self.prepare(net, rules, port, (plan, lead)),
            Packet::Parts {
                fence,
                step,
                sent,
                read,
            } => {
                if !self.is_run(net, port, fence) {
                    net.close(port);
                    return false;
                }
                self.left.begin(fence, step, &sent);
                if let Some(run) = &mut self.run
                    && !run.accept(net, &mut self.work, (step, read))
                {
                    self.end_run(net, port);
                }
            }
            Packet::Rows { fence, step, from } => {
                self.peers.hear(self.epochs.obeyed(), (fence, step, from));
                self.go_on(net, rules);
            }
            _ => unreachable!("nobody sends this to a worker: {packet:?}"),
        }
        false
    }

    pub(super) fn closed(&mut self, net: &mut Net, rules: &mut Rules, port: Port) {
        if self.store == Some(port) {
            self.store = None;
        } else if self.attends == Some(port) {
            self.leave(net, port);
        } else if self.run.as_ref().is_some_and(|run| run.port == port) {
            self.end_run(net, port);
        } else if let Node::Worker(peer) = net.peer(port)
            && self.peers.lose(peer, port)
        {
            self.go_on(net, rules);
        }
    }

    fn leave(&mut self, net: &mut Net, port: Port) {
        net.close(port);
        self.attends = None;
        self.retry = net.now + net.dice.millis(100, 2000);
    }

    /// Another coordinator leads, or has a new term.
    fn follow(&mut self, net: &mut Net, lead: Option<LeadRecord>) {
        let Some(lead) = lead else {
            return;
        };
        let start = |lead: &LeadRecord| (lead.name.clone(), lead.incarnation);
        let is_other = self.lead.as_ref().map(start) != Some(start(&lead));
        self.lead = Some(lead);
        if is_other && let Some(port) = self.attends.take() {
            net.close(port);
        }
        if is_other {
            self.attend(net);
        }
    }

    fn prepare(
        &mut self,
        net: &mut Net,
        rules: &mut Rules,
        port: Port,
        (plan, lead): (Arc<EpochPlan>, u64),
    ) {
        let alive = match self.epochs.prepare(plan.fence, lead) {
            Ok(alive) => alive,
            Err(stale) => {
                net.send(port, Packet::Overtaken(stale.to_string()));
                return net.close(port);
            }
        };
        rules.obeys((self.index, self.incarnation), plan.fence, lead);
        self.stop(net);
        self.work += 1;
        self.prepared = Some(Prepared {
            port,
            plan,
            alive,
            number: self.work,
        });
        let loading = net.dice.millis(20, 1500);
        net.after(loading, Event::Done(self.index, self.work));
    }

    /// Gives up what is being computed, half done.
    fn stop(&mut self, net: &mut Net) {
        if let Some(run) = self.run.take() {
            run.abort(net, self.model, &mut self.ranks);
        }
        self.peers.leave(net);
    }

    /// Something that took time is done.
    pub(super) fn done(&mut self, net: &mut Net, rules: &mut Rules, number: u64) {
        if let Some(prepared) = &self.prepared
            && prepared.number == number
        {
            return self.ready(net);
        }
        if let Some(run) = &mut self.run {
            run.computed(number);
        }
        self.go_on(net, rules);
    }

    fn ready(&mut self, net: &mut Net) {
        let Some(prepared) = &self.prepared else {
            return;
        };
        let (port, plan) = (prepared.port, &prepared.plan);
        if !self.epochs.ready(&prepared.alive, ()) {
            return;
        }
        let own = own_ranks(plan, self.index);
        self.ranks.retain(|rank, _| own.contains(rank));
        let kept = own.iter().map(|rank| {
            let held = self.ranks.entry(*rank).or_default();
            held.used == Some(plan.fence.term)
        });
        let kept: Vec<bool> = kept.collect();
        self.peers.enter(plan, self.index);
        for left in self.left.before(plan.fence.term) {
            net.send(port, Packet::Left(left));
        }
        let counted = own.iter().zip(&kept);
        let counted = counted.filter(|(rank, kept)| **kept && plan.held.contains(rank));
        let counted: Vec<Rank> = counted.map(|(rank, _)| *rank).collect();
        self.left.ready(plan.fence, &counted);
        let stepped = self.left.stepped().unwrap_or_default();
        net.send(port, Packet::Ready(kept, stepped));
    }

    /// Says whether steps of this epoch are run for whoever is at this port; the first one begins that.
    fn is_run(&mut self, net: &Net, port: Port, fence: Fence) -> bool {
        if let Some(run) = &self.run {
            return run.port == port && run.plan.fence == fence && net.is_open(port);
        }
        let Some(prepared) = self
            .prepared
            .as_ref()
            .filter(|prepared| prepared.port == port)
        else {
            return false;
        };
        let Ok(((), alive)) = self.epochs.run(fence) else {
            return false;
        };
        let epoch = (prepared.plan.clone(), self.epochs.lead());
        self.run = Some(Run::new(port, self.index, epoch, alive));
        true
    }

    fn end_run(&mut self, net: &mut Net, port: Port) {
        net.close(port);
        if let Some(run) = self.run.take() {
            self.epochs.end(&run.alive);
            run.abort(net, self.model, &mut self.ranks);
        }
    }

    /// Goes on with the step that is computed, as far as what it needs is there.
    fn go_on(&mut self, net: &mut Net, rules: &mut Rules) {
        let Some(run) = &mut self.run else {
            return;
        };
        while let Some((step, results, slots)) =
            run.go_on(net, rules, &mut self.peers, (self.model, &mut self.ranks))
        {
            let fence = run.plan.fence;
            for (result, slots) in results.iter().zip(&slots) {
                self.left.sampled(fence, step, slots, result);
            }
            let parts = results.iter().map(super::run::result_to_wire).collect();
            let done = wire::StepDone {
                step: step.0,
                parts,
            };
            let said = wire::RunResponse {
                message: Some(wire::run_response::Message::Done(done)),
            };
            net.send(run.port, Packet::Said(said));
            run.begin(net, &mut self.work);
        }
    }
}

/// Lists a worker's ranks in a plan, ascending.
pub(super) fn own_ranks(plan: &EpochPlan, index: usize) -> BTreeSet<Rank> {
    let name = name(index);
    let mut members = plan.members.iter();
    let own = members.find(|(member, _)| member.name == name);
    own.map(|(_, ranks)| ranks.iter().copied().collect())
        .unwrap_or_default()
}
