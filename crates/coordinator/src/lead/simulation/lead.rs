//! What joins a step loop to its workers and followers: streams in and out.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use cluster::Event as Group;
use proto::internal as wire;
use spec::{Fence, Term};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::Stream as _;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::net::{Net, Node, Port};
use super::orders::{Order, Outbox};
use super::packet::Packet;
use super::rules::Rules;
use crate::lead::convert::{self, Vocabulary};
use crate::lead::follow::EventStream;
use crate::lead::ledger::Name;
use crate::lead::log::End;
use crate::lead::message::{Ask, Message, Orders, Register};
use crate::lead::step_loop::{Heard, StepLoop};
use crate::{limits, status};

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
}

impl Lead {
    pub(super) fn new(net: &Net, me: (usize, u64), (num_ranks, term): (usize, Term)) -> Self {
        let outbox = Outbox::default();
        let (step_loop, outranked, gone) =
            super::orders::begin(&outbox, num_ranks, (term, super::coordinator::lead_id(me)));
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
        }
    }

    /// Goes on in a higher term.
    pub(super) fn raise(&mut self, net: &mut Net, rules: &mut Rules, term: Term) {
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
            Packet::Register(registration) => {
                self.last_session += 1;
                let (orders, number) = (Orders::new(CancellationToken::new()), self.last_session);
                let (reply, mut answer) = oneshot::channel();
                let name = registration.name.clone();
                let is_draining = registration.draining;
                let register = Message::Register(Box::new(Register {
                    registration,
                    session: number,
                    orders: orders.clone(),
                    reply,
                }));
                let heard = net.now;
                self.tell(net, rules, Heard::Message(register));
                match answer.try_recv().expect("it answers at once") {
                    Ok(_) => {
                        let session = Session {
                            name,
                            number,
                            orders,
                            heard,
                            is_draining,
                        };
                        self.sessions.insert(port, session);
                        self.answer(net, port);
                    }
                    Err(cluster::Refused::NameTaken { .. }) => net.send(port, Packet::NameTaken),
                    Err(refused) => panic!("a worker that fits was refused: {refused}"),
                }
                // It may have been sent away or released in the very same moment.
                self.tell(net, rules, Heard::Message(nothing()));
            }
            Packet::Beat { draining } => {
                let Some(session) = self.sessions.get_mut(&port) else {
                    return;
                };
                session.heard = net.now;
                let is_news = draining && !std::mem::replace(&mut session.is_draining, draining);
                let (name, session) = (session.name.clone(), session.number);
                self.answer(net, port);
                if is_news {
                    let message = Message::Draining { name, session };
                    self.tell(net, rules, Heard::Message(message));
                }
            }
            Packet::Follow(request) => self.follow(net, rules, port, *request),
            Packet::Cancel { principal, id } => {
                let name = convert::name(principal, id).expect("names are short");
                let (reply, mut answer) = oneshot::channel();
                let ask = Ask::Stop(name, End::Cancelled, reply);
                self.tell(net, rules, Heard::Message(Message::Ask(ask)));
                match answer.try_recv().expect("it answers at once") {
                    Ok(_) => net.send(port, Packet::Cancelled),
                    Err(status) => refuse(net, port, &status),
                }
            }
            packet => self.hear_member(net, rules, port, packet),
        }
    }

    fn hear_member(&mut self, net: &mut Net, rules: &mut Rules, port: Port, packet: Packet) {
        let Some(member) = self.members.get_mut(&port) else {
            return;
        };
        let (fence, name) = (member.fence, member.name.clone());
        let message = match packet {
            Packet::Left(left) => {
                rules.counts.collected += 1;
                Message::Collected(left)
            }
            Packet::Ready(kept_kv, stepped) => {
                member.is_ready = true;
                self.tell(net, rules, Heard::Message(Message::Stepped(stepped)));
                Message::Group(Group::Prepared {
                    fence,
                    name,
                    kept_kv,
                })
            }
            Packet::Overtaken(why) => {
                self.members.remove(&port);
                rules.counts.overtaken += 1;
                Message::Group(Group::Overtaken { fence, name, why })
            }
            Packet::Said(said) => Message::Worker { fence, name, said },
            _ => unreachable!("nobody sends this to a lead: {packet:?}"),
        };
        self.tell(net, rules, Heard::Message(message));
    }

    fn follow(
        &mut self,
        net: &mut Net,
        rules: &mut Rules,
        port: Port,
        request: wire::FollowRequest,
    ) {
        let vocabulary = Vocabulary {
            size: super::VOCABULARY as usize,
            max_context: super::MAX_CONTEXT,
        };
        let follow = convert::follow(request, &vocabulary).expect("clients ask for what can be");
        let (reply, mut answer) = oneshot::channel();
        let ask = Ask::Follow(Box::new(follow), reply);
        self.tell(net, rules, Heard::Message(Message::Ask(ask)));
        match answer.try_recv().expect("it answers at once") {
            Ok(follower) => {
                let mut follower = EventStream::new(follower);
                if read(net, port, &mut follower) {
                    self.followers.insert(port, follower);
                }
            }
            Err(status) => refuse(net, port, &status),
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

    fn answer(&self, net: &mut Net, port: Port) {
        if let Some(session) = self.sessions.get(&port) {
            let released = session.orders.release.is_cancelled();
            net.send(port, Packet::Answer { released });
        }
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
    }

    fn obey(&mut self, net: &mut Net, rules: &mut Rules, order: Order) {
        match order {
            Order::Prepare(plan) => {
                rules.plans(&plan, self.me);
                for (member, _) in &plan.members {
                    let index = member.name[1..].parse().expect("workers are numbered");
                    let port = net.dial(Node::Coordinator(self.me.0), Node::Worker(index));
                    let plan = plan.clone();
                    let (fence, name, since) = (plan.fence, member.name.clone(), net.now);
                    let lead = super::coordinator::lead_id(self.me);
                    net.send(port, Packet::Prepare { plan, lead });
                    let member = Member {
                        name,
                        fence,
                        since,
                        is_ready: false,
                    };
                    self.members.insert(port, member);
                }
            }
            Order::Parts(name, parts) => {
                let mut members = self.members.iter();
                if let Some((port, _)) = members.find(|(_, member)| member.name == name) {
                    net.send(*port, *parts);
                }
            }
            Order::End => {
                for port in std::mem::take(&mut self.members).into_keys() {
                    net.close(port);
                }
            }
        }
    }
}

/// A message that changes nothing, so that the loop looks at what it has.
fn nothing() -> Message {
    Message::Left {
        name: String::new(),
        session: 0,
    }
}

/// Sends a follower what there is for it; returns whether there will be more.
fn read(net: &mut Net, port: Port, follower: &mut EventStream) -> bool {
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match Pin::new(&mut *follower).poll_next(&mut context) {
            Poll::Pending => return true,
            Poll::Ready(Some(Ok(event))) => net.send(port, Packet::Event(event)),
            Poll::Ready(Some(Err(status))) => {
                refuse(net, port, &status);
                return false;
            }
            Poll::Ready(None) => {
                net.close(port);
                return false;
            }
        }
    }
}

fn refuse(net: &mut Net, port: Port, status: &Status) {
    let reason = status::reason_of(status).unwrap_or_default();
    net.send(port, Packet::Refused(status.code(), reason));
    net.close(port);
}
