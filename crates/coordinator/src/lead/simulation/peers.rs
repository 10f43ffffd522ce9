//! A worker's side of the exchange: the rows that it has had of others' ranks, and the ways to them.

use std::collections::{BTreeMap, BTreeSet};

use cluster::EpochPlan;
use spec::{Fence, Rank, StepNumber};

use super::net::{Net, Node, Port};
use super::packet::Packet;

/// A worker's side of the exchange of an epoch.
#[derive(Default)]
pub(super) struct Peers {
    fence: Fence,
    /// Who holds each other rank, and the way there once it was used.
    holders: BTreeMap<Rank, usize>,
    ports: BTreeMap<usize, Port>,
    lost: BTreeSet<usize>,
    pub(super) rows: BTreeSet<(StepNumber, Rank)>,
    /// Rows of an epoch that is not obeyed yet.
    early: Vec<(Fence, StepNumber, Rank)>,
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
        for (fence, step, rank) in std::mem::take(&mut self.early) {
            self.hear(plan.fence, (fence, step, rank));
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

    pub(super) fn hear(&mut self, obeyed: Fence, (fence, step, from): (Fence, StepNumber, Rank)) {
        if fence == self.fence {
            self.rows.insert((step, from));
        } else if fence >= obeyed {
            self.early.push((fence, step, from));
        }
    }

    /// The way to a peer is gone; returns whether it was of this epoch.
    pub(super) fn lose(&mut self, peer: usize, port: Port) -> bool {
        self.ports.get(&peer) == Some(&port) && self.lost.insert(peer)
    }

    pub(super) fn tell(&mut self, net: &mut Net, own: usize, (step, from): (StepNumber, Rank)) {
        let others: BTreeSet<usize> = self.holders.values().copied().collect();
        for other in others {
            let port = self.ports.entry(other);
            let port = *port.or_insert_with(|| net.dial(Node::Worker(own), Node::Worker(other)));
            let fence = self.fence;
            net.send(port, Packet::Rows { fence, step, from });
        }
    }

    /// Returns a rank whose rows of a step are not there, and whether it is lost.
    pub(super) fn missing(&self, step: StepNumber) -> Option<(Rank, bool)> {
        let mut missing = self.holders.iter();
        let missing = missing.find(|(rank, _)| !self.rows.contains(&(step, **rank)))?;
        Some((*missing.0, self.lost.contains(missing.1)))
    }
}
