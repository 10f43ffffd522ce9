//! A generation from its acceptance to its one end, as numbered events.
//!
//! Joins a [`Generation`] with an [`Output`]. Generate, Chat and /v1/completions are its faces.

use std::pin::pin;
use std::sync::Arc;

use proto::v1::{FinishReason, Heartbeat};
use spec::{SampledToken, TokenId, TokenLogprob};

use super::Shared;
use super::error::Error;
use super::generation::{Clock, Ending, Event, Generation};
use super::limits;
use super::output::Output;
use super::replies::{self, Replies, ReplySender};
use super::request::{Ends, Request};

/// What a generation says to its client, in order.
#[derive(Clone, Debug)]
pub(super) enum Said<Piece> {
    /// Logprobs of the prompt from this position on; position 0 has none and is given as `None`.
    Prompt {
        first_position: u32,
        logprobs: Vec<Option<TokenLogprob>>,
    },
    /// A piece of the output.
    Piece(Piece),
    /// Nothing was sent for a while.
    Idle(Heartbeat),
    /// The end. Nothing follows.
    Finished(Ending),
}

/// A generation with its output.
#[derive(Debug)]
pub(super) struct OutputStream<O> {
    generation: Generation,
    output: O,
    prompt: PromptLogprobs,
    max_tokens: u32,
    ends: Ends,
    last_token: Option<TokenId>,
    end: End,
    sequence: u64,
}

/// How near the end is.
#[derive(Debug)]
enum End {
    /// The lead has more to say.
    Open,
    /// The reason is known, but something may still be on its way to the client.
    Known(FinishReason),
    /// The client has heard of it.
    Said,
}

impl<O: Output> OutputStream<O> {
    /// Enters the request at the lead. The stream's opening message has number 1.
    ///
    /// # Errors
    ///
    /// As [`Generation::start`].
    pub(super) async fn start(
        shared: &Arc<Shared>,
        request: Request,
        output: O,
        clock: Clock,
    ) -> Result<Self, Error> {
        let mut generation = Generation::start(shared, &request, clock).await?;
        generation.sent(1);
        let length = request.prompt.len();
        let prompt = PromptLogprobs::new(if request.wants_prompt_logprobs() {
            length
        } else {
            0
        });
        let (max_tokens, ends) = (request.max_tokens, request.ends);
        let (last_token, end, sequence) = (None, End::Open, 1);
        Ok(Self {
            generation,
            output,
            prompt,
            max_tokens,
            ends,
            last_token,
            end,
            sequence,
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
        while let Some(said) = self.next().await? {
            let message = message(self.sequence, said);
            self.send(&client, message).await?;
        }
        Ok(())
    }

    /// Sends a message as soon as there is room for it.
    ///
    /// Nothing that can end a generation waits for the client to read: when it is cancelled
    /// meanwhile, the lead is let go at once.
    async fn send<T>(&mut self, client: &ReplySender<T>, message: T) -> Result<(), Error> {
        let mut room = pin!(client.room());
        let room = loop {
            tokio::select! {
                biased;
                room = &mut room => match room {
                    Ok(room) => break room,
                    // The others are the client's leaving.
                    Err(error @ Error::Draining) => return Err(self.generation.fail(error)),
                    Err(error) => return Err(error),
                },
                () = self.generation.cancelled(), if matches!(self.end, End::Open) => {
                    self.end(FinishReason::Cancelled);
                }
                error = self.generation.expiry() => return Err(self.generation.fail(error)),
            }
        };
        self.generation.sent(self.sequence);
        room.send(message);
        Ok(())
    }

    /// Waits for the next event; `None` after the end.
    async fn next(&mut self) -> Result<Option<Said<O::Piece>>, Error> {
        loop {
            if let Some(said) = self.ready() {
                return Ok(Some(said));
            }
            if matches!(self.end, End::Said) {
                return Ok(None);
            }
            match self.generation.next().await? {
                Event::Prompt(logprobs) => self.prompt.extend(logprobs),
                Event::Tokens(tokens) => self.take(tokens),
                Event::Idle => {
                    return Ok(Some(Said::Idle(Heartbeat {
                        state: self.generation.standing().state.into(),
                        queue_position: self.generation.queue_position(),
                    })));
                }
                Event::End { by_token } => self.end_by_lead(by_token),
                Event::Cancelled => self.end(FinishReason::Cancelled),
            }
        }
    }

    fn take(&mut self, tokens: Vec<SampledToken>) {
        if self.max_tokens == 0 {
            return self.end(FinishReason::Length);
        }
        for sampled in tokens {
            self.last_token = Some(sampled.token);
            let stops = self.output.push(sampled);
            let reasoning_tokens = self.output.reasoning_tokens();
            self.generation.note(|standing| {
                standing.usage.output_tokens += 1;
                standing.usage.reasoning_tokens = reasoning_tokens;
            });
            if stops {
                return self.end(FinishReason::StopSequence);
            }
        }
    }

    fn end_by_lead(&mut self, by_token: bool) {
        let reason = match self.last_token.filter(|_| by_token) {
            None => FinishReason::Length,
            Some(token) if self.output.is_call(token) => FinishReason::ToolCalls,
            Some(token) if self.ends.eos.contains(&token) => FinishReason::Stop,
            Some(_) => FinishReason::StopSequence,
        };
        self.end(reason);
    }

    fn end(&mut self, reason: FinishReason) {
        self.output.finish();
        // What was held until now may be text, and hold a stop sequence: the text ends there.
        let is_cut = reason != FinishReason::Cancelled && self.output.stopped_by().is_some();
        let reason = if is_cut {
            FinishReason::StopSequence
        } else {
            reason
        };
        self.end = End::Known(self.generation.settle(reason));
    }

    /// Returns what can be said without hearing more from the lead.
    fn ready(&mut self) -> Option<Said<O::Piece>> {
        if let Some((first_position, logprobs)) = self.prompt.take() {
            self.sequence += 1;
            return Some(Said::Prompt {
                first_position,
                logprobs,
            });
        }
        if matches!(self.end, End::Open) && self.max_tokens == 0 && self.prompt.is_said() {
            self.end(FinishReason::Length);
        }
        if let Some((events, piece)) = self.output.take() {
            self.sequence += events;
            return Some(Said::Piece(piece));
        }
        let End::Known(reason) = self.end else {
            return None;
        };
        self.end = End::Said;
        self.sequence += 1;
        let stopped_by = self.output.stopped_by().map(str::to_owned);
        let by_sequence = stopped_by.filter(|_| reason == FinishReason::StopSequence);
        let without_token = by_sequence.is_some()
            || matches!(reason, FinishReason::Length | FinishReason::Cancelled);
        let token = self.last_token.filter(|_| !without_token);
        let ending = self.generation.ending(reason, by_sequence, token);
        Some(Said::Finished(ending))
    }
}

/// Follows a request in a task of its own, and returns what it says: this opening message, then each
/// event as a message of its number.
///
/// The lead's answer is awaited inside the stream: for a call whose deadline passes before the
/// stream begins, tonic would answer with a code of its own.
pub(super) fn serve<O, T>(
    shared: &Arc<Shared>,
    request: Request,
    output: O,
    clock: Clock,
    opening: T,
    message: impl Fn(u64, Said<O::Piece>) -> T + Send + 'static,
) -> Replies<T>
where
    O: Output + Send + 'static,
    O::Piece: Send,
    T: Send + 'static,
{
    let front = Arc::clone(shared);
    replies::serve(shared, |client| async move {
        let mut stream = OutputStream::start(&front, request, output, clock).await?;
        stream.send(&client, opening).await?;
        stream.send_all(client, message).await
    })
}

/// Collects logprobs of the prompt into chunks that do not depend on how they arrive.
#[derive(Debug)]
struct PromptLogprobs {
    /// Positions in all; 0 if none are wanted.
    length: usize,
    /// Position of the first that waits.
    first: usize,
    waiting: Vec<Option<TokenLogprob>>,
}

impl PromptLogprobs {
    fn new(length: usize) -> Self {
        let waiting = if length == 0 { Vec::new() } else { vec![None] };
        Self {
            length,
            first: 0,
            waiting,
        }
    }

    fn extend(&mut self, logprobs: Vec<TokenLogprob>) {
        self.waiting.extend(logprobs.into_iter().map(Some));
    }

    /// Returns the next chunk and its first position, when it is complete.
    fn take(&mut self) -> Option<(u32, Vec<Option<TokenLogprob>>)> {
        let due = limits::MAX_CHUNK.min(self.length - self.first);
        if due == 0 || self.waiting.len() < due {
            return None;
        }
        let first = u32::try_from(self.first).expect("a prompt is shorter than the context");
        self.first += due;
        Some((first, self.waiting.drain(..due).collect()))
    }

    /// Says whether logprobs were wanted and all were taken.
    fn is_said(&self) -> bool {
        self.length > 0 && self.first == self.length
    }
}
