//! A generation from its acceptance to its one end, as numbered events for one client.
//!
//! Joins a [`Generation`] with a [`Transcript`]. Generate, Chat and /v1/completions are its faces.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use proto::v1::{FinishReason, GenerationStarted, GenerationState, Heartbeat, Usage};
use spec::{SampledToken, TokenId};
use tokio::time::{Instant, MissedTickBehavior};

use super::Shared;
use super::error::Error;
use super::generation::{Clock, Event, Generation};
use super::limits;
use super::meter::Meter;
use super::output::Output;
use super::replies::{self, Replies, ReplySender};
use super::request::Request;
use super::transcript::{Next, Told, Transcript};

/// What a generation says to its client, in order.
#[derive(Clone, Debug)]
pub(super) enum Said<Piece> {
    /// Something told, but the end.
    Told(Told<Piece>),
    /// It goes on at another lead than before.
    Resumed,
    /// Nothing was sent for a while.
    Idle(Heartbeat),
    /// The end. Nothing follows.
    Finished(Ending),
}

/// What is to be done next for a client.
enum Step<Piece> {
    /// To say something.
    Say(Said<Piece>),
    /// To make the lead go on with these tokens after the first so many.
    Force(usize, Vec<TokenId>),
    /// Nothing: all is said.
    End,
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
    /// How often it went on at another lead.
    pub(super) resumed: u32,
}

/// A generation with its output.
#[derive(Debug)]
pub(super) struct OutputStream<O> {
    generation: Generation,
    transcript: Transcript<O>,
    /// How long what could be told may be held.
    coalesce: Duration,
    /// Since when something is held, and how many tokens.
    held: Option<(Instant, usize)>,
    /// Whether tokens follow where an answer should have been opened.
    is_unopened: bool,
    /// What an answer has to be opened with, and after how many tokens.
    opening: Option<(usize, Vec<TokenId>)>,
    heartbeat: Duration,
    meter: Meter,
}

impl<O: Output> OutputStream<O> {
    /// Enters the request at the lead, or attaches to it. The stream's opening message has number 1.
    ///
    /// # Errors
    ///
    /// As [`Generation::start`].
    pub(super) async fn start(
        shared: &Arc<Shared>,
        request: Request,
        output: O,
        (clock, mut meter): (Clock, Meter),
    ) -> Result<Self, Error> {
        let delivery = request.delivery;
        let scored = match request.wants_prompt_logprobs() {
            true => request.prompt.len(),
            false => 0,
        };
        let ends = request.ends.clone();
        let generation = Generation::start(shared, Arc::new(request), clock).await;
        let generation = meter.watch(generation)?;
        Ok(Self {
            generation,
            transcript: Transcript::new(output, ends, scored, delivery.resume_after),
            coalesce: delivery.coalesce,
            held: None,
            is_unopened: false,
            opening: None,
            heartbeat: shared.config.heartbeat,
            meter,
        })
    }

    /// Sends everything to the client, each event as this message of its number.
    ///
    /// # Errors
    ///
    /// A passed deadline, a shutdown, what the lead ends the generation with, and a client that
    /// does not read.
    pub(super) async fn send_all<T>(
        mut self,
        client: ReplySender<T>,
        message: impl Fn(u64, Said<O::Piece>) -> T,
    ) -> Result<(), Error> {
        let sent = self.send_each(client, message).await;
        if let Err(error) = &sent {
            let request_id = self.generation.id();
            tracing::debug!(request_id, %error, "stream ended early");
        }
        self.meter.watch(sent)
    }

    async fn send_each<T>(
        &mut self,
        client: ReplySender<T>,
        message: impl Fn(u64, Said<O::Piece>) -> T,
    ) -> Result<(), Error> {
        loop {
            let said = match self.next().await? {
                Step::Say(said) => said,
                Step::Force(keep, tokens) => {
                    // This may take as long as it takes to find another lead.
                    let (sequence, idle) = (self.transcript.sequence(), self.idle());
                    let beat = || message(sequence, Said::Idle(idle));
                    let every = (self.generation.quiet_since(), self.heartbeat);
                    let force = self.generation.force(keep, tokens);
                    self.is_unopened = !accepted(force, &client, every, beat).await?;
                    continue;
                }
                Step::End => return Ok(()),
            };
            let message = message(self.transcript.sequence(), said);
            self.send(&client, message).await?;
        }
    }

    /// Sends a message as soon as there is room for it. A deadline does not wait for the client.
    async fn send<T>(&mut self, client: &ReplySender<T>, message: T) -> Result<(), Error> {
        let mut room = pin!(client.room());
        let room = tokio::select! {
            biased;
            room = &mut room => match room {
                Ok(room) => room,
                // The others are the client's leaving.
                Err(error @ Error::Draining) => return Err(self.generation.fail(error)),
                Err(error) => return Err(error),
            },
            error = self.generation.expiry() => return Err(self.generation.fail(error)),
        };
        self.generation.sent(self.transcript.sequence());
        room.send(message);
        Ok(())
    }

    /// Waits for the next event.
    async fn next(&mut self) -> Result<Step<O::Piece>, Error> {
        loop {
            if let Some((keep, tokens)) = self.opening.take() {
                return Ok(Step::Force(keep, tokens));
            }
            let due = self.due();
            if due.is_none_or(|due| due <= Instant::now()) {
                match self.transcript.take() {
                    Some(Told::Finished(outcome)) => {
                        return Ok(Step::Say(Said::Finished(self.ending(outcome))));
                    }
                    Some(told) => return Ok(Step::Say(Said::Told(told))),
                    None => self.held = None,
                }
                if self.transcript.is_overrun() {
                    return Err(Error::BeyondTheEnd {
                        last: self.transcript.last(),
                    });
                }
                if self.transcript.is_told() {
                    return Ok(Step::End);
                }
            }
            let due = async {
                match self.held.and(due) {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => std::future::pending().await,
                }
            };
            let event = tokio::select! {
                biased;
                event = self.generation.next() => event?,
                () = due => continue,
            };
            match event {
                Event::Prompt(logprobs) => self.transcript.push_prompt(logprobs),
                Event::Tokens(tokens) => self.take(tokens),
                Event::Resumed => return Ok(Step::Say(Said::Resumed)),
                Event::Idle => return Ok(Step::Say(Said::Idle(self.idle()))),
                Event::End { by_token } => self.transcript.finish_by_lead(by_token),
                Event::Cancelled => self.transcript.finish(FinishReason::Cancelled),
            }
        }
    }

    /// Returns what is said where nothing was for a while.
    fn idle(&self) -> Heartbeat {
        let (state, queue_position) = self.generation.standing();
        Heartbeat {
            state: state.into(),
            queue_position,
        }
    }

    /// Returns until when what could be told is held; `None` if it is not.
    fn due(&self) -> Option<Instant> {
        let (since, tokens) = self.held?;
        let is_held = !self.transcript.is_ended() && tokens < limits::MAX_CHUNK;
        is_held.then(|| since + self.coalesce)
    }

    fn take(&mut self, tokens: Vec<SampledToken>) {
        let to_first = self.generation.times().0.first_token;
        let is_repeat = self.generation.is_repeat();
        if !is_repeat {
            self.meter.tokens(tokens.len(), to_first);
        }
        if self.is_unopened {
            // It ran on while nobody was there to open its answer.
            return self.end(FinishReason::Length);
        }
        let held = self.held.map_or(0, |(_, held)| held) + tokens.len();
        let since = self.held.map_or_else(Instant::now, |(since, _)| since);
        self.held = Some((since, held));
        let mut new = 0;
        for sampled in tokens {
            new += usize::from(self.transcript.catch_up());
            match self.transcript.push(sampled) {
                Next::More => {}
                Next::Nothing => {
                    self.generation.settle();
                    break;
                }
                Next::Answer => {
                    let (keep, opening) = self.transcript.answer();
                    self.opening = Some((keep, opening.to_vec()));
                    break;
                }
            }
        }
        if is_repeat && self.transcript.is_resumed() && new > 0 {
            let has_first = new == self.transcript.num_tokens() as usize;
            self.meter.tokens(new, to_first.filter(|_| has_first));
        }
    }

    /// Says whether the call that began the generation counts what is counted once. A client that resumes its
    /// stream has lost that call, and with it whoever would count the rest.
    fn is_counted_elsewhere(&self) -> bool {
        self.generation.is_repeat() && !self.transcript.is_resumed()
    }

    fn end(&mut self, reason: FinishReason) {
        self.generation.settle();
        self.transcript.finish(reason);
    }

    fn ending(&mut self, outcome: super::transcript::Outcome) -> Ending {
        let (times, total, resumed) = self.generation.times();
        let (running, first) = (times.running, times.first_token);
        let ending = Ending {
            reason: outcome.reason,
            stop_sequence: outcome.stop_sequence,
            token: outcome.token,
            usage: self.generation.usage(
                self.transcript.num_tokens(),
                self.transcript.reasoning_tokens(),
            ),
            queued: running,
            prefill: running
                .zip(first)
                .map(|(running, first)| first.saturating_sub(running)),
            to_first_token: first,
            total,
            resumed,
        };
        self.meter.ended(&ending, self.is_counted_elsewhere());
        ending
    }
}

/// Follows a request in a task of its own, and returns what it says: the opening message, unless the client has
/// it, then each event as a message of its number.
///
/// The lead's answer is awaited inside the stream: for a call whose deadline passes before the
/// stream begins, tonic would answer with a code of its own. While it does not come, the client gets
/// heartbeats, of the number that it has.
pub(super) fn serve<O, T>(
    shared: &Arc<Shared>,
    request: Request,
    output: O,
    (clock, meter): (Clock, Meter),
    opening: impl FnOnce(GenerationStarted) -> T + Send + 'static,
    message: impl Fn(u64, Said<O::Piece>) -> T + Send + Sync + 'static,
) -> Replies<T>
where
    O: Output + Send + 'static,
    O::Piece: Send,
    T: Send + 'static,
{
    let front = Arc::clone(shared);
    let mut started = shared.started(&request);
    let (known, every) = (request.delivery.resume_after, shared.config.heartbeat);
    replies::serve(shared, |client| async move {
        let start = OutputStream::start(&front, request, output, (clock, meter));
        let beat = || message(known, Said::Idle(unaccepted()));
        let mut stream = accepted(start, &client, (clock.arrived, every), beat).await?;
        if known == 0 {
            started.cached_prompt_tokens = stream.generation.cached_prompt_tokens();
            stream.send(&client, opening(started)).await?;
        }
        stream.send_all(client, message).await
    })
}

/// Waits until something is accepted by its lead, or refused. A client that has heard nothing for so long,
/// since this moment, gets such a beat.
///
/// # Errors
///
/// The refusal, and what keeps a beat from its client.
pub(super) async fn accepted<A, E: From<Error>, T>(
    start: impl Future<Output = Result<A, E>>,
    client: &ReplySender<T>,
    (since, every): (Instant, Duration),
    beat: impl Fn() -> T,
) -> Result<A, E> {
    let beats = async {
        let mut times = tokio::time::interval_at(since + every, every);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            times.tick().await;
            if let Err(error) = client.send(beat()).await {
                return error;
            }
        }
    };
    tokio::select! {
        biased;
        started = start => started,
        error = beats => Err(error.into()),
    }
}

/// What is said of a request that no lead has accepted yet.
fn unaccepted() -> Heartbeat {
    Heartbeat {
        state: GenerationState::Unspecified.into(),
        queue_position: 0,
    }
}
