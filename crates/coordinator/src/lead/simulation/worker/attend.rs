//! A worker attends whoever leads.

use cluster::{LeadRecord, Registration};

use super::{Net, Packet, Port, Worker, name};
use crate::lead::simulation::coordinator;

impl Worker {
    pub(super) fn attend(&mut self, net: &mut Net) {
        let Some(lead) = self.lead.clone() else {
            return;
        };
        let port = net.dial(self.node(), coordinator::at(&lead.address));
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

    pub(super) fn leave(&mut self, net: &mut Net, port: Port) {
        net.close(port);
        self.attends = None;
        self.retry = net.now + net.dice.millis(100, 2000);
    }

    /// Another coordinator leads, or has a new term.
    pub(super) fn follow(&mut self, net: &mut Net, lead: Option<LeadRecord>) {
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
}
