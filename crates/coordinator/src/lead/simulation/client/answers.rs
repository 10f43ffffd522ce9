//! What a client hears, and what it makes of it.

use proto::internal as wire;
use proto::internal::follow_response::Event as Said;
use spec::TokenId;
use tonic::Code;

use super::{Client, Net, Packet, Port, Rules, Wish};
use crate::status::reason;

impl Client {
    pub(in crate::lead::simulation) fn hear(
        &mut self,
        net: &mut Net,
        rules: &mut Rules,
        port: Port,
        packet: Packet,
    ) {
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
                if reason == reason::GROUP_INCOMPLETE {
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
}
