//! Streams: opened, written to, closed; and how long all that takes.

use std::time::Duration;

use super::{CONNECT, Event, Net, Node, Port, Stream, link};
use crate::lead::simulation::packet::Packet;

/// Transactions in a thousand that are decided long after they were asked for, be it that nobody waits
/// for them any more.
const LATE_BIDS: usize = 60;

/// Plans in a thousand that come when another lead's may have come already.
const LATE_PLANS: usize = 150;

impl Net {
    pub(super) fn delay(&mut self) -> Duration {
        let (often, most) = self.slow;
        match self.dice.chance(often) {
            true => self.dice.millis(50, most),
            false => self.dice.millis(1, 20),
        }
    }

    /// Says whether many messages take long.
    pub(in crate::lead::simulation) fn is_slow(&self) -> bool {
        self.slow.0 > 100
    }

    /// Opens a stream; where that fails the stream is closed after a while.
    pub(in crate::lead::simulation) fn dial(&mut self, from: Node, to: Node) -> Port {
        let (now, lives) = (self.now, self.lives.contains_key(&to));
        let reaches = lives && !self.is_cut(from, to);
        self.streams.push(Stream {
            ends: [from, to],
            open: [true, reaches],
            latest: [now, now],
            held: Default::default(),
        });
        let stream = self.streams.len() - 1;
        let port = Port { stream, side: 0 };
        if !reaches {
            let after = if lives { CONNECT } else { self.delay() };
            self.after(after, Event::Closed(port));
        } else if self.is_paused(to) {
            let after = self.silence();
            self.after(after, Event::Expired(port));
        }
        port
    }

    /// Sends a message, if this end is still open.
    pub(in crate::lead::simulation) fn send(&mut self, from: Port, packet: Packet) {
        let to = 1 - from.side;
        let stream = &mut self.streams[from.stream];
        if !stream.open[from.side] || !stream.open[to] {
            return;
        }
        let [one, other] = stream.ends;
        if self.cut.contains(&link(one, other)) {
            self.streams[from.stream].held[to].push(packet);
            return;
        }
        self.carry(from.stream, to, packet);
    }

    pub(super) fn carry(&mut self, stream: usize, to: usize, packet: Packet) {
        let port = Port { stream, side: to };
        let mut at = self.now + self.delay();
        if matches!(packet, Packet::Prepare { .. }) && self.dice.chance(LATE_PLANS) {
            at += self.dice.millis(300, 3000);
        }
        let may_stray = packet.may_stray();
        if may_stray && self.dice.chance(self.stray) {
            let late = at + self.dice.millis(1, 300);
            self.at(late, Event::Packet(port, packet.clone()));
        }
        if matches!(packet, Packet::Txn(_)) && self.dice.chance(LATE_BIDS) {
            at += self.dice.millis(500, 12_000);
            self.late_bids += 1;
        } else if may_stray && self.dice.chance(self.stray) {
            at += self.dice.millis(1, 300);
        } else {
            let latest = &mut self.streams[stream].latest[to];
            at = at.max(*latest);
            *latest = at;
        }
        self.at(at, Event::Packet(port, packet));
    }

    /// Closes this end; the other one hears of it, unless the link is cut.
    pub(in crate::lead::simulation) fn close(&mut self, port: Port) {
        let delay = self.delay();
        let stream = &mut self.streams[port.stream];
        stream.open[port.side] = false;
        let side = 1 - port.side;
        let [one, other] = stream.ends;
        if !stream.open[side] || self.cut.contains(&link(one, other)) {
            return;
        }
        let at = stream.latest[side].max(self.now + delay);
        let stream = port.stream;
        self.at(at, Event::Closed(Port { stream, side }));
    }

    pub(in crate::lead::simulation) fn is_open(&self, port: Port) -> bool {
        self.streams[port.stream].open[port.side]
    }

    /// Lists open ends by whose they are and who is at the other.
    pub(super) fn open_ports(&self, which: impl Fn(Node, Node) -> bool) -> Vec<Port> {
        let ports = self.streams.iter().enumerate().flat_map(|(stream, all)| {
            let sides = (0..2).filter(|side| all.open[*side]);
            let sides = sides.filter(|side| which(all.ends[*side], all.ends[1 - *side]));
            sides
                .map(move |side| Port { stream, side })
                .collect::<Vec<_>>()
        });
        ports.collect()
    }
}
