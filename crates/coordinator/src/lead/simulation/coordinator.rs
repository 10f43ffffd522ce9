//! A coordinator: a real candidate, and a real step loop while it leads. What joins them to sockets is
//! played here.

use std::time::Duration;

use cluster::{Ask, Candidate, Heard as Told, LeadRecord};
use spec::Term;

use super::Group;
use super::lead::Lead;
use super::net::{Event, Net, Node, Port};
use super::packet::Packet;
use super::rules::Rules;
use crate::limits::TICK;

/// How often a lease is kept alive.
const KEEP_ALIVE: Duration = Duration::from_secs(3);

pub(super) struct Coordinator {
    index: usize,
    pub(super) incarnation: u64,
    /// When this start was.
    began: Duration,
    setting: Group,
    candidate: Candidate,
    store: Option<Port>,
    lease: Option<i64>,
    /// When the store is asked about the lease again.
    ask: Duration,
    lead: Option<Lead>,
    is_draining: bool,
}

/// Returns who is at an address.
pub(super) fn at(address: &str) -> Node {
    let digits = address
        .trim_start_matches("http://c")
        .trim_end_matches(":1");
    Node::Coordinator(digits.parse().expect("coordinators are numbered"))
}

impl Coordinator {
    pub(super) fn new(index: usize, incarnation: u64, setting: Group) -> Self {
        let me = record(index, incarnation);
        let patience = crate::election::patience(&me.name, "0");
        Self {
            index,
            incarnation,
            began: Duration::ZERO,
            setting,
            candidate: Candidate::new(me, patience),
            store: None,
            lease: None,
            ask: Duration::ZERO,
            lead: None,
            is_draining: false,
        }
    }

    pub(super) fn start(&self) -> (usize, u64) {
        (self.index, self.incarnation)
    }

    fn node(&self) -> Node {
        Node::Coordinator(self.index)
    }

    pub(super) fn begin(&mut self, net: &mut Net) {
        self.began = net.now;
        net.start(self.node(), self.incarnation);
        net.after(TICK, Event::Tick(self.node()));
    }

    /// Returns the lead that it has, as it believes.
    pub(super) fn leading(&self) -> Option<&Lead> {
        self.lead.as_ref()
    }

    /// Tells it to end in order.
    pub(super) fn drain(&mut self, net: &mut Net, rules: &mut Rules) {
        self.is_draining = true;
        self.tell(net, rules, Told::Draining);
    }

    /// Orders it to hand its lead over.
    pub(super) fn hand_over(&mut self, net: &mut Net, rules: &mut Rules, to: &Self) {
        if let Some(lease) = to.lease {
            let to = record(to.index, to.incarnation);
            self.tell(net, rules, Told::HandOver { to, lease });
        }
    }

    /// Returns whether it has come to its end.
    pub(super) fn tick(&mut self, net: &mut Net, rules: &mut Rules) -> bool {
        net.after(TICK, Event::Tick(self.node()));
        let store = *self.store.get_or_insert_with(|| {
            let store = net.dial(Node::Coordinator(self.index), Node::Store);
            net.send(store, Packet::Watch);
            self.ask = net.now;
            store
        });
        if net.now >= self.ask {
            self.ask = net.now + KEEP_ALIVE;
            net.send(store, self.lease.map_or(Packet::Grant, Packet::KeepAlive));
        }
        self.tell(net, rules, Told::Tick);
        if let Some(lead) = &mut self.lead {
            lead.tick(net, rules);
        }
        self.follow_lead(net, rules);
        self.is_draining && self.lead.is_none()
    }

    pub(super) fn hear(&mut self, net: &mut Net, rules: &mut Rules, port: Port, packet: Packet) {
        match packet {
            // What an old watch tells is not heard once there is a new one.
            Packet::Seat(_) if self.store != Some(port) => {}
            Packet::Seat(seat) => self.tell(net, rules, Told::Seat(seat)),
            Packet::Decided => self.tell(net, rules, Told::Decided),
            Packet::Lease(lease) => {
                if self.lease.replace(lease) != Some(lease) {
                    self.tell(net, rules, Told::Lease(Some(lease)));
                }
            }
            Packet::NoLease(lease) => {
                if self.lease.take_if(|known| *known == lease).is_some() {
                    self.tell(net, rules, Told::Lease(None));
                }
                net.send(port, Packet::Grant);
            }
            packet => match &mut self.lead {
                Some(lead) => lead.hear(net, rules, port, packet),
                // Nothing is led here.
                None => net.close(port),
            },
        }
        self.follow_lead(net, rules);
    }

    pub(super) fn closed(&mut self, net: &mut Net, rules: &mut Rules, port: Port) {
        if self.store == Some(port) {
            self.store = None;
            self.tell(net, rules, Told::Disconnected);
        } else if let Some(lead) = &mut self.lead {
            lead.closed(net, rules, port);
        }
        self.follow_lead(net, rules);
    }

    /// Tells the election what the lead has heard of terms.
    fn follow_lead(&mut self, net: &mut Net, rules: &mut Rules) {
        while let Some(term) = self.lead.as_mut().and_then(Lead::outranked) {
            self.tell(net, rules, Told::Outranked(term));
        }
    }

    fn tell(&mut self, net: &mut Net, rules: &mut Rules, told: Told) {
        for ask in self.candidate.on(told, net.now - self.began) {
            match ask {
                Ask::Bid { .. } | Ask::Leave { .. } => {
                    if let Some(store) = self.store {
                        net.send(store, Packet::Txn(ask));
                    }
                }
                Ask::Lead(term) => self.lead(net, rules, term),
                Ask::StepDown { .. } => {
                    if let Some(lead) = self.lead.take() {
                        lead.end(net);
                    }
                }
            }
        }
    }

    fn lead(&mut self, net: &mut Net, rules: &mut Rules, term: Term) {
        let me = (self.index, self.incarnation);
        rules.leads(term, me);
        match &mut self.lead {
            Some(lead) => lead.raise(net, rules, term),
            None => self.lead = Some(Lead::new(net, me, (self.setting, term))),
        }
    }
}

/// Returns what workers know a start of a coordinator by.
pub(super) fn lead_id((index, incarnation): (usize, u64)) -> u64 {
    1000 * (index as u64 + 1) + incarnation
}

fn record(index: usize, incarnation: u64) -> LeadRecord {
    LeadRecord {
        name: format!("c{index}"),
        incarnation,
        address: format!("http://c{index}:1"),
        term: Term(0),
    }
}
