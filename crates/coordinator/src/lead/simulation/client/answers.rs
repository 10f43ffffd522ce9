//! What a client hears, and what it makes of it.

use proto::internal as wire;
use proto::internal::follow_response::Event as Said;
use spec::TokenId;
use tonic::Code;

use super::{Client, DOUBT, Forcing, Net, Packet, Port, Rules, Thing, Wish};
use crate::limits;
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
                    if is_other && !self.was_away {
                        self.retry = net.now;
                    }
                }
            }
            answer if self.question.is_some_and(|(question, _)| question == port) => {
                self.told(net, rules, answer);
            }
            _ if self.stream != Some(port) => {}
            Packet::Event(event) => self.take(net, rules, event.event.expect("events are whole")),
            Packet::Refused(code, reason) => self.refused(net, rules, code, &reason),
            Packet::Standing(_) => {
                let settled = self.wish == Wish::Settle;
                rules.note(if settled {
                    Thing::Settled
                } else {
                    Thing::Cancelled
                });
                self.give_up(net);
            }
            Packet::Forced => {
                rules.note(Thing::Forced);
                net.close(port);
                self.follow_on(net, Forcing::Told);
            }
            _ => unreachable!("nobody sends this to a client: {packet:?}"),
        }
    }

    /// It was asked to be told how it stands.
    fn told(&mut self, net: &mut Net, rules: &mut Rules, answer: Packet) {
        let Some((port, followed)) = self.question.take() else {
            return;
        };
        net.close(port);
        match answer {
            Packet::Standing(standing) => {
                rules.note(Thing::Told);
                let told: Vec<TokenId> = standing.tokens.into_iter().map(TokenId).collect();
                assert!(self.may_be(&told), "{}, and is told {told:?}", self.waits());
            }
            // A lead that has ended may have said so, which is on its way.
            Packet::Refused(Code::NotFound, _) => {
                self.doubted = followed.map(|stream| (stream, net.now + DOUBT));
            }
            Packet::Refused(Code::Unavailable, _) => {}
            other => panic!("{}, asks, and is told {other:?}", self.waits()),
        }
    }

    /// Says whether a generation of its may begin with these tokens.
    fn may_be(&self, tokens: &[TokenId]) -> bool {
        let is_forced = |all: &[TokenId]| all.starts_with(tokens);
        let twist = self.twist.as_ref();
        self.story.tokens.starts_with(tokens)
            || twist.is_some_and(|twist| is_forced(&twist.story.tokens))
    }

    fn take(&mut self, net: &mut Net, rules: &mut Rules, event: Said) {
        match event {
            Said::Accepted(accepted) => {
                assert!(
                    !std::mem::replace(&mut self.accepted, true),
                    "accepted twice"
                );
                if self.seen > 0 {
                    rules.note(Thing::Resumed);
                }
                if std::mem::take(&mut self.was_away) && accepted.attached {
                    rules.note(Thing::Kept);
                }
                self.submits = false;
                if let Some(old) = self.old.take() {
                    net.close(old);
                }
            }
            Said::Running(_) => {}
            Said::Tokens(tokens) => {
                let next = self.prompt.len() + self.front.len();
                assert_eq!(tokens.first_position as usize, next, "{}", self.waits());
                let tokens = tokens.tokens.iter().map(|sampled| TokenId(sampled.token));
                self.front.extend(tokens);
                self.check();
                self.seen = self.seen.max(self.front.len());
                self.look(net);
            }
            Said::Finished(finished) => self.finished(net, rules, finished.reason()),
            Said::PromptLogprobs(_) => unreachable!("nobody asks for them"),
        }
    }

    /// Checks what it has had.
    fn check(&self) {
        let is_right = match (&self.twist, self.forcing) {
            (Some(twist), Forcing::Told) => twist.story.tokens.starts_with(&self.front),
            (Some(_), Forcing::No) => self.may_be(&self.front),
            _ => self.story.tokens.starts_with(&self.front),
        };
        let (front, story, twist) = (&self.front, &self.story, &self.twist);
        assert!(
            is_right,
            "{}, {:?}: {front:?} {story:?} {twist:?}",
            self.waits(),
            self.forcing
        );
    }

    /// Looks whether its front has something to say to what it has had.
    fn look(&mut self, net: &mut Net) {
        let had = self.front.len();
        if let Some(twist) = &self.twist
            && self.forcing == Forcing::No
            && had >= twist.after
        {
            let is_there = had > twist.after && twist.story.tokens.starts_with(&self.front);
            if !is_there {
                self.front.truncate(twist.after);
                self.forcing = Forcing::Wanted;
                self.turn(net);
            }
        } else if self.wish == Wish::Text && self.settles.is_some_and(|settles| had >= settles) {
            self.wish = Wish::Settle;
            self.turn(net);
        }
    }

    fn finished(&mut self, net: &mut Net, rules: &mut Rules, reason: wire::SequenceEnd) {
        let twist = self.twist.as_ref().map(|twist| &twist.story);
        let story = match self.forcing {
            Forcing::No | Forcing::Told => twist.unwrap_or(&self.story),
            Forcing::Wanted | Forcing::Late => &self.story,
        };
        assert_eq!(self.front, story.tokens, "{}: it ends early", self.waits());
        assert_eq!(reason, story.end, "{}", self.waits());
        rules.note(Thing::Ended);
        self.drop_stream(net);
        if self.wish == Wish::Text && net.dice.chance(300) {
            self.wish = Wish::Again;
            self.lose_front(net);
            self.retry = net.now + net.dice.millis(0, 5000);
        } else {
            self.wish = Wish::Nothing;
        }
    }

    /// Follows its generation after its lead has said something of what is forced.
    fn follow_on(&mut self, net: &mut Net, forcing: Forcing) {
        self.forcing = forcing;
        self.stream = None;
        self.dial(net);
    }

    fn refused(&mut self, net: &mut Net, rules: &mut Rules, code: Code, why: &str) {
        rules.note(Thing::Refused);
        let is_forced = self.forcing == Forcing::Wanted;
        match code {
            // It is submitted with them.
            Code::NotFound if is_forced => return self.follow_on(net, Forcing::Told),
            Code::FailedPrecondition if is_forced => {
                rules.note(Thing::Unforced);
                return self.follow_on(net, Forcing::Late);
            }
            _ => self.drop_stream(net),
        }
        match code {
            _ if self.wish == Wish::Settle => self.wish = Wish::Nothing,
            // It is submitted, with what the front has.
            Code::NotFound if self.wish != Wish::Cancel => self.submits = true,
            // It was never there, or has ended and was forgotten with its lead.
            Code::NotFound if self.unknown == 5 => self.wish = Wish::Nothing,
            Code::NotFound | Code::Unavailable | Code::ResourceExhausted => {
                if why == reason::GROUP_INCOMPLETE {
                    // The front gives up, too: the client repeats its call.
                    rules.note(Thing::HeldOut);
                    self.lose_front(net);
                }
                self.unknown += usize::from(code == Code::NotFound);
                self.retry = net.now + net.dice.millis(100, 1000);
            }
            Code::DeadlineExceeded => {
                let soon = net.now + limits::DEADLINE_SLACK;
                let is_due = self.deadline.is_some_and(|deadline| soon >= deadline);
                assert!(is_due, "{}: its deadline has not come", self.waits());
                rules.note(Thing::DeadlineByLead);
                self.wish = Wish::Nothing;
            }
            // Tokens that it has read were replaced, by another front of its.
            Code::Aborted if self.twist.is_some() => self.lose_front(net),
            _ => panic!("{}, and is refused with {code:?} {why}", self.waits()),
        }
    }
}
