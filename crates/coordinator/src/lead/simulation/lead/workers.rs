//! A lead's streams of workers: those that attend, and those of an epoch.

use cluster::{Event as Group, Registration};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::{Lead, Member, Net, Node, Order, Packet, Port, Rules, Session, Thing, nothing};
use crate::lead::message::{Message, Orders, Register};
use crate::lead::simulation::coordinator;
use crate::lead::step_loop::Heard;

impl Lead {
    pub(super) fn register(
        &mut self,
        net: &mut Net,
        rules: &mut Rules,
        port: Port,
        registration: Registration,
    ) {
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

    pub(super) fn beat(&mut self, net: &mut Net, rules: &mut Rules, port: Port, draining: bool) {
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

    pub(super) fn hear_member(
        &mut self,
        net: &mut Net,
        rules: &mut Rules,
        port: Port,
        packet: Packet,
    ) {
        let Some(member) = self.members.get_mut(&port) else {
            return;
        };
        let (fence, name) = (member.fence, member.name.clone());
        let message = match packet {
            Packet::Left(left) => {
                rules.note(Thing::Collected);
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
                rules.note(Thing::Overtaken);
                Message::Group(Group::Overtaken { fence, name, why })
            }
            Packet::Said(said) => Message::Worker { fence, name, said },
            _ => unreachable!("nobody sends this to a lead: {packet:?}"),
        };
        self.tell(net, rules, Heard::Message(message));
    }

    pub(super) fn answer(&self, net: &mut Net, port: Port) {
        if let Some(session) = self.sessions.get(&port) {
            let released = session.orders.release.is_cancelled();
            net.send(port, Packet::Answer { released });
        }
    }

    pub(super) fn obey(&mut self, net: &mut Net, rules: &mut Rules, order: Order) {
        match order {
            Order::Prepare(plan) => {
                rules.plans(&plan, self.me);
                self.plan = Some(plan.clone());
                if !self.has_served {
                    rules.first = Some((self.me, plan.clone()));
                }
                for (member, _) in &plan.members {
                    let index = member.name[1..].parse().expect("workers are numbered");
                    let port = net.dial(Node::Coordinator(self.me.0), Node::Worker(index));
                    let plan = plan.clone();
                    let (fence, name, since) = (plan.fence, member.name.clone(), net.now);
                    let lead = coordinator::lead_id(self.me);
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
