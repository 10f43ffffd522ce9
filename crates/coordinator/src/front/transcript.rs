//! What a generation says, as numbered events: a function of what the lead says, and of nothing else.
//!
//! So every front gives every event the same number, whoever began the generation and however its
//! tokens were handed over, and a stream can be resumed anywhere: the tokens are told from the first
//! again, and what the client has is left out. Pure.

use proto::v1::FinishReason;
use spec::{SampledToken, TokenId, TokenLogprob};

use super::limits;
use super::output::Output;
use super::request::Ends;

/// What is said, in order.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Told<Piece> {
    /// Logprobs of the prompt from this position on; position 0 has none and is given as `None`.
    Prompt {
        first_position: u32,
        logprobs: Vec<Option<TokenLogprob>>,
    },
    /// A piece of the output.
    Piece(Piece),
    /// The end. Nothing follows.
    Finished(Outcome),
}

/// How a generation ended in good order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Why.
    pub(super) reason: FinishReason,
    /// The stop sequence that was met.
    pub(super) stop_sequence: Option<String>,
    /// The token that ended it.
    pub(super) token: Option<TokenId>,
}

/// What a token calls for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Another.
    More,
    /// Nothing: it completes a stop sequence.
    Nothing,
    /// The opening of the answer: there was enough reasoning.
    Answer,
}

/// The events of one generation.
#[derive(Debug)]
pub(super) struct Transcript<O> {
    output: O,
    prompt: PromptLogprobs,
    ends: Ends,
    /// Only events with a higher number are told.
    after: u64,
    num_tokens: u32,
    last_token: Option<TokenId>,
    end: End,
    sequence: u64,
}

/// How near the end is.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// There may be more tokens.
    Open,
    /// The reason is known, but something may still have to be told.
    Known(FinishReason),
    /// All was told.
    Told,
}

impl<O: Output> Transcript<O> {
    /// Begins with the opening of a stream, which has number 1. Logprobs of a prompt of that many
    /// tokens are events of it; 0 if they are not.
    pub(super) fn new(output: O, ends: Ends, scored_prompt: usize, after: u64) -> Self {
        Self {
            output,
            prompt: PromptLogprobs::new(scored_prompt),
            ends,
            after,
            num_tokens: 0,
            last_token: None,
            end: End::Open,
            sequence: 1,
        }
    }

    /// Returns the number of the last event that was told or passed over, and never less than what
    /// the client has.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence.max(self.after)
    }

    /// Returns the number of the last event there is so far.
    pub(super) fn last(&self) -> u64 {
        self.sequence
    }

    /// Says whether the client has more events than there are.
    pub(super) fn is_overrun(&self) -> bool {
        self.end == End::Told && self.sequence < self.after
    }

    /// Returns how many tokens there are.
    pub(super) fn num_tokens(&self) -> u32 {
        self.num_tokens
    }

    /// Returns how many of them are reasoning.
    pub(super) fn reasoning_tokens(&self) -> u32 {
        self.output.reasoning_tokens()
    }

    /// Says whether the client has a part of it already.
    pub(super) fn is_resumed(&self) -> bool {
        self.after > 0
    }

    /// Passes over what the client has, as far as there is anything, and says whether that is all it has:
    /// a token that is pushed then is new to it.
    ///
    /// Where all is held to the end, for a client that has had it piece by piece before, what it has is passed
    /// over late, and every token until then taken for an old one.
    pub(super) fn catch_up(&mut self) -> bool {
        while self.sequence < self.after {
            if self.take_any().is_none() {
                return false;
            }
        }
        true
    }

    /// Says whether no token is wanted any more.
    pub(super) fn is_ended(&self) -> bool {
        self.end != End::Open
    }

    /// Says whether everything was told.
    pub(super) fn is_told(&self) -> bool {
        self.end == End::Told
    }

    /// Returns the tokens that open the answer, and how many tokens are before them.
    pub(super) fn answer(&self) -> (usize, &[TokenId]) {
        (self.num_tokens as usize, self.output.answer_opening())
    }

    /// Takes logprobs of the prompt's next positions.
    pub(super) fn push_prompt(&mut self, logprobs: Vec<TokenLogprob>) {
        self.prompt.extend(logprobs);
    }

    /// Takes the next token and says what comes after it.
    pub(super) fn push(&mut self, sampled: SampledToken) -> Next {
        self.last_token = Some(sampled.token);
        self.num_tokens += 1;
        if self.output.push(sampled) {
            self.finish(FinishReason::StopSequence);
            return Next::Nothing;
        }
        let enough = self.ends.max_reasoning.is_some_and(|most| {
            self.output.is_reasoning() && self.output.reasoning_tokens() >= most
        });
        if enough { Next::Answer } else { Next::More }
    }

    /// Ends it; the first reason stays.
    pub(super) fn finish(&mut self, reason: FinishReason) {
        if self.end == End::Open {
            self.output.finish();
            // What was held until now may be text, and hold a stop sequence: the text ends there.
            let is_cut = reason != FinishReason::Cancelled && self.output.stopped_by().is_some();
            self.end = End::Known(if is_cut {
                FinishReason::StopSequence
            } else {
                reason
            });
        }
    }

    /// Ends it with its last token, or else at a limit.
    pub(super) fn finish_by_lead(&mut self, by_token: bool) {
        let reason = match self.last_token.filter(|_| by_token) {
            None => FinishReason::Length,
            Some(token) if self.output.is_call(token) => FinishReason::ToolCalls,
            Some(token) if self.ends.eos.contains(&token) => FinishReason::Stop,
            Some(_) => FinishReason::StopSequence,
        };
        self.finish(reason);
    }

    /// Returns the next that can be told now. Its last event's number is [`Transcript::sequence`].
    pub(super) fn take(&mut self) -> Option<Told<O::Piece>> {
        loop {
            let before = self.sequence;
            let told = self.take_any()?;
            let is_new = self.sequence > self.after;
            // What has no number of its own comes with the event before it, maybe twice.
            if is_new || (before == self.sequence && self.sequence == self.after) {
                return Some(told);
            }
        }
    }

    fn take_any(&mut self) -> Option<Told<O::Piece>> {
        if let Some((first_position, logprobs)) = self.prompt.take() {
            self.sequence += 1;
            return Some(Told::Prompt {
                first_position,
                logprobs,
            });
        }
        // Up to what the client has, and then on: no piece has events of both.
        let most = match self.after.saturating_sub(self.sequence) {
            0 => u64::MAX,
            passed => passed,
        };
        if let Some((events, piece)) = self.output.take(most) {
            self.sequence += events;
            return Some(Told::Piece(piece));
        }
        let End::Known(reason) = self.end else {
            return None;
        };
        self.end = End::Told;
        self.sequence += 1;
        let stopped_by = self.output.stopped_by().map(str::to_owned);
        let stop_sequence = stopped_by.filter(|_| reason == FinishReason::StopSequence);
        let without_token = stop_sequence.is_some()
            || matches!(reason, FinishReason::Length | FinishReason::Cancelled);
        Some(Told::Finished(Outcome {
            reason,
            stop_sequence,
            token: self.last_token.filter(|_| !without_token),
        }))
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
}

#[cfg(test)]
mod tests;
