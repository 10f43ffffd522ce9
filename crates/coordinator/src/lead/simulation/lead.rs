//! What joins a step loop to its workers and followers: streams in and out.

mod fronts;
mod look;
mod workers;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use cluster::{EpochPlan, Event as Group};
use proto::internal as wire;
use spec::{Fence, Term};
use tokio::sync::{mpsc, watch};

use self::fronts::read;
use super::Group as Setting;
use super::counts::Thing;
use super::net::{Net, Node, Port};
use super::orders::{Order, Outbox};
use super::packet::Packet;
use super::rules::{Rules, Seen};
use crate::lead::follow::EventStream;
use crate::lead::ledger::Name;
use crate::lead::message::{Message, Orders};
use crate::lead::step_loop::{Heard, StepLoop};
use crate::limits;

/// A worker that attends.
struct Session {
    name: String,
    number: u64,
    orders: Orders,
    heard: Duration,
    is_draining: bool,
}

/// A worker of an epoch.
struct Member {
    name: String,
    fence: Fence,
    since: Duration,
    is_ready: bool,
}

pub(super) struct Lead {
    me: (usize, u64),
    began: Duration,
    step_loop: StepLoop,
    outbox: Outbox,
    outranked: watch::Receiver<Term>,
    gone: mpsc::UnboundedReceiver<(Name, u64)>,
    sessions: BTreeMap<Port, Session>,
    members: BTreeMap<Port, Member>,
    followers: BTreeMap<Port, EventStream>,
    last_session: u64,
    /// What it says of its group.
    state: watch::Receiver<wire::WatchResponse>,
    has_served: bool,
    plan: Option<Arc<EpochPlan>>,
    /// How generations stood when they were looked at last, by client.
    seen: BTreeMap<usize, Seen>,
    /// When that was last something else.
    changed: BTreeMap<usize, Duration>,
    /// Which one is submitted in this moment.
    submitted: Option<usize>,
    /// Into which one tokens are forced in this moment.
    forced: Option<usize>,
    /// The latest deadline of each generation.
    deadlines: BTreeMap<usize, Duration>,
}

impl Lead {
    pub(super) fn new(net: &Net, me: (usize, u64), (setting, term): (Setting, Term)) -> Self {
        let outbox = Outbox::default();
        let super::orders::Begun {
            step_loop,
            outranked,
            gone,
            state,
        } = super::orders::begin(&outbox, setting, (term, super::coordinator::lead_id(me)));
        Self {
            me,
            began: net.now,
            step_loop,
            outbox,
            outranked,
            gone,
            sessions: BTreeMap::new(),
            members: BTreeMap::new(),
            followers: BTreeMap::new(),
            last_session: 0,
            state,
            has_served: false,
            plan: None,
            seen: BTreeMap::new(),
            changed: BTreeMap::new(),
            submitted: None,
            forced: None,
            deadlines: BTreeMap::new(),
        }
    }

    /// Goes on in a higher term.
    pub(super) fn raise(&mut self, net: &mut Net, rules: &mut Rules, term: Term) {
        rules.note(Thing::Raised);
        self.tell(
            net,
            rules,
            Heard::Message(Message::Group(Group::Raised(term))),
        );
    }

    /// Returns the term that a worker has obeyed, if that is news.
    pub(super) fn outranked(&mut self) -> Option<Term> {
        let is_news = self.outranked.has_changed().unwrap_or_default();
        is_news.then(|| *self.outranked.borrow_and_update())
    }

    /// Ends it in order.
    pub(super) fn end(mut self, net: &mut Net) {
        let ended = self.step_loop.end(net.now - self.began);
        assert_eq!(ended, Ok(()), "no worker refuses the plan");
        for (port, follower) in &mut self.followers {
            read(net, *port, follower);
        }
        let ports = self.sessions.keys().chain(self.members.keys());
        for port in ports.chain(self.followers.keys()) {
            net.close(*port);
        }
    }

    pub(super) fn tick(&mut self, net: &mut Net, rules: &mut Rules) {
        let now = net.now;
        if let Some(due) = self.step_loop.next_due()
            && now - self.began >= due
        {
            self.tell(net, rules, Heard::Due);
        }
        self.check_deadlines(now);
        let silent = |(port, session): (&Port, &Session)| {
            (now > session.heard + limits::LEASE).then_some(*port)
        };
        let silent: Vec<Port> = self.sessions.iter().filter_map(silent).collect();
        for port in silent {
            net.close(port);
            self.closed(net, rules, port);
        }
        let slow = |(port, member): (&Port, &Member)| {
            let is_slow = !member.is_ready && now > member.since + limits::PREPARE_SILENCE;
            is_slow.then_some(*port)
        };
        let slow: Vec<Port> = self.members.iter().filter_map(slow).collect();
        for port in slow {
            net.close(port);
            self.closed(net, rules, port);
        }
        self.tell(net, rules, Heard::Tick);
    }

    pub(super) fn hear(&mut self, net: &mut Net, rules: &mut Rules, port: Port, packet: Packet) {
        match packet {
            Packet::Register(registration) => self.register(net, rules, port, registration),
            Packet::Beat { draining } => self.beat(net, rules, port, draining),
            Packet::Follow(request) => self.follow(net, rules, port, *request),
            Packet::Cancel(_) | Packet::Settle(_) | Packet::Get(_) | Packet::Force { .. } => {
                self.question(net, rules, port, packet)
            }
            packet => self.hear_member(net, rules, port, packet),
        }
    }

    pub(super) fn closed(&mut self, net: &mut Net, rules: &mut Rules, port: Port) {
        let message = if let Some(session) = self.sessions.remove(&port) {
            let (name, session) = (session.name, session.number);
            Message::Left { name, session }
        } else if let Some(member) = self.members.remove(&port) {
            let (fence, name, why) = (member.fence, member.name, "it is gone".to_owned());
            match member.is_ready {
                true => Message::Broken { fence, name, why },
                false => Message::Group(Group::PrepareFailed { fence, name, why }),
            }
        } else {
            self.followers.remove(&port);
            nothing()
        };
        self.tell(net, rules, Heard::Message(message));
    }

    /// Tells the step loop, and does all that follows from it.
    fn tell(&mut self, net: &mut Net, rules: &mut Rules, heard: Heard) {
        self.step_loop.on(heard, net.now - self.began);
        loop {
            while let Some(order) = self.outbox.take() {
                self.obey(net, rules, order);
            }
            let Ok((name, follower)) = self.gone.try_recv() else {
                break;
            };
            let gone = Heard::Gone(name, follower);
            self.step_loop.on(gone, net.now - self.began);
        }
        assert_eq!(self.step_loop.hopeless(), None);
        let told: Vec<Port> = self.sessions.keys().copied().collect();
        for port in told {
            let orders = &self.sessions[&port].orders;
            if orders.evict.is_cancelled() {
                self.sessions.remove(&port);
                net.close(port);
            } else if orders.release.is_cancelled() {
                self.answer(net, port);
            }
        }
        self.followers
            .retain(|port, follower| read(net, *port, follower));
        self.look(rules, net.now);
    }
}

/// A message that changes nothing, so that the loop looks at what it has.
fn nothing() -> Message {
    Message::Left {
        name: String::new(),
        session: 0,
    }
}
