//! A worker: the rules it keeps are its own ([`worker::member`]), its ranks compute nothing but check all
//! that they are told.

mod attend;
mod epoch;
mod kept;

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
use super::peers::Peers;
use super::rules::{Rules, Start};
use super::run::Run;

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
    /// Until then it does not get ready.
    sick: Duration,
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
            sick: Duration::ZERO,
            work: 0,
        }
    }

    pub(super) fn node(&self) -> Node {
        Node::Worker(self.index)
    }

    pub(super) fn start(&self) -> Start {
        (self.index, self.incarnation)
    }

    /// Says whether it is to end.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.is_some()
    }

    /// Returns the epoch that it runs steps of, and for whom.
    pub(super) fn runs(&self) -> Option<(Fence, u64)> {
        let run = self.run.as_ref()?;
        Some((run.plan.fence, self.epochs.lead()))
    }

    /// It cannot get ready for a while.
    pub(super) fn sicken(&mut self, until: Duration) {
        self.sick = until;
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
                let changes = |part: &wire::Part| !part.opens.is_empty() || !part.closes.is_empty();
                let kept = |all: &Self| match sent.iter().any(changes) {
                    true => all.kept(),
                    false => BTreeSet::new(),
                };
                let before = kept(self);
                self.left.begin(fence, step, &sent);
                let gone = &before - &kept(self);
                let epoch = (self.start(), self.epochs.lead(), fence);
                rules.keeps(epoch, &kept::opened(&sent), &gone);
                if let Some(run) = &mut self.run
                    && !run.accept(net, &mut self.work, (step, read))
                {
                    self.end_run(net, port);
                }
            }
            Packet::Rows {
                fence,
                step,
                from,
                by,
            } => {
                let rows = (fence, ((step, from), by));
                self.peers.hear(self.epochs.obeyed(), rows);
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
}

/// Returns which start of a worker is meant.
pub(super) fn start(member: &Registration) -> Start {
    let index = member.name[1..].parse().expect("workers are numbered");
    (index, member.incarnation)
}

/// Lists a worker's ranks in a plan, ascending.
pub(super) fn own_ranks(plan: &EpochPlan, index: usize) -> BTreeSet<Rank> {
    let name = name(index);
    let mut members = plan.members.iter();
    let own = members.find(|(member, _)| member.name == name);
    own.map(|(_, ranks)| ranks.iter().copied().collect())
        .unwrap_or_default()
}
