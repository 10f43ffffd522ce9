//! Who follows which sequence, and what of the engine's events they are sent.

use std::collections::BTreeMap;

use engine::{Admitted, Event, Finish};
use proto::internal as wire;
use proto::internal::follow_response::Event as Sent;
use spec::SequenceId;
use tonic::Status;

use super::message::Events;
use crate::wire::{sampled_token_to_wire, token_logprob_to_wire};

/// The followers of live sequences.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    live: BTreeMap<SequenceId, Events>,
}

impl Followers {
    pub(crate) fn add(&mut self, sequence: SequenceId, events: Events, queue_position: usize) {
        let accepted = wire::Accepted {
            queue_position: queue_position as u32,
        };
        send(&events, Sent::Accepted(accepted));
        self.live.insert(sequence, events);
    }

    pub(crate) fn remove(&mut self, sequence: SequenceId) {
        self.live.remove(&sequence);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.live.is_empty()
    }

    /// Says that a sequence left the queue. If nobody listens any more its next event shows that.
    pub(crate) fn tell_running(&self, admitted: Admitted) {
        if let Some(events) = self.live.get(&admitted.sequence) {
            let running = wire::Running {
                cached_prompt_tokens: admitted.cached_prompt_tokens,
            };
            send(events, Sent::Running(running));
        }
    }

    /// Passes an engine's event on; returns false if nobody listens any more.
    pub(crate) fn tell(&mut self, event: &Event) -> bool {
        let Some(events) = self.live.get(&event.sequence) else {
            return false;
        };
        let mut heard = true;
        if !event.prompt_logprobs.is_empty() {
            let logprobs = event.prompt_logprobs.iter().map(token_logprob_to_wire);
            let prompt = wire::PromptLogprobs {
                first_position: event.first_prompt_position,
                logprobs: logprobs.collect(),
            };
            heard &= send(events, Sent::PromptLogprobs(prompt));
        }
        if !event.tokens.is_empty() {
            let tokens = event.tokens.iter().map(sampled_token_to_wire);
            let tokens = wire::Tokens {
                first_position: event.first_position,
                tokens: tokens.collect(),
            };
            heard &= send(events, Sent::Tokens(tokens));
        }
        if let Some(finish) = event.finished {
            let reason = match finish {
                Finish::Stop { .. } => wire::SequenceEnd::Stop,
                Finish::Length => wire::SequenceEnd::Length,
            };
            let finished = wire::SequenceFinished {
                reason: reason.into(),
            };
            heard &= send(events, Sent::Finished(finished));
            self.live.remove(&event.sequence);
        }
        if !heard {
            self.live.remove(&event.sequence);
        }
        heard
    }

    /// Ends a stream with an error.
    pub(crate) fn fail(&mut self, sequence: SequenceId, status: &Status) {
        if let Some(events) = self.live.remove(&sequence) {
            drop(events.send(Err(status.clone())));
        }
    }

    /// Ends every stream with an error.
    pub(crate) fn fail_all(&mut self, status: &Status) {
        for events in std::mem::take(&mut self.live).into_values() {
            drop(events.send(Err(status.clone())));
        }
    }
}

/// Returns whether anybody listens.
fn send(events: &Events, event: Sent) -> bool {
    events
        .send(Ok(wire::FollowResponse { event: Some(event) }))
        .is_ok()
}
