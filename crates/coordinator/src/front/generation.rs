//! One generation followed at the lead: the only place that calls LeadService.Follow.
//!
//! A [`Generation`] owns the lead's stream, its place in the registry and its clock. Dropping it
//! cancels the sequence at the lead. It knows tokens and positions, no text.

use proto::internal::{self, SequenceEnd, follow_response};
use proto::v1::{FinishReason, GenerationState, Usage};
use spec::{SampledToken, TokenId, TokenLogprob};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::Streaming;

use super::Shared;
use super::error::Error;
use super::registry::{Standing, Ticket};
use super::request::Request;
use crate::wire;

/// Who calls, as long as there is one tenant.
const PRINCIPAL: &str = "default";

/// What a generation says, in order.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Logprobs of the prompt's next positions, from position 1 on.
    Prompt(Vec<TokenLogprob>),
    /// The next tokens.
    Tokens(Vec<SampledToken>),
    /// Nothing was sent to the client for a while.
    Idle,
    /// The lead ended it: by its last token, or else by a limit. Nothing follows.
    End { by_token: bool },
    /// Somebody cancelled it. Nothing follows.
    Cancelled,
}

/// How a generation ended in good order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ending {
    /// Why.
    pub(super) reason: FinishReason,
    /// The stop sequence that was met.
    pub(super) stop_sequence: Option<String>,
    /// The token that ended it.
    pub(super) token: Option<TokenId>,
    /// Tokens used.
    pub(super) usage: Usage,
    /// From the request's arrival to the beginning of its prompt's computation.
    pub(super) queued: Option<Duration>,
    /// From there to its first token.
    pub(super) prefill: Option<Duration>,
    /// From the request's arrival to its first token.
    pub(super) to_first_token: Option<Duration>,
    /// From the request's arrival to the end.
    pub(super) total: Duration,
}

/// When a request arrived, and when its caller gives up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// When the request arrived.
    pub(super) arrived: Instant,
    /// When the caller's deadline passes.
    pub(super) deadline: Option<Instant>,
}

/// A generation at the lead.
#[derive(Debug)]
pub(super) struct Generation {
    shared: Arc<Shared>,
    ticket: Ticket,
    /// `None` once nothing more is wanted of the lead.
    events: Option<Streaming<internal::FollowResponse>>,
    expected: Expected,
    clock: Clock,
    running: Option<Instant>,
    first_token: Option<Instant>,
    /// When something was last sent to the client.
    last_sent: Instant,
    queue_position: u32,
    /// Held so that a front that drains waits for this generation.
    _live: TaskTrackerToken,
}

/// What has to come next; a lead that sends anything else has lost or repeated something.
#[derive(Debug)]
struct Expected {
    prompt: Arc<[TokenId]>,
    /// The next position whose logprob comes; the prompt's length if none does.
    prompt_position: usize,
    /// Position of the next token.
    token_position: usize,
}

impl Generation {
    /// Enters the request at the lead and waits until it is accepted or refused.
    ///
    /// One that is cancelled meanwhile has nothing to say but [`Event::Cancelled`].
    ///
    /// # Errors
    ///
    /// The lead's refusal, and all that can end a generation early.
    pub(super) async fn start(
        shared: &Arc<Shared>,
        request: &Request,
        clock: Clock,
    ) -> Result<Self, Error> {
        if shared.draining.is_cancelled() {
            return Err(Error::Draining);
        }
        let live = shared.tasks.token();
        let prompt_tokens = u32::try_from(request.prompt.len()).unwrap_or(u32::MAX);
        let mut ticket = shared.registry.enter(&request.id, prompt_tokens)?;
        let accepted = tokio::select! {
            biased;
            () = ticket.cancelled().cancelled() => Ok((None, 0)),
            error = expiry(shared, &ticket, clock) => Err(error),
            accepted = follow(shared, request, clock) => {
                accepted.map(|(events, queue_position)| (Some(events), queue_position))
            }
        };
        let (events, queue_position) = accepted.inspect_err(|_| {
            ticket.settle(GenerationState::Failed);
        })?;
        let length = request.prompt.len();
        let expected = Expected {
            prompt: Arc::clone(&request.prompt),
            prompt_position: if request.wants_prompt_logprobs() {
                1
            } else {
                length
            },
            token_position: length,
        };
        Ok(Self {
            shared: Arc::clone(shared),
            ticket,
            events,
            expected,
            clock,
            running: None,
            first_token: None,
            last_sent: Instant::now(),
            queue_position,
            _live: live,
        })
    }

    /// Waits for the next event.
    ///
    /// # Errors
    ///
    /// A passed deadline, a shutdown, and what the lead ends the stream with.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future loses nothing.
    pub(super) async fn next(&mut self) -> Result<Event, Error> {
        let heartbeat = self.last_sent + self.shared.config.heartbeat;
        loop {
            let Some(events) = self.events.as_mut() else {
                return Ok(Event::Cancelled);
            };
            let message = tokio::select! {
                biased;
                () = self.ticket.cancelled().cancelled() => return Ok(Event::Cancelled),
                error = expiry(&self.shared, &self.ticket, self.clock) => {
                    return Err(self.fail(error));
                }
                message = events.message() => message,
                () = tokio::time::sleep_until(heartbeat) => return Ok(Event::Idle),
            };
            let event = match message {
                Ok(Some(message)) => self.take(message.event),
                Ok(None) => Err(Error::LeadGone {
                    why: "its stream ended too soon".into(),
                }),
                Err(status) => Err(Error::from_lead(status)),
            };
            if let Some(event) = event.map_err(|error| self.fail(error))? {
                return Ok(event);
            }
        }
    }

    /// Checks an event of the lead and converts it; `None` if it is no news for the client.
    fn take(&mut self, event: Option<follow_response::Event>) -> Result<Option<Event>, Error> {
        match event {
            Some(follow_response::Event::Running(running)) => {
                self.running.get_or_insert_with(Instant::now);
                self.note(|standing| {
                    standing.state = GenerationState::Prefilling;
                    standing.usage.cached_prompt_tokens = running.cached_prompt_tokens;
                });
                Ok(None)
            }
            Some(follow_response::Event::PromptLogprobs(prompt)) => {
                let logprobs: Vec<_> = prompt
                    .logprobs
                    .into_iter()
                    .map(wire::token_logprob)
                    .collect();
                self.expected
                    .take_prompt(prompt.first_position, &logprobs)?;
                Ok(Some(Event::Prompt(logprobs)))
            }
            Some(follow_response::Event::Tokens(tokens)) => {
                self.expected
                    .take_tokens(tokens.first_position, tokens.tokens.len())?;
                self.first_token.get_or_insert_with(Instant::now);
                self.note(|standing| standing.state = GenerationState::Decoding);
                let tokens = tokens.tokens.into_iter().map(wire::sampled_token).collect();
                Ok(Some(Event::Tokens(tokens)))
            }
            Some(follow_response::Event::Finished(finished)) => match finished.reason() {
                SequenceEnd::Stop => Ok(Some(Event::End { by_token: true })),
                SequenceEnd::Length => Ok(Some(Event::End { by_token: false })),
                SequenceEnd::Unspecified => Err(Error::LeadProtocol {
                    why: "an end without a reason",
                }),
            },
            Some(follow_response::Event::Accepted(_)) => Err(Error::LeadProtocol {
                why: "a second acceptance",
            }),
            None => Err(Error::LeadProtocol {
                why: "an event of no known kind",
            }),
        }
    }

    /// Waits until somebody cancels the generation.
    pub(super) async fn cancelled(&self) {
        self.ticket.cancelled().cancelled().await;
    }

    /// Waits for the deadline or the front's end, and says which.
    pub(super) async fn expiry(&self) -> Error {
        expiry(&self.shared, &self.ticket, self.clock).await
    }

    /// Says that something is sent to the client, and up to which number.
    pub(super) fn sent(&mut self, sequence: u64) {
        self.last_sent = Instant::now();
        self.note(|standing| standing.last_sequence = sequence);
    }

    /// Returns where the generation is.
    pub(super) fn standing(&self) -> &Standing {
        self.ticket.standing()
    }

    /// Returns the sequences before it when it was queued; 0 once it runs.
    pub(super) fn queue_position(&self) -> u32 {
        match self.standing().state {
            GenerationState::Queued => self.queue_position,
            _ => 0,
        }
    }

    /// Changes where the generation is, as others see it.
    pub(super) fn note(&mut self, change: impl FnOnce(&mut Standing)) {
        self.ticket.note(change);
    }

    /// Lets go of the lead's stream, which cancels the sequence if it still runs, and settles why the
    /// generation ended. Returns the reason that counts: somebody may have cancelled it just before.
    pub(super) fn settle(&mut self, reason: FinishReason) -> FinishReason {
        self.events = None;
        let outcome = match reason {
            FinishReason::Cancelled => GenerationState::Cancelled,
            _ => GenerationState::Succeeded,
        };
        match self.ticket.settle(outcome) {
            GenerationState::Cancelled => FinishReason::Cancelled,
            _ => reason,
        }
    }

    /// Returns how the generation ended, for its client.
    pub(super) fn ending(
        &self,
        reason: FinishReason,
        stop_sequence: Option<String>,
        token: Option<TokenId>,
    ) -> Ending {
        Ending {
            reason,
            stop_sequence,
            token,
            usage: self.standing().usage,
            queued: self.running.map(|at| at - self.clock.arrived),
            prefill: self
                .running
                .zip(self.first_token)
                .map(|(running, first)| first - running),
            to_first_token: self.first_token.map(|at| at - self.clock.arrived),
            total: self.clock.arrived.elapsed(),
        }
    }

    /// Lets go of the lead's stream and settles that the generation failed.
    pub(super) fn fail(&mut self, error: Error) -> Error {
        self.events = None;
        self.ticket.settle(GenerationState::Failed);
        error
    }
}

impl Expected {
    fn take_prompt(&mut self, first: u32, logprobs: &[TokenLogprob]) -> Result<(), Error> {
        let start = self.prompt_position;
        let due = self.prompt.get(start..).unwrap_or_default();
        if first as usize != start || logprobs.len() > due.len() {
            return Err(Error::LeadProtocol {
                why: "logprobs of the wrong prompt positions",
            });
        }
        if logprobs
            .iter()
            .zip(due)
            .any(|(logprob, token)| logprob.token != *token)
        {
            return Err(Error::LeadProtocol {
                why: "logprobs of another prompt",
            });
        }
        self.prompt_position += logprobs.len();
        Ok(())
    }

    fn take_tokens(&mut self, first: u32, count: usize) -> Result<(), Error> {
        if first as usize != self.token_position || count == 0 {
            return Err(Error::LeadProtocol {
                why: "tokens of the wrong positions",
            });
        }
        if self.prompt_position < self.prompt.len() {
            return Err(Error::LeadProtocol {
                why: "tokens before all logprobs of the prompt",
            });
        }
        self.token_position += count;
        Ok(())
    }
}

/// Enters the request at the lead; returns its stream after the acceptance, and the queue position.
async fn follow(
    shared: &Shared,
    request: &Request,
    clock: Clock,
) -> Result<(Streaming<internal::FollowResponse>, u32), Error> {
    let mut message = tonic::Request::new(request.to_lead(PRINCIPAL));
    if let Some(deadline) = clock.deadline {
        message.set_timeout(deadline.saturating_duration_since(Instant::now()));
    }
    let mut lead = shared.lead.clone();
    let mut events = lead
        .follow(message)
        .await
        .map_err(Error::from_lead)?
        .into_inner();
    match events
        .message()
        .await
        .map_err(Error::from_lead)?
        .and_then(|first| first.event)
    {
        Some(follow_response::Event::Accepted(accepted)) => Ok((events, accepted.queue_position)),
        Some(_) => Err(Error::LeadProtocol {
            why: "its first event is not the acceptance",
        }),
        None => Err(Error::LeadGone {
            why: "its stream ended at once".into(),
        }),
    }
}

/// Waits for the deadline or the front's end, and says which.
async fn expiry(shared: &Shared, ticket: &Ticket, clock: Clock) -> Error {
    let deadline = async {
        match clock.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = shared.stopping.cancelled() => Error::Draining,
        () = deadline => Error::Deadline {
            id: ticket.id().to_owned(),
            last_sequence: ticket.standing().last_sequence,
        },
    }
}
