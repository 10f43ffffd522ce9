//! A generation from its acceptance to its one end, as numbered events.
//!
//! Joins a [`Generation`] with an [`Output`]. Generate, Chat and /v1/completions are its faces.

use std::sync::Arc;

use proto::v1::{FinishReason, GenerationState};
use spec::{SampledToken, TokenId, TokenLogprob};

use super::Shared;
use super::error::Error;
use super::generation::{Clock, Ending, Event, Generation};
use super::limits;
use super::output::Output;
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
    Idle {
        state: GenerationState,
        queue_position: u32,
    },
    /// The end. Nothing follows.
    Finished(Ending),
}

/// A generation with its output.
#[derive(Debug)]
pub(super) struct OutputStream<O> {
    generation: Generation,
    output: O,
    prompt: PromptLogprobs,
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
        let ends = request.ends;
        let (last_token, end, sequence) = (None, End::Open, 1);
        Ok(Self {
            generation,
            output,
            prompt,
            ends,
            last_token,
            end,
            sequence,
        })
    }

    /// Returns the number of the last event.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Waits for the next event; `None` after the end.
    ///
    /// # Errors
    ///
    /// As [`Generation::next`].
    pub(super) async fn next(&mut self) -> Result<Option<Said<O::Piece>>, Error> {
        loop {
            if let Some(said) = self.ready() {
                self.generation.sent(self.sequence);
                return Ok(Some(said));
            }
            if matches!(self.end, End::Said) {
                return Ok(None);
            }
            match self.generation.next().await? {
                Event::Prompt(logprobs) => self.prompt.extend(logprobs),
                Event::Tokens(tokens) => self.take(tokens),
                Event::Idle => {
                    self.generation.sent(self.sequence);
                    let state = self.generation.standing().state;
                    let queue_position = self.generation.queue_position();
                    return Ok(Some(Said::Idle {
                        state,
                        queue_position,
                    }));
                }
                Event::End { by_token } => self.end_by_lead(by_token),
                Event::Cancelled => self.end(FinishReason::Cancelled),
            }
        }
    }

    fn take(&mut self, tokens: Vec<SampledToken>) {
        if self.ends.max_tokens == 0 {
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
        self.generation.hang_up();
        self.output.finish();
        self.end = End::Known(reason);
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
        if matches!(self.end, End::Open) && self.ends.max_tokens == 0 && self.prompt.is_said() {
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
        let by_sequence = self.output.stopped_by().map(str::to_owned);
        let without_token = by_sequence.is_some()
            || matches!(reason, FinishReason::Length | FinishReason::Cancelled);
        let token = self.last_token.filter(|_| !without_token);
        Some(Said::Finished(self.generation.conclude(
            reason,
            by_sequence,
            token,
        )))
    }
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
