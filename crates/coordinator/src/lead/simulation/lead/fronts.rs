//! A lead's streams of fronts: followers, and questions.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use proto::internal as wire;
use tokio::sync::oneshot;
use tokio_stream::Stream as _;
use tonic::Status;

use super::{Lead, Net, Packet, Port, Rules};
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

    pub(super) fn cancel(
        &mut self,
        net: &mut Net,
        rules: &mut Rules,
        port: Port,
        (principal, id): (String, String),
    ) {
        let name = convert::name(principal, id).expect("names are short");
        let (reply, mut answer) = oneshot::channel();
        let ask = Ask::Stop(name, End::Cancelled, reply);
        self.tell(net, rules, Heard::Message(Message::Ask(ask)));
        match answer.try_recv().expect("it answers at once") {
            Ok(_) => net.send(port, Packet::Cancelled),
            Err(status) => refuse(net, port, &status),
        }
    }
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
