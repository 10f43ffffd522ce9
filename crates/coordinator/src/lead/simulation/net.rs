//! The made-up network and its clock: nodes, links between them, streams over the links.
//!
//! A stream behaves as one of HTTP/2 over TCP does: what is sent arrives in order after a while, or the
//! stream breaks. A link that is cut holds everything back; who is cut off notices it by keepalives. Some
//! messages stray: they come twice, or late.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::dice::Dice;
use super::faults::Fault;
use super::packet::Packet;

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Node {
    Store,
    Coordinator(usize),
    Worker(usize),
    Client(usize),
}

/// One end of a stream; side 0 is who dialled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Port {
    stream: usize,
    side: usize,
}

/// Something that is about to happen.
#[derive(Debug)]
pub(super) enum Event {
    /// A message comes.
    Packet(Port, Packet),
    /// The other end is gone.
    Closed(Port),
    /// Time has passed for a node.
    Tick(Node),
    /// Something that a worker works on is done.
    Done(usize, u64),
    Fault(Fault),
    /// Nothing was heard through a stream for too long.
    Expired(Port),
}

struct Stream {
    ends: [Node; 2],
    open: [bool; 2],
    /// When the last message to each side comes.
    latest: [Duration; 2],
    /// What waits for a cut link.
    held: [Vec<Packet>; 2],
}

/// How long a connection may take, and how long a stream may be silent, at most.
const CONNECT: Duration = Duration::from_secs(2);
const KEEPALIVE: (u64, u64) = (3000, 5000);

pub(super) struct Net {
    pub(super) now: Duration,
    pub(super) dice: Dice,
    /// Messages in a thousand that come twice, and that come late.
    pub(super) stray: usize,
    queue: BTreeMap<(Duration, u64), Event>,
    number: u64,
    streams: Vec<Stream>,
    cut: BTreeSet<(Node, Node)>,
    /// Which start of each live node.
    lives: BTreeMap<Node, u64>,
    paused: BTreeMap<Node, Duration>,
}

impl Net {
    pub(super) fn new(mut dice: Dice) -> Self {
        Self {
            now: Duration::ZERO,
            stray: [0, 1, 3, 10][dice.below(4)],
            dice,
            queue: BTreeMap::new(),
            number: 0,
            streams: Vec::new(),
            cut: BTreeSet::new(),
            lives: BTreeMap::new(),
            paused: BTreeMap::new(),
        }
    }

    /// Takes out what happens next. A node that stands still gets to it later.
    pub(super) fn next(&mut self) -> Option<Event> {
        loop {
            let ((at, _), event) = self.queue.pop_first()?;
            self.now = at;
            let node = match &event {
                Event::Packet(port, _) | Event::Closed(port) => {
                    if !self.streams[port.stream].open[port.side] {
                        continue;
                    }
                    self.node(*port)
                }
                Event::Expired(port) => {
                    let stream = &self.streams[port.stream];
                    let other = stream.ends[1 - port.side];
                    let is_silent = self.is_cut(other, self.node(*port)) || self.is_paused(other);
                    if !stream.open[port.side] || !is_silent {
                        continue;
                    }
                    self.node(*port)
                }
                Event::Tick(node) => *node,
                Event::Done(worker, _) => Node::Worker(*worker),
                Event::Fault(_) => return Some(event),
            };
            if let Some(until) = self.paused.get(&node).copied().filter(|until| *until > at) {
                self.at(until, event);
                continue;
            }
            let closed = match event {
                Event::Expired(port) | Event::Closed(port) => port,
                other => return Some(other),
            };
            self.close(closed);
            return Some(Event::Closed(closed));
        }
    }

    pub(super) fn at(&mut self, at: Duration, event: Event) {
        self.number += 1;
        self.queue.insert((at, self.number), event);
    }

    pub(super) fn after(&mut self, time: Duration, event: Event) {
        self.at(self.now + time, event);
    }

    fn delay(&mut self) -> Duration {
        match self.dice.chance(20) {
            true => self.dice.millis(50, 600),
            false => self.dice.millis(1, 20),
        }
    }

    /// Opens a stream; where that fails the stream is closed after a while.
    pub(super) fn dial(&mut self, from: Node, to: Node) -> Port {
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
    pub(super) fn send(&mut self, from: Port, packet: Packet) {
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

    fn carry(&mut self, stream: usize, to: usize, packet: Packet) {
        let port = Port { stream, side: to };
        let mut at = self.now + self.delay();
        let may_stray = packet.may_stray();
        if may_stray && self.dice.chance(self.stray) {
            let late = at + self.dice.millis(1, 300);
            self.at(late, Event::Packet(port, packet.clone()));
        }
        if may_stray && self.dice.chance(self.stray) {
            at += self.dice.millis(1, 300);
        } else {
            let latest = &mut self.streams[stream].latest[to];
            at = at.max(*latest);
            *latest = at;
        }
        self.at(at, Event::Packet(port, packet));
    }

    /// Closes this end; the other one hears of it, unless the link is cut.
    pub(super) fn close(&mut self, port: Port) {
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

    pub(super) fn is_open(&self, port: Port) -> bool {
        self.streams[port.stream].open[port.side]
    }

    /// Returns whose end it is.
    pub(super) fn node(&self, port: Port) -> Node {
        self.streams[port.stream].ends[port.side]
    }

    /// Returns who is at the other end.
    pub(super) fn peer(&self, port: Port) -> Node {
        self.streams[port.stream].ends[1 - port.side]
    }

    /// Starts a process.
    pub(super) fn start(&mut self, node: Node, incarnation: u64) {
        self.lives.insert(node, incarnation);
    }

    pub(super) fn lives(&self, node: Node) -> bool {
        self.lives.contains_key(&node)
    }

    /// Ends a process: all its streams are closed by its system.
    pub(super) fn kill(&mut self, node: Node) {
        self.lives.remove(&node);
        self.paused.remove(&node);
        let mine = |event: &Event| match event {
            Event::Tick(of) => *of == node,
            Event::Done(worker, _) => Node::Worker(*worker) == node,
            _ => false,
        };
        self.queue.retain(|_, event| !mine(event));
        for port in self.open_ports(|one, _| one == node) {
            self.close(port);
        }
    }

    /// Stops a process as SIGSTOP does, for a while.
    pub(super) fn pause(&mut self, node: Node, time: Duration) {
        self.paused.insert(node, self.now + time);
        self.suspect(|_, other| other == node);
    }

    fn is_paused(&self, node: Node) -> bool {
        self.paused
            .get(&node)
            .is_some_and(|until| *until > self.now)
    }

    pub(super) fn is_cut(&self, one: Node, other: Node) -> bool {
        self.cut.contains(&link(one, other))
    }

    /// Lets nothing through between two nodes.
    pub(super) fn cut(&mut self, one: Node, other: Node) {
        if self.cut.insert(link(one, other)) {
            self.suspect(|a, b| link(a, b) == link(one, other));
        }
    }

    /// Lets through what was held back, and everything from now on.
    pub(super) fn repair(&mut self, one: Node, other: Node) {
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
    pub(super) fn heal(&mut self) {
        for (one, other) in self.cut.clone() {
            self.repair(one, other);
        }
    }

    /// Lets ends of streams notice that the other end (the second node) is silent.
    fn suspect(&mut self, which: impl Fn(Node, Node) -> bool) {
        for port in self.open_ports(which) {
            let after = self.silence();
            self.after(after, Event::Expired(port));
        }
    }

    fn silence(&mut self) -> Duration {
        self.dice.millis(KEEPALIVE.0, KEEPALIVE.1)
    }

    /// Lists open ends by whose they are and who is at the other.
    fn open_ports(&self, which: impl Fn(Node, Node) -> bool) -> Vec<Port> {
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

fn link(one: Node, other: Node) -> (Node, Node) {
    (one.min(other), one.max(other))
}
