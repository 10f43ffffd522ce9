//! A client and its front: it asks for one generation until it has all of it, whoever leads.

mod answers;
mod asks;
mod oracle;

use std::time::Duration;

use cluster::LeadRecord;
use proto::internal as wire;
use spec::{Sampling, TokenId};

use self::oracle::oracle;
use super::net::{Event, Net, Node, Port};
use super::packet::Packet;
use super::rules::Rules;

const TICK: Duration = Duration::from_millis(200);

/// What the clients of a simulation begin with alike, so that prefixes are found again.
const SHARED: usize = 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// All of the text.
    Text,
    /// All of it once more.
    Again,
    /// That it ends at once.
    Cancel,
    Nothing,
}

pub(super) struct Client {
    index: usize,
    prompt: Vec<TokenId>,
    sampling: Sampling,
    stop: wire::Stop,
    keep: Option<Duration>,
    /// What an undisturbed run gives.
    expected: Vec<TokenId>,
    begins: Duration,
    wish: Wish,
    /// What the front has, and what the client has had.
    front: Vec<TokenId>,
    seen: usize,
    /// Whether the front sends its record, or asks for what is there.
    submits: bool,
    accepted: bool,
    store: Option<Port>,
    lead: Option<LeadRecord>,
    stream: Option<Port>,
    retry: Duration,
    /// How often in a row nobody has known of it.
    unknown: usize,
}

impl Client {
    pub(super) fn new(net: &mut Net, index: usize, within: (u64, u64)) -> Self {
        let (now, dice) = (net.now, &mut net.dice);
        let shared = dice.below(SHARED);
        let own = 1 + dice.below(12);
        let token = |seed: usize| TokenId((seed * 7 % super::VOCABULARY as usize) as u32);
        let mut prompt: Vec<TokenId> = (0..shared).map(token).collect();
        prompt.extend((0..own).map(|at| token(at + 31 * index)));
        let stop = wire::Stop {
            max_tokens: 1 + dice.below(40) as u32,
            stop_tokens: vec![dice.below(super::VOCABULARY as usize) as u32],
        };
        let sampling = Sampling {
            seed: dice.below(1000) as u64,
            ..Sampling::default()
        };
        let keep = dice.chance(500).then_some(Duration::from_secs(30));
        let begins = now + dice.millis(within.0, within.1);
        let expected = oracle(&prompt, sampling.seed, &stop);
        net.start(Node::Client(index), 1);
        net.at(begins, Event::Tick(Node::Client(index)));
        Self {
            index,
            prompt,
            sampling,
            stop,
            keep,
            expected,
            begins,
            wish: Wish::Text,
            front: Vec::new(),
            seen: 0,
            submits: true,
            accepted: false,
            store: None,
            lead: None,
            stream: None,
            retry: Duration::ZERO,
            unknown: 0,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.wish == Wish::Nothing
    }

    /// Says in words what it still waits for.
    pub(super) fn waits(&self) -> String {
        let (index, seen, all) = (self.index, self.seen, self.expected.len());
        format!(
            "client {index} has {seen} of {all} tokens and wants {:?}",
            self.wish
        )
    }

    /// Its front dies: another one knows nothing.
    pub(super) fn lose_front(&mut self, net: &mut Net) {
        self.drop_stream(net);
        self.front.clear();
        self.submits = true;
    }

    /// It wants no more of it.
    pub(super) fn cancel(&mut self, net: &mut Net) {
        if self.wish == Wish::Text && net.now > self.begins {
            self.drop_stream(net);
            self.wish = Wish::Cancel;
        }
    }

    fn drop_stream(&mut self, net: &mut Net) {
        if let Some(stream) = self.stream.take() {
            net.close(stream);
        }
    }

    pub(super) fn tick(&mut self, net: &mut Net) {
        let node = Node::Client(self.index);
        if self.is_over() {
            return;
        }
        net.after(TICK, Event::Tick(node));
        if self.store.is_none() {
            let store = net.dial(node, Node::Store);
            net.send(store, Packet::Watch);
            self.store = Some(store);
        }
        if self.stream.is_none() && net.now >= self.retry {
            self.ask(net);
        }
    }

    fn ask(&mut self, net: &mut Net) {
        let Some(lead) = &self.lead else {
            return;
        };
        let port = net.dial(
            Node::Client(self.index),
            super::coordinator::at(&lead.address),
        );
        let packet = match self.wish {
            Wish::Cancel => Packet::Cancel {
                principal: "p".into(),
                id: self.id(),
            },
            _ => Packet::Follow(Box::new(self.request(net.now))),
        };
        net.send(port, packet);
        (self.stream, self.accepted) = (Some(port), false);
    }

    pub(super) fn closed(&mut self, net: &mut Net, port: Port) {
        if self.store == Some(port) {
            self.store = None;
        } else if self.stream == Some(port) {
            self.stream = None;
            self.retry = net.now + net.dice.millis(50, 1000);
        }
    }
}
