//! A client and its front: it asks for one generation until it has all of it, whoever leads.

use std::time::Duration;

use cluster::LeadRecord;
use engine::stub::extend;
use proto::internal as wire;
use proto::internal::follow_response::Event as Said;
use spec::{Sampling, TokenId};
use tonic::Code;

use super::net::{Event, Net, Node, Port};
use super::packet::Packet;
use super::rules::Rules;
use crate::wire::sampling_to_wire;

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

    fn id(&self) -> String {
        format!("r{}", self.index)
    }

    fn request(&self, now: Duration) -> wire::FollowRequest {
        let ids = |tokens: &[TokenId]| tokens.iter().map(|token| token.0).collect();
        let name = wire::SequenceRecord {
            request_id: self.id(),
            principal: "p".into(),
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
        wire::FollowRequest {
            record: Some(record),
            attach_only: !self.submits,
            generated: ids(&self.front),
            tokens_seen: self.front.len() as u32,
            keep_us: self.keep.map(|keep| keep.as_micros() as u64),
            age_us: (now - self.begins).as_micros() as u64,
            ..Default::default()
        }
    }

    pub(super) fn hear(&mut self, net: &mut Net, rules: &mut Rules, port: Port, packet: Packet) {
        match packet {
            Packet::Seat(_) if self.store != Some(port) => {}
            Packet::Seat(seat) => {
                if let Some((lead, _)) = seat.lead {
                    let is_other = self.lead.as_ref().is_some_and(|old| old.name != lead.name);
                    self.lead = Some(lead);
                    if is_other {
                        self.retry = net.now;
                    }
                }
            }
            _ if self.stream != Some(port) => {}
            Packet::Event(event) => self.take(net, rules, event.event.expect("events are whole")),
            Packet::Refused(code, reason) => self.refused(net, rules, code, &reason),
            Packet::Cancelled => {
                rules.counts.cancelled += 1;
                self.drop_stream(net);
                self.wish = Wish::Nothing;
            }
            _ => unreachable!("nobody sends this to a client: {packet:?}"),
        }
    }

    fn take(&mut self, net: &mut Net, rules: &mut Rules, event: Said) {
        match event {
            Said::Accepted(_) => {
                assert!(
                    !std::mem::replace(&mut self.accepted, true),
                    "accepted twice"
                );
                rules.counts.resumed += usize::from(self.seen > 0);
                self.submits = false;
            }
            Said::Running(_) => {}
            Said::Tokens(tokens) => {
                let next = self.prompt.len() + self.front.len();
                assert_eq!(tokens.first_position as usize, next, "{}", self.waits());
                let tokens = tokens.tokens.iter().map(|sampled| TokenId(sampled.token));
                self.front.extend(tokens);
                let is_right = self.expected.starts_with(&self.front);
                assert!(
                    is_right,
                    "{}: {:?} {:?}",
                    self.waits(),
                    self.front,
                    self.expected
                );
                self.seen = self.seen.max(self.front.len());
            }
            Said::Finished(finished) => {
                use wire::SequenceEnd::{Length, Stop};
                let is_stop = self.expected.last().map(|last| last.0)
                    == self.stop.stop_tokens.first().copied();
                let expected = if is_stop { Stop } else { Length };
                assert_eq!(finished.reason(), expected, "{}", self.waits());
                assert_eq!(self.front, self.expected, "it ends early");
                self.end(net, rules);
            }
            Said::PromptLogprobs(_) => unreachable!("nobody asks for them"),
        }
    }

    fn end(&mut self, net: &mut Net, rules: &mut Rules) {
        self.drop_stream(net);
        rules.counts.ended += 1;
        if self.wish == Wish::Text && net.dice.chance(300) {
            self.wish = Wish::Again;
            self.lose_front(net);
            self.retry = net.now + net.dice.millis(0, 5000);
        } else {
            self.wish = Wish::Nothing;
        }
    }

    fn refused(&mut self, net: &mut Net, rules: &mut Rules, code: Code, reason: &str) {
        self.drop_stream(net);
        rules.counts.refused += 1;
        match code {
            // It is submitted, with what the front has.
            Code::NotFound if self.wish != Wish::Cancel => self.submits = true,
            // It was never there, or has ended and was forgotten with its lead.
            Code::NotFound if self.unknown == 5 => self.wish = Wish::Nothing,
            Code::NotFound | Code::Unavailable | Code::ResourceExhausted => {
                if reason == crate::status::reason::GROUP_INCOMPLETE {
                    // The front gives up, too: the client repeats its call.
                    self.front.clear();
                    self.submits = true;
                }
                self.unknown += usize::from(code == Code::NotFound);
                self.retry = net.now + net.dice.millis(100, 1000);
            }
            _ => panic!("{}, and is refused with {code:?} {reason}", self.waits()),
        }
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

/// Returns the output of an undisturbed run.
fn oracle(prompt: &[TokenId], seed: u64, stop: &wire::Stop) -> Vec<TokenId> {
    let mut history = prompt
        .iter()
        .fold(0, |history, token| extend(history, *token));
    let mut output = Vec::new();
    let room = super::MAX_CONTEXT - prompt.len();
    while output.len() < room.min(stop.max_tokens as usize) {
        let token = super::MODEL.sample(history, seed);
        history = extend(history, token);
        output.push(token);
        if stop.stop_tokens.contains(&token.0) {
            break;
        }
    }
    output
}
