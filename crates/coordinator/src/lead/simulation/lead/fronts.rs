//! A lead's streams of fronts: followers, and questions.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use proto::internal as wire;
use tokio::sync::oneshot;
use tokio_stream::Stream as _;
use tonic::Status;

use super::{Lead, Name, Net, Packet, Port, Rules};
use crate::lead::convert::{self, Vocabulary};
use crate::lead::follow::EventStream;
use crate::lead::log::End;
use crate::lead::message::{Ask, Message};
use crate::lead::simulation::{MAX_CONTEXT, VOCABULARY};
use crate::lead::step_loop::Heard;
use crate::status;

impl Lead {
    pub(super) fn follow(
        &mut self,
        net: &mut Net,
        rules: &mut Rules,
        port: Port,
        request: wire::FollowRequest,
    ) {
        let vocabulary = Vocabulary {
            size: VOCABULARY as usize,
            max_context: MAX_CONTEXT,
        };
        let follow = convert::follow(request, &vocabulary).expect("clients ask for what can be");
        let client = follow.name.request_id[1..]
            .parse()
            .expect("clients are numbered");
        self.submitted = follow.record.is_some().then_some(client);
        let left = follow.terms.deadline;
        let (reply, mut answer) = oneshot::channel();
        let ask = Ask::Follow(Box::new(follow), reply);
        self.tell(net, rules, Heard::Message(Message::Ask(ask)));
        match answer.try_recv().expect("it answers at once") {
            Ok(follower) => {
                if let Some(left) = left {
                    let deadline = self.deadlines.entry(client).or_default();
                    *deadline = (*deadline).max(net.now + left);
                }
                let mut follower = EventStream::new(follower);
                if read(net, port, &mut follower) {
                    self.followers.insert(port, follower);
                }
            }
            Err(status) => refuse(net, port, &status),
        }
    }

    /// Answers what is not about following.
    pub(super) fn question(
        &mut self,
        net: &mut Net,
        rules: &mut Rules,
        port: Port,
        packet: Packet,
    ) {
        match packet {
            Packet::Cancel(name) => {
                let ask = |reply| Ask::Stop(named(name), End::Cancelled, reply);
                self.ask(net, rules, port, (ask, Packet::Standing));
            }
            Packet::Settle(name) => {
                let ask = |reply| Ask::Stop(named(name), End::Settled, reply);
                self.ask(net, rules, port, (ask, Packet::Standing));
            }
            Packet::Get(name) => {
                let ask = |reply| Ask::Get(named(name), reply);
                self.ask(net, rules, port, (ask, Packet::Standing));
            }
            Packet::Force {
                name,
                generated,
                tokens,
            } => {
                self.forced = Some(name.1[1..].parse().expect("clients are numbered"));
                let ask = |reply| Ask::Force(named(name), generated, tokens, reply);
                self.ask(net, rules, port, (ask, |()| Packet::Forced));
            }
            _ => unreachable!("no front asks this: {packet:?}"),
        }
    }

    /// Asks the step loop, and passes the answer on.
    fn ask<T>(
        &mut self,
        net: &mut Net,
        rules: &mut Rules,
        port: Port,
        (ask, answer): (
            impl FnOnce(oneshot::Sender<Result<T, Status>>) -> Ask,
            impl FnOnce(T) -> Packet,
        ),
    ) {
        let (reply, mut answered) = oneshot::channel();
        self.tell(net, rules, Heard::Message(Message::Ask(ask(reply))));
        match answered.try_recv().expect("it answers at once") {
            Ok(said) => net.send(port, answer(said)),
            Err(status) => refuse(net, port, &status),
        }
    }
}

fn named((principal, id): (String, String)) -> Name {
    convert::name(principal, id).expect("names are short")
}

/// Sends a follower what there is for it; returns whether there will be more.
pub(super) fn read(net: &mut Net, port: Port, follower: &mut EventStream) -> bool {
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
