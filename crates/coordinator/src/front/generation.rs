//! One generation followed at the lead: the only place that calls LeadService for it.
//!
//! A [`Generation`] owns the lead's stream and its clock. Where the stream breaks it is found again, at
//! this lead or another, and goes on where it was. It knows tokens and positions, no text.

mod expected;
mod regain;

use std::sync::Arc;
use std::time::Duration;

use proto::internal::{self, SequenceEnd, follow_response};
use proto::v1::{GenerationState, Usage};
use spec::{SampledToken, TokenId, TokenLogprob};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tonic::{Code, Streaming};

use self::expected::Expected;
use super::Shared;
use super::error::Error;
use super::groups::Group;
use super::request::Request;
use super::{held, limits};
use crate::wire;

/// Who calls, as long as there is one tenant.
pub(super) const PRINCIPAL: &str = "default";

/// What a generation says, in order.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// Logprobs of the prompt's next positions, from position 1 on.
    Prompt(Vec<TokenLogprob>),
    /// The next tokens.
    Tokens(Vec<SampledToken>),
    /// It goes on at another lead than before.
    Resumed,
    /// Nothing was sent to the client for a while.
    Idle,
    /// The lead ended it: by its last token, or else by a limit. Nothing follows.
    End { by_token: bool },
    /// Somebody cancelled it. Nothing follows.
    Cancelled,
}

/// When a request arrived, and when its caller gives up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// When the request arrived.
    pub(super) arrived: Instant,
    /// When the caller's deadline passes.
    pub(super) deadline: Option<Instant>,
}

/// Times since the request first arrived, anywhere.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    /// When its prompt began to be computed.
    pub(super) running: Option<Duration>,
    /// When its first token was there.
    pub(super) first_token: Option<Duration>,
    /// When it ended, where the lead has said so.
    end: Option<Duration>,
}

/// Tokens that no lead would generate.
#[derive(Clone, Debug)]
struct Forced {
    /// Generated tokens before them.
    after: Vec<TokenId>,
    tokens: Vec<TokenId>,
}

/// A generation at the lead.
#[derive(Debug)]
pub(super) struct Generation {
    shared: Arc<Shared>,
    request: Arc<Request>,
    clock: Clock,
    /// The group that has accepted it.
    group: Option<Group>,
    /// `None` once nothing more is wanted of the lead.
    events: Option<Streaming<internal::FollowResponse>>,
    expected: Expected,
    /// The tokens so far, for another lead.
    tokens: Vec<TokenId>,
    /// What was forced, which no lead would generate.
    forced: Option<Forced>,
    /// Since when the stream has been broken without any news in between, and by what.
    trouble: Option<(Instant, Error)>,
    /// When the stream began.
    regained: Instant,
    /// Term of the lead that has it.
    term: u64,
    /// How often it went on at another lead.
    resumed: u32,
    /// Whether the client has yet to hear of the last time.
    is_news: bool,
    /// When the request would have arrived by this clock, had it come to this front: the earliest that
    /// the front, or any lead that it followed, knows of.
    origin: Instant,
    /// How much later it arrived by the account of the lead that has it. One that has collected it from
    /// its home rank does not know how long it was elsewhere.
    late: Duration,
    times: Times,
    state: GenerationState,
    cached_prompt_tokens: u32,
    queue_position: u32,
    /// When something was last sent to the client, and its number.
    last_sent: (Instant, u64),
    _permit: OwnedSemaphorePermit,
    /// Held so that a front that drains waits for this generation.
    _live: TaskTrackerToken,
}

impl Generation {
    /// Enters the request at the lead, or finds it there, and waits until it is accepted or refused.
    ///
    /// # Errors
    ///
    /// The lead's refusal, and all that can end a generation early.
    pub(super) async fn start(
        shared: &Arc<Shared>,
        request: Arc<Request>,
        clock: Clock,
    ) -> Result<Self, Error> {
        if shared.draining.is_cancelled() {
            return Err(Error::Draining);
        }
        let live = shared.tasks.token();
        let permit = Arc::clone(&shared.live).try_acquire_owned();
        let permit = permit.map_err(|_| Error::TooManyLive {
            limit: limits::MAX_LIVE,
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
        let mut generation = Self {
            shared: Arc::clone(shared),
            clock,
            group: None,
            events: None,
            expected,
            tokens: Vec::new(),
            forced: None,
            trouble: None,
            regained: Instant::now(),
            term: 0,
            resumed: 0,
            is_news: false,
            origin: clock.arrived,
            late: Duration::ZERO,
            times: Times::default(),
            state: GenerationState::Queued,
            cached_prompt_tokens: 0,
            queue_position: 0,
            last_sent: (Instant::now(), request.delivery.resume_after),
            request,
            _permit: permit,
            _live: live,
        };
        generation.regain().await?;
        Ok(generation)
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
        let heartbeat = self.last_sent.0 + self.shared.config.heartbeat;
        loop {
            if std::mem::take(&mut self.is_news) {
                return Ok(Event::Resumed);
            }
            let Some(events) = self.events.as_mut() else {
                tokio::select! {
                    biased;
                    regained = self.regain() => regained?,
                    () = tokio::time::sleep_until(heartbeat) => return Ok(Event::Idle),
                }
                continue;
            };
            let message = tokio::select! {
                biased;
                error = expiry(&self.shared, &self.request, self.clock, self.last_sent.1) => {
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
            match event {
                Ok(Some(event)) => {
                    self.trouble = None;
                    return Ok(event);
                }
                Ok(None) => {}
                Err(error) if error.is_passing() => self.lose(error),
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Checks an event of the lead and converts it; `None` if it is no news for the client.
    fn take(&mut self, event: Option<follow_response::Event>) -> Result<Option<Event>, Error> {
        let late = self.late;
        let after = |micros| late + Duration::from_micros(micros);
        match event {
            Some(follow_response::Event::Running(running)) => {
                self.times.running.get_or_insert(after(running.after_us));
                self.state = GenerationState::Prefilling;
                self.cached_prompt_tokens = running.cached_prompt_tokens;
                Ok(None)
            }
            Some(follow_response::Event::PromptLogprobs(prompt)) => {
                let logprobs = prompt.logprobs.into_iter().map(wire::token_logprob);
                let logprobs: Vec<_> = logprobs.collect();
                let first = prompt.first_position;
                self.expected.take_prompt(first, &logprobs)?;
                Ok(Some(Event::Prompt(logprobs)))
            }
            Some(follow_response::Event::Tokens(said)) => {
                let count = said.tokens.len();
                self.expected.take_tokens(said.first_position, count)?;
                let first_after = after(said.first_after_us);
                self.times.first_token.get_or_insert(first_after);
                self.state = GenerationState::Decoding;
                let tokens: Vec<_> = said.tokens.into_iter().map(wire::sampled_token).collect();
                self.tokens
                    .extend(tokens.iter().map(|sampled| sampled.token));
                Ok(Some(Event::Tokens(tokens)))
            }
            Some(follow_response::Event::Finished(finished)) => {
                self.times.end = Some(after(finished.after_us));
                match finished.reason() {
                    SequenceEnd::Stop => Ok(Some(Event::End { by_token: true })),
                    SequenceEnd::Length => Ok(Some(Event::End { by_token: false })),
                    SequenceEnd::Cancelled => Ok(Some(Event::Cancelled)),
                    SequenceEnd::Settled => Err(Error::LeadProtocol {
                        why: "an end in the text where there is none",
                    }),
                    SequenceEnd::Unspecified => Err(Error::LeadProtocol {
                        why: "an end without a reason",
                    }),
                }
            }
            Some(follow_response::Event::Accepted(_)) => Err(Error::LeadProtocol {
                why: "a second acceptance",
            }),
            None => Err(Error::LeadProtocol {
                why: "an event of no known kind",
            }),
        }
    }

    /// Waits for the deadline or the front's end, and says which. What no lead has accepted yet ends as
    /// soon as the front drains: another front has more time for it.
    pub(super) async fn expiry(&self) -> Error {
        tokio::select! {
            biased;
            () = self.shared.draining.cancelled(), if self.group.is_none() => Error::Draining,
            error = expiry(&self.shared, &self.request, self.clock, self.last_sent.1) => error,
        }
    }

    /// Returns its request's name.
    pub(super) fn id(&self) -> &str {
        &self.request.id
    }

    /// Says whether it began before this request came.
    pub(super) fn is_repeat(&self) -> bool {
        self.origin + limits::REPEAT_AGE < self.clock.arrived
    }

    /// Says that something is sent to the client, and up to which number.
    pub(super) fn sent(&mut self, sequence: u64) {
        self.last_sent = (Instant::now(), sequence);
    }

    /// Returns when something was last sent to the client.
    pub(super) fn quiet_since(&self) -> Instant {
        self.last_sent.0
    }

    /// Returns what it is doing, and the sequences that were before it when it was queued.
    pub(super) fn standing(&self) -> (GenerationState, u32) {
        match self.state {
            GenerationState::Queued => (self.state, self.queue_position),
            state => (state, 0),
        }
    }

    /// Tells the lead that nothing more is wanted of it, for the text has come to its end; if that lead
    /// is lost, the next one, which would go on with it for nobody.
    pub(super) fn settle(&mut self) {
        let (Some(events), Some(group)) = (self.events.take(), self.group.clone()) else {
            return;
        };
        let (shared, id) = (Arc::clone(&self.shared), self.request.id.clone());
        self.shared.tasks.spawn(async move {
            let settle = |group: Group| {
                let settle = internal::SettleRequest {
                    principal: PRINCIPAL.to_owned(),
                    request_id: id.clone(),
                    group: group.name.to_string(),
                };
                let mut lead = group.client;
                async move { lead.settle(settle).await }
            };
            let settled = match timeout(limits::FIND_TIME, settle(group)).await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(status)) if !Error::from_lead(status.clone()).is_passing() => {
                    Err(Error::from_lead(status))
                }
                _ => held::ask(&shared, &id, settle).await.map(drop),
            };
            if let Err(error) = settled {
                tracing::debug!(request_id = id, %error, "a generation could not be settled");
            }
            // Not before: to lose its last follower would be another end.
            drop(events);
        });
    }

    /// Returns how many of the prompt's tokens are known to have been cached.
    pub(super) fn cached_prompt_tokens(&self) -> u32 {
        self.cached_prompt_tokens
    }

    /// Returns what was used, of these tokens.
    pub(super) fn usage(&self, output_tokens: u32, reasoning_tokens: u32) -> Usage {
        Usage {
            prompt_tokens: self.expected.prompt.len() as u32,
            cached_prompt_tokens: self.cached_prompt_tokens,
            output_tokens,
            reasoning_tokens,
        }
    }

    /// Returns its times, how long it took in all, and how often it went on at another lead.
    pub(super) fn times(&self) -> (Times, Duration, u32) {
        let total = self.times.end.unwrap_or_else(|| self.origin.elapsed());
        (self.times, total, self.resumed)
    }

    /// Lets go of the lead's stream.
    pub(super) fn fail(&mut self, error: Error) -> Error {
        self.events = None;
        error
    }

    /// As [`Generation::fail`]; a deadline that the lead has seen pass is told as our own.
    fn failed(&mut self, error: Error) -> Error {
        let error = match error {
            Error::Lead(status) if status.code() == Code::DeadlineExceeded => {
                passed(&self.request, self.last_sent.1)
            }
            error => error,
        };
        self.fail(error)
    }
}

impl Drop for Generation {
    fn drop(&mut self) {
        tracing::debug!(
            request_id = self.request.id,
            tokens = self.tokens.len(),
            resumed = self.resumed,
            "generation followed no more"
        );
    }
}

fn passed(request: &Request, last_sequence: u64) -> Error {
    Error::Deadline {
        id: request.id.clone(),
        last_sequence,
    }
}

/// Waits for the deadline or the front's end, and says which.
async fn expiry(shared: &Shared, request: &Request, clock: Clock, last_sequence: u64) -> Error {
    let deadline = async {
        match clock.deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        biased;
        () = shared.stopping.cancelled() => Error::Draining,
        () = deadline => passed(request, last_sequence),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proto::v1::{self, generate_request::Prompt};
    use tokio::time::Instant;
    use tonic::Code;

    use super::{Clock, Generation};
    use crate::front::testing::shared;
    use crate::front::{generate, limits};

    #[tokio::test]
    async fn more_streams_than_a_front_follows_are_refused_at_once_and_with_a_delay() {
        let shared = shared();
        let all = limits::MAX_LIVE as u32;
        let others = Arc::clone(&shared.live).acquire_many_owned(all).await;
        let request = v1::GenerateRequest {
            prompt: Some(Prompt::Text("x".into())),
            ..Default::default()
        };
        let request = generate::check(&shared, request, generate::Origin::Grpc)
            .await
            .unwrap();
        let clock = Clock {
            arrived: Instant::now(),
            deadline: None,
        };
        let start = || Generation::start(&shared, Arc::new(request.clone()), clock);
        let refused = start().await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.retry_after().is_some());
        drop(others);
        // There is room now, but no lead.
        let unavailable = start().await.unwrap_err();
        assert_eq!(unavailable.code(), Code::Unavailable);
    }
}
