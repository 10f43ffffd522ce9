//! Nodes that stand still and links that are cut, and how the others notice.

use std::time::Duration;

use super::{Event, KEEPALIVE, Net, Node, Port, link};

impl Net {
    /// Stops a process as SIGSTOP does, for a while.
    pub(in crate::lead::simulation) fn pause(&mut self, node: Node, time: Duration) {
        self.paused.insert(node, self.now + time);
        self.suspect(|_, other| other == node);
    }

    pub(super) fn is_paused(&self, node: Node) -> bool {
        self.paused
            .get(&node)
            .is_some_and(|until| *until > self.now)
    }

    pub(in crate::lead::simulation) fn is_cut(&self, one: Node, other: Node) -> bool {
        self.cut.contains(&link(one, other))
    }

    /// Lets nothing through between two nodes.
    pub(in crate::lead::simulation) fn cut(&mut self, one: Node, other: Node) {
        if self.cut.insert(link(one, other)) {
            self.suspect(|a, b| link(a, b) == link(one, other));
        }
    }

    /// Lets through what was held back, and everything from now on.
    pub(in crate::lead::simulation) fn repair(&mut self, one: Node, other: Node) {
        if !self.cut.remove(&link(one, other)) {
            return;
        }
        for stream in 0..self.streams.len() {
            let [a, b] = self.streams[stream].ends;
            if link(a, b) != link(one, other) {
                continue;
            }
            let held = std::mem::take(&mut self.streams[stream].held);
            for (to, packets) in held.into_iter().enumerate() {
                for packet in packets {
                    self.carry(stream, to, packet);
                }
            }
            let half_open = match self.streams[stream].open {
                [true, false] => Some(0),
                [false, true] => Some(1),
                _ => None,
            };
            if let Some(side) = half_open {
                let delay = self.delay();
                let at = self.streams[stream].latest[side].max(self.now + delay);
                self.at(at, Event::Closed(Port { stream, side }));
            }
        }
    }

    /// Ends all partitions.
    pub(in crate::lead::simulation) fn heal(&mut self) {
        for (one, other) in self.cut.clone() {
            self.repair(one, other);
        }
    }

    /// Lets ends of streams notice that the other end (the second node) is silent.
    pub(super) fn suspect(&mut self, which: impl Fn(Node, Node) -> bool) {
        for port in self.open_ports(which) {
            let after = self.silence();
            self.after(after, Event::Expired(port));
        }
    }

    pub(super) fn silence(&mut self) -> Duration {
        self.dice.millis(KEEPALIVE.0, KEEPALIVE.1)
    }
}
