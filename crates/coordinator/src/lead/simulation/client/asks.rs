//! What a client asks for.

use std::time::Duration;

use proto::internal as wire;
use spec::TokenId;

use super::{Client, Forcing, Net, Node, Packet, Wish};
use crate::lead::simulation::coordinator;
use crate::wire::sampling_to_wire;

fn ids(tokens: &[TokenId]) -> Vec<u32> {
    tokens.iter().map(|token| token.0).collect()
}

impl Client {
    /// Asks whoever leads.
    pub(super) fn dial(&mut self, net: &mut Net) {
        let Some(lead) = &self.lead else {
            return;
        };
        let port = net.dial(Node::Client(self.index), coordinator::at(&lead.address));
        let packet = match (self.wish, self.forcing) {
            (Wish::Cancel, _) => Packet::Cancel(self.name()),
            (Wish::Settle, _) => Packet::Settle(self.name()),
            (_, Forcing::Wanted) => self.force(),
            _ => Packet::Follow(Box::new(self.request(net.now))),
        };
        net.send(port, packet);
        (self.stream, self.accepted) = (Some(port), false);
    }

    /// Asks another thing of its lead, and listens to it until that is done.
    pub(super) fn turn(&mut self, net: &mut Net) {
        let stream = self.stream.take();
        if let Some(old) = std::mem::replace(&mut self.old, stream) {
            net.close(old);
        }
        self.dial(net);
    }

    /// The principal and the request id.
    pub(super) fn name(&self) -> (String, String) {
        ("p".into(), format!("r{}", self.index))
    }

    fn force(&self) -> Packet {
        let twist = self.twist.as_ref().expect("there is something to force");
        Packet::Force {
            name: self.name(),
            generated: self.story.tokens[..twist.after].to_vec(),
            tokens: twist.tokens.clone(),
        }
    }

    /// Returns the tokens that a lead is to go on after, and how many of them are fixed.
    fn known(&self) -> (Vec<u32>, u32) {
        let twist = self.twist.as_ref();
        let is_forced = matches!(self.forcing, Forcing::Wanted | Forcing::Told);
        let Some(twist) = twist.filter(|_| is_forced) else {
            return (ids(&self.front), 0);
        };
        let all = &twist.story.tokens;
        let fixed = all.len().min(twist.after + twist.tokens.len());
        let known = match self.front.len() < fixed {
            true => &all[..fixed],
            false => &self.front,
        };
        (ids(known), fixed as u32)
    }

    fn request(&self, now: Duration) -> wire::FollowRequest {
        let (principal, request_id) = self.name();
        let name = wire::SequenceRecord {
            request_id,
            principal,
            ..Default::default()
        };
        let record = match self.submits {
            false => name,
            true => wire::SequenceRecord {
                tokens: ids(&self.prompt),
                sampling: Some(sampling_to_wire(&self.sampling)),
                stop: Some(self.stop.clone()),
                fingerprint: vec![self.index as u8; 32],
                ..name
            },
        };
        let micros = |time: Duration| time.as_micros() as u64;
        let (generated, fixed) = match self.submits {
            false => (Vec::new(), 0),
            true => self.known(),
        };
        wire::FollowRequest {
            record: Some(record),
            attach_only: !self.submits,
            generated,
            tokens_seen: self.front.len() as u32,
            keep_us: self.keep.map(micros),
            deadline_us: self.deadline.map(|at| micros(at.saturating_sub(now))),
            age_us: micros(now - self.begins),
            fixed,
            ..Default::default()
        }
    }
}
