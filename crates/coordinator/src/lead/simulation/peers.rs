//! A worker's side of the exchange: the rows that it has had of others' ranks, and the ways to them.

use std::collections::{BTreeMap, BTreeSet};

use cluster::EpochPlan;
use spec::{Fence, Rank, StepNumber};

use super::net::{Net, Node, Port};
use super::packet::Packet;
use super::rules::Start;

/// A worker's side of the exchange of an epoch.
/// The rows of a step and a rank, and by which worker.
pub(super) type Rows = ((StepNumber, Rank), Start);

#[derive(Default)]
pub(super) struct Peers {
    fence: Fence,
    /// Who holds each other rank, and the way there once it was used.
    holders: BTreeMap<Rank, usize>,
    ports: BTreeMap<usize, Port>,
    lost: BTreeSet<usize>,
    /// Whose rows of which rank have come.
    rows: BTreeMap<(StepNumber, Rank), Start>,
    /// Rows of an epoch that is not obeyed yet.
    early: Vec<(Fence, Rows)>,
}

impl Peers {
    pub(super) fn enter(&mut self, plan: &EpochPlan, own: usize) {
        self.fence = plan.fence;
        for (member, ranks) in &plan.members {
            let index = member.name[1..].parse().expect("workers are numbered");
            if index != own {
                self.holders.extend(ranks.iter().map(|rank| (*rank, index)));
            }
        }
        for (fence, rows) in std::mem::take(&mut self.early) {
            self.hear(plan.fence, (fence, rows));
        }
    }

    /// Ends the exchange of the epoch before.
    pub(super) fn leave(&mut self, net: &mut Net) {
        for port in self.ports.values() {
            net.close(*port);
        }
        *self = Self {
            early: std::mem::take(&mut self.early),
            ..Self::default()
        };
    }

    pub(super) fn hear(&mut self, obeyed: Fence, (fence, rows): (Fence, Rows)) {
        if fence == self.fence {
            self.rows.insert(rows.0, rows.1);
        } else if fence >= obeyed {
            self.early.push((fence, rows));
        }
    }

    /// Takes in the rows of an own rank, unless that was done, and gives them to the others.
    pub(super) fn give(&mut self, net: &mut Net, rows: Rows) {
        if self.rows.insert(rows.0, rows.1).is_none() {
            self.tell(net, rows);
        }
    }

    /// Returns whose rows of a step have come, and forgets them.
    pub(super) fn finish(&mut self, step: StepNumber) -> BTreeSet<Start> {
        let later = self.rows.split_off(&(StepNumber(step.0 + 1), Rank(0)));
        let done = std::mem::replace(&mut self.rows, later);
        let of_step = done.iter().filter(|((of, _), _)| *of == step);
        of_step.map(|(_, by)| *by).collect()
    }

    /// The way to a peer is gone; returns whether it was of this epoch.
    pub(super) fn lose(&mut self, peer: usize, port: Port) -> bool {
        self.ports.get(&peer) == Some(&port) && self.lost.insert(peer)
    }

    fn tell(&mut self, net: &mut Net, ((step, from), by): Rows) {
        let own = by.0;
        let others: BTreeSet<usize> = self.holders.values().copied().collect();
        for other in others {
            let port = self.ports.entry(other);
            let port = *port.or_insert_with(|| net.dial(Node::Worker(own), Node::Worker(other)));
            let fence = self.fence;
            let rows = Packet::Rows {
                fence,
                step,
                from,
                by,
            };
            net.send(port, rows);
        }
    }

    /// Returns a rank whose rows of a step are not there, and whether it is lost.
    pub(super) fn missing(&self, step: StepNumber) -> Option<(Rank, bool)> {
        let mut missing = self.holders.iter();
        let missing = missing.find(|(rank, _)| !self.rows.contains_key(&(step, **rank)))?;
        Some((*missing.0, self.lost.contains(missing.1)))
    }
}
