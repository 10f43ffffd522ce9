//! A followed sequence as a stream: its tokens, and how it ended.

use std::pin::Pin;
use std::task::{Context, Poll};

use proto::internal as wire;
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::convert::{self, Malformed};
use super::log::{End, Failure, Log, Read};
use super::message::Follower;
use crate::limits;
use crate::status::{reason, status};
use crate::wire::{sampled_token_to_wire, token_logprob_to_wire};

/// The events of a sequence, read from its log as fast as the front takes them.
///
/// Dropped, it gives its place among the followers up.
pub(crate) struct EventStream {
    follower: Follower,
    accepted: Option<wire::Accepted>,
    /// Waits for more to be in the log.
    waiting: Option<Waiting>,
    is_over: bool,
}

type Waiting = Pin<Box<dyn Future<Output = bool> + Send>>;

/// Waits for more; returns whether there may be any.
async fn more(mut log: watch::Receiver<Log>) -> bool {
    log.changed().await.is_ok()
}

impl EventStream {
    pub(super) fn new(follower: Follower) -> Self {
        let (queue_position, cached) = {
            let log = follower.following.log.borrow();
            (log.queue_position(), log.cached())
        };
        let accepted = wire::Accepted {
            queue_position: queue_position as u32,
            cached_prompt_tokens: cached.unwrap_or(0),
            age_us: convert::micros(follower.following.age),
            attached: follower.attached,
            term: follower.term.0,
        };
        Self {
            follower,
            accepted: Some(accepted),
            waiting: None,
            is_over: false,
        }
    }

    /// Returns what the log has for this follower now.
    fn read(&mut self) -> Option<Result<wire::FollowResponse, Status>> {
        use wire::follow_response::Event;
        if let Some(accepted) = self.accepted.take() {
            return Some(Ok(response(Event::Accepted(accepted))));
        }
        let following = &mut self.follower.following;
        let log = following.log.borrow_and_update();
        let event = match log.read(&mut following.cursor)? {
            Read::Running { cached, after } => Event::Running(wire::Running {
                cached_prompt_tokens: cached,
                after_us: convert::micros(after),
            }),
            Read::Prompt { first, logprobs } => Event::PromptLogprobs(wire::PromptLogprobs {
                first_position: first as u32,
                logprobs: logprobs.iter().map(token_logprob_to_wire).collect(),
            }),
            Read::Tokens {
                first,
                tokens,
                first_after,
            } => Event::Tokens(wire::Tokens {
                first_position: first as u32,
                tokens: tokens.iter().map(sampled_token_to_wire).collect(),
                first_after_us: convert::micros(first_after),
            }),
            Read::End { end, after } => {
                self.is_over = true;
                let reason = match good_end(end) {
                    Ok(reason) => reason.into(),
                    Err(failure) => return Some(Err(failed(failure))),
                };
                Event::Finished(wire::SequenceFinished {
                    reason,
                    after_us: convert::micros(after),
                })
            }
            Read::Rewritten => {
                self.is_over = true;
                let why = "tokens were rewritten; attach again";
                return Some(Err(status(Code::Aborted, reason::REWRITTEN, why, None)));
            }
        };
        Some(Ok(response(event)))
    }
}

fn response(event: wire::follow_response::Event) -> wire::FollowResponse {
    wire::FollowResponse { event: Some(event) }
}

impl Stream for EventStream {
    type Item = Result<wire::FollowResponse, Status>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = self.get_mut();
        loop {
            if let Some(waiting) = &mut stream.waiting {
                let is_more = std::task::ready!(waiting.as_mut().poll(context));
                stream.waiting = None;
                if !is_more {
                    // The lead is gone, or has forgotten it.
                    stream.is_over = true;
                }
            }
            if stream.is_over {
                return Poll::Ready(None);
            }
            if let Some(event) = stream.read() {
                return Poll::Ready(Some(event));
            }
            // Read up to now: the clone has seen as much as this one.
            let log = stream.follower.following.log.clone();
            stream.waiting = Some(Box::pin(more(log)));
        }
    }
}

/// Converts an end that is no failure.
pub(crate) fn good_end(end: &End) -> Result<wire::SequenceEnd, &Failure> {
    match end {
        End::Stop => Ok(wire::SequenceEnd::Stop),
        End::Length => Ok(wire::SequenceEnd::Length),
        End::Settled => Ok(wire::SequenceEnd::Settled),
        End::Cancelled | End::Abandoned => Ok(wire::SequenceEnd::Cancelled),
        End::Failed(failure) => Err(failure),
    }
}

/// Says why a sequence did not go on.
pub(crate) fn failed(failure: &Failure) -> Status {
    match failure {
        Failure::Deadline => deadline_passed(),
        Failure::QueueTimeout => {
            let why = "it waited to run for longer than scheduling.queue_timeout";
            let retry = Some(limits::RETRY_AFTER);
            status(Code::ResourceExhausted, reason::QUEUE_TIMEOUT, why, retry)
        }
        Failure::Unserved(hold) => {
            let why = format!("the group has not been complete for {hold:?}");
            let retry = Some(limits::RETRY_AFTER_HOLD);
            status(Code::Unavailable, reason::GROUP_INCOMPLETE, why, retry)
        }
        Failure::Ending => ending(),
        Failure::Damaged(why) => status(Code::DataLoss, reason::CANNOT_BE_COMPUTED, why, None),
    }
}

/// Says that the lead ends, and when to try again.
pub(crate) fn ending() -> Status {
    let (why, retry) = ("the coordinator is ending", Some(limits::RETRY_AFTER));
    status(Code::Unavailable, reason::LEAD_ENDING, why, retry)
}

/// Says that a deadline has passed.
pub(crate) fn deadline_passed() -> Status {
    let why = "the deadline passed";
    status(Code::DeadlineExceeded, reason::DEADLINE_PASSED, why, None)
}

/// Says which field is wrong.
pub(super) fn invalid(malformed: &Malformed) -> Status {
    let mut details = ErrorDetails::with_bad_request_violation(malformed.field, &malformed.why);
    details.set_error_info(reason::REFUSED_BY_LEAD, crate::status::DOMAIN, []);
    Status::with_error_details(Code::InvalidArgument, malformed.to_string(), details)
}
