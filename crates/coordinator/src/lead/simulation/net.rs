//! The made-up network and its clock: nodes, links between them, streams over the links.
//!
//! A stream behaves as one of HTTP/2 over TCP does: what is sent arrives in order after a while, or the
//! stream breaks. A link that is cut holds everything back; who is cut off notices it by keepalives. Some
//! messages stray: they come twice, or late.

mod failures;
mod streams;

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
    /// Messages in a thousand that take long, and how many milliseconds at most.
    slow: (usize, u64),
    /// Bids that came late.
    pub(super) late_bids: usize,
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
            slow: [(20, 600), (20, 600), (20, 600), (150, 1500)][dice.below(4)],
            late_bids: 0,
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
}

fn link(one: Node, other: Node) -> (Node, Node) {
    (one.min(other), one.max(other))
}
