//! A client and its front: it asks for one generation until it has all of it, whoever leads.

mod answers;
mod asks;
mod story;
mod whims;

use std::time::Duration;

use cluster::LeadRecord;
use proto::internal as wire;
use spec::{Sampling, TokenId};

use self::story::{Story, Twist};
use super::counts::Thing;
use super::net::{Event, Net, Node, Port};
use super::packet::Packet;
use super::rules::Rules;

const TICK: Duration = Duration::from_millis(200);

/// What the clients of a simulation begin with alike, so that prefixes are found again.
const SHARED: usize = 20;

/// How long a lead's word that it knows nothing may be older than the end of a stream of its.
const DOUBT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// All of the text.
    Text,
    /// All of it once more.
    Again,
    /// That it ends at once.
    Cancel,
    /// That it ends, as the text has come to its end.
    Settle,
    Nothing,
}

/// How far its front is with forcing tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Forcing {
    /// It has not come to the place.
    No,
    /// Whoever leads is to be told first.
    Wanted,
    /// The lead that it is about to follow was told.
    Told,
    /// It was over before.
    Late,
}

pub(super) struct Client {
    index: usize,
    prompt: Vec<TokenId>,
    sampling: Sampling,
    stop: wire::Stop,
    keep: Option<Duration>,
    deadline: Option<Duration>,
    /// What an undisturbed run gives.
    story: Story,
    twist: Option<Twist>,
    /// After so many tokens the text has come to its end.
    settles: Option<usize>,
    begins: Duration,
    wish: Wish,
    /// What the front has, and what the client has had.
    front: Vec<TokenId>,
    seen: usize,
    forcing: Forcing,
    /// Whether the front sends its record, or asks for what is there.
    submits: bool,
    accepted: bool,
    /// Whether it was away since it was accepted last.
    was_away: bool,
    store: Option<Port>,
    lead: Option<LeadRecord>,
    stream: Option<Port>,
    /// The stream before, until the next one is accepted.
    old: Option<Port>,
    /// A question, and the stream that was followed when it was asked.
    question: Option<(Port, Option<Port>)>,
    /// A stream of a lead that knows nothing of it: until then it has to end.
    doubted: Option<(Port, Duration)>,
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
        let how = (sampling.seed, &stop);
        let story = Story::new(&prompt, &[], how);
        let length = story.tokens.len();
        let twist = (length > 1 && dice.chance(200)).then(|| {
            let after = 1 + dice.below(length - 1);
            let tokens =
                (0..1 + dice.below(3)).map(|_| dice.below(super::VOCABULARY as usize) as u32);
            let tokens = tokens.filter(|token| !stop.stop_tokens.contains(token));
            let tokens: Vec<TokenId> = tokens.map(TokenId).collect();
            let fixed = [&story.tokens[..after], &tokens].concat();
            let story = Story::new(&prompt, &fixed, how);
            Twist {
                after,
                tokens,
                story,
            }
        });
        let twist = twist.filter(|twist| !twist.tokens.is_empty());
        let settles = (twist.is_none() && dice.chance(120)).then(|| 1 + dice.below(length));
        let deadline = dice.chance(150).then(|| begins + dice.millis(2000, 20_000));
        net.start(Node::Client(index), 1);
        net.at(begins, Event::Tick(Node::Client(index)));
        Self {
            index,
            prompt,
            sampling,
            stop,
            keep,
            deadline,
            story,
            twist,
            settles,
            begins,
            wish: Wish::Text,
            front: Vec::new(),
            seen: 0,
            forcing: Forcing::No,
            submits: true,
            accepted: false,
            was_away: false,
            store: None,
            lead: None,
            stream: None,
            old: None,
            question: None,
            doubted: None,
            retry: Duration::ZERO,
            unknown: 0,
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.wish == Wish::Nothing
    }

    /// Says in words what it still waits for.
    pub(super) fn waits(&self) -> String {
        let (index, seen, all) = (self.index, self.seen, self.story.tokens.len());
        format!(
            "client {index} has {seen} of {all} tokens and wants {:?}",
            self.wish
        )
    }

    fn drop_stream(&mut self, net: &mut Net) {
        for stream in [self.stream.take(), self.old.take()].into_iter().flatten() {
            net.close(stream);
        }
        if self.forcing == Forcing::Told {
            self.forcing = Forcing::Wanted;
        }
        self.accepted = false;
    }

    pub(super) fn tick(&mut self, net: &mut Net, rules: &mut Rules) {
        let node = Node::Client(self.index);
        if self.is_over() {
            return;
        }
        net.after(TICK, Event::Tick(node));
        if self.store.is_none() {
            let port = net.dial(node, Node::Store);
            net.send(port, Packet::Watch);
            self.store = Some(port);
        }
        if let Some((stream, until)) = self.doubted
            && net.now > until
        {
            let follows = self.accepted && self.stream == Some(stream);
            assert!(!follows, "{}: its lead knows nothing of it", self.waits());
            self.doubted = None;
        }
        if self.deadline.is_some_and(|deadline| net.now >= deadline) {
            rules.note(Thing::Deadline);
            return self.give_up(net);
        }
        if self.stream.is_none() && net.now >= self.retry {
            self.dial(net);
        }
    }

    /// It wants nothing more.
    fn give_up(&mut self, net: &mut Net) {
        self.drop_stream(net);
        self.wish = Wish::Nothing;
    }

    pub(super) fn closed(&mut self, net: &mut Net, port: Port) {
        if self.store == Some(port) {
            self.store = None;
        } else if self.stream == Some(port) {
            self.drop_stream(net);
            self.retry = net.now + net.dice.millis(50, 1000);
            if self.wish == Wish::Settle {
                // Its lead ends it then as its client's leaving would.
                self.wish = Wish::Nothing;
            }
        }
    }
}
