//! The membership store, as far as elections use it: the group's two keys, and leases.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::{Ask, LeadRecord, Revision, Seat};

use super::net::{Event, Net, Node, Port};
use super::packet::Packet;

/// How long a lease outlives its last sign of life.
const TTL: Duration = Duration::from_secs(10);

/// How often leases are looked at.
const TICK: Duration = Duration::from_millis(500);

#[derive(Default)]
pub(super) struct Store {
    seat: Seat,
    revision: Revision,
    leases: BTreeMap<i64, Duration>,
    last_lease: i64,
    watchers: Vec<Port>,
}

impl Store {
    pub(super) fn begin(&mut self, net: &mut Net) {
        // Nobody could keep a lease alive meanwhile.
        let expires = net.now + TTL;
        self.leases.values_mut().for_each(|lease| *lease = expires);
        self.watchers.clear();
        net.after(TICK, Event::Tick(Node::Store));
    }

    /// Forgets everything but which leases it has given.
    pub(super) fn wipe(&mut self) {
        *self = Self {
            last_lease: self.last_lease + 1000,
            ..Self::default()
        };
    }

    pub(super) fn tick(&mut self, net: &mut Net) {
        let now = net.now;
        self.leases.retain(|_, expires| *expires > now);
        if self.seat.lead.is_some() && !self.leases.contains_key(&self.seat.lease) {
            self.empty(net);
        }
        net.after(TICK, Event::Tick(Node::Store));
    }

    pub(super) fn hear(&mut self, net: &mut Net, port: Port, packet: Packet) {
        match packet {
            Packet::Watch => {
                self.watchers.push(port);
                net.send(port, Packet::Seat(self.seat.clone()));
            }
            Packet::Txn(ask) => {
                self.decide(net, ask);
                net.send(port, Packet::Decided);
            }
            Packet::Grant => {
                self.last_lease += 1;
                self.leases.insert(self.last_lease, net.now + TTL);
                net.send(port, Packet::Lease(self.last_lease));
            }
            Packet::KeepAlive(lease) => {
                let answer = match self.leases.get_mut(&lease) {
                    Some(expires) => {
                        *expires = net.now + TTL;
                        Packet::Lease(lease)
                    }
                    None => Packet::NoLease(lease),
                };
                net.send(port, answer);
            }
            _ => unreachable!("nobody sends this to the store: {packet:?}"),
        }
    }

    fn decide(&mut self, net: &mut Net, ask: Ask) {
        let revision = |key: &Option<(LeadRecord, Revision)>| key.as_ref().map_or(0, |key| key.1);
        match ask {
            Ask::Bid {
                record,
                lease,
                lead,
                last,
            } => {
                let as_seen =
                    (revision(&self.seat.lead), revision(&self.seat.last)) == (lead, last);
                if as_seen && self.leases.contains_key(&lease) {
                    self.revision += 1;
                    let written = Some((record, self.revision));
                    self.seat = Seat {
                        lead: written.clone(),
                        lease,
                        last: written,
                    };
                    self.tell(net);
                }
            }
            Ask::Leave { lead } => {
                if revision(&self.seat.lead) == lead {
                    self.empty(net);
                }
            }
            Ask::Lead(_) | Ask::StepDown { .. } => unreachable!("not for the store"),
        }
    }

    fn empty(&mut self, net: &mut Net) {
        self.revision += 1;
        (self.seat.lead, self.seat.lease) = (None, 0);
        self.tell(net);
    }

    fn tell(&mut self, net: &mut Net) {
        self.watchers.retain(|port| net.is_open(*port));
        for port in &self.watchers {
            net.send(*port, Packet::Seat(self.seat.clone()));
        }
    }
}
