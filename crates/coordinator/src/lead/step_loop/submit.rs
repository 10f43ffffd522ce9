//! A sequence enters the engine, or is refused.

use std::hash::{DefaultHasher, Hash, Hasher};

use engine::{Refused, Stop};
use spec::SequenceId;
use tonic::Status;

use super::StepLoop;
use crate::lead::follow::unavailable;
use crate::lead::message::Submit;
use crate::limits;

impl StepLoop {
    /// Enters a sequence, and tells its follower of it.
    pub(super) fn submit(&mut self, submit: Submit) {
        let Submit {
            tokens,
            sampling,
            max_tokens,
            stop_tokens,
            events,
            reply,
            ..
        } = submit;
        if self.shutdown.is_cancelled() {
            let ending = unavailable("the coordinator is ending", limits::RETRY_AFTER);
            return drop(reply.send(Err(ending)));
        }
        self.last_sequence += 1;
        let sequence = SequenceId(self.last_sequence);
        let known = self.principals.len() as u32;
        let principal = *self.principals.entry(submit.principal).or_insert(known);
        let mut salt = DefaultHasher::new();
        submit.cache_salt.hash(&mut salt);
        let queue_position = self.engine.load().waiting;
        let submitted = self.engine.submit(engine::Submit {
            sequence,
            prompt_len: tokens.len(),
            tokens,
            sampling,
            stop: Stop {
                max_tokens,
                stop_tokens,
            },
            principal,
            cache_salt: salt.finish(),
        });
        match submitted {
            Ok(()) => {
                self.followers.add(sequence, events, queue_position);
                // If the front is gone already, its stream cancels the sequence.
                if reply.send(Ok(sequence)).is_err() {
                    self.followers.remove(sequence);
                    self.engine.cancel(sequence);
                }
            }
            Err(refused) => drop(reply.send(Err(refusal(&refused)))),
        }
    }
}

fn refusal(refused: &Refused) -> Status {
    use tonic_types::{ErrorDetails, StatusExt};
    let said = refused.to_string();
    match refused {
        Refused::QueueFull { .. } => {
            let details = ErrorDetails::with_retry_info(Some(limits::RETRY_AFTER));
            Status::with_error_details(tonic::Code::ResourceExhausted, said, details)
        }
        Refused::Duplicate { .. } | Refused::Finished { .. } => Status::internal(said),
        Refused::Empty { .. } | Refused::TooLong { .. } | Refused::NeverFits { .. } => {
            Status::invalid_argument(said)
        }
    }
}
