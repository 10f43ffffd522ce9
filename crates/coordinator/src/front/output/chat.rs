//! Generated tokens to Harmony messages.
//!
//! The parser never fails; what it repairs becomes a warning. Text for the end user is held while
//! it may be part of a stop sequence, message by message.

mod open;

use std::collections::VecDeque;
use std::mem;

use proto::v1::chat_response::Event;
use proto::v1::{MessageDone, Warning};
use spec::{SampledToken, TokenId};
use tokenizer::harmony::{self, Channel, Harmony, Header, Parser, Role};

use self::open::OpenMessage;
use super::{Output, chunk};
use crate::front::limits;
use crate::front::request::Ends;

/// The output of a chat.
#[derive(Debug)]
pub(in crate::front) struct ChatOutput {
    harmony: Harmony,
    answer_opening: Vec<TokenId>,
    parser: Parser,
    ends: Ends,
    show: Show,
    open: Option<OpenMessage>,
    /// Whether the last message that was closed is a call.
    ended_in_call: bool,
    next_index: u32,
    /// Tokens whose text has not come out of the parser yet; a header may still turn out to be text.
    tokens: Vec<SampledToken>,
    /// What may be sent, each with its number of canonical events.
    ready: VecDeque<(u64, Event)>,
    reasoning_tokens: u32,
    stopped_by: Option<String>,
}

/// What the client wants to see.
#[derive(Clone, Debug, Default)]
pub(in crate::front) struct Show {
    /// Names the generation, and so its tool calls.
    pub(in crate::front) id: String,
    /// Whether messages come whole.
    pub(in crate::front) final_only: bool,
    /// Whether deltas name their tokens.
    pub(in crate::front) token_ids: bool,
}

impl ChatOutput {
    /// Begins the assistant's answer.
    pub(in crate::front) fn new(harmony: Harmony, ends: Ends, show: Show) -> Self {
        Self {
            parser: harmony.parser(Some(Role::Assistant)),
            answer_opening: answer_opening(&harmony),
            harmony,
            ends,
            show,
            open: None,
            ended_in_call: false,
            next_index: 0,
            tokens: Vec::new(),
            ready: VecDeque::new(),
            reasoning_tokens: 0,
            stopped_by: None,
        }
    }

    /// Says whether a token is part of the format, even where it ends the generation.
    fn is_of_format(&self, token: TokenId) -> bool {
        let tokens = self.harmony.tokens();
        [tokens.end, tokens.return_, tokens.call].contains(&token)
    }

    /// Takes what the parser says; returns whether a stop sequence is complete.
    fn take_parsed(&mut self, events: Vec<harmony::Event>) -> bool {
        for event in events {
            match event {
                harmony::Event::MessageStarted(header) => self.begin(header),
                harmony::Event::Text(text) => {
                    let tokens = mem::take(&mut self.tokens);
                    let open = self.open.as_mut().expect("text comes within a message");
                    self.stopped_by = open.push(tokens, text);
                    if self.stopped_by.is_some() {
                        self.end_message();
                        return true;
                    }
                    if !self.show.final_only {
                        self.take_text();
                    }
                }
                harmony::Event::MessageDone(_) => self.end_message(),
                harmony::Event::Warning(warning) => {
                    self.warn(warning.reason(), warning.to_string());
                }
            }
        }
        false
    }

    fn begin(&mut self, header: Header) {
        if let Some(Channel::Other(word)) = &header.channel {
            let message = format!("channel {word} is unknown; its message has none");
            self.warn("UNKNOWN_CHANNEL", message);
        }
        let tokenizer = self.harmony.tokenizer();
        let stops = &self.ends.sequences;
        let open = OpenMessage::new(self.next_index, header, stops, &self.show, tokenizer);
        self.next_index += 1;
        self.ready
            .push_back((1, Event::MessageStarted(open.started())));
        self.open = Some(open);
    }

    fn end_message(&mut self) {
        self.tokens.clear();
        if let Some(open) = &mut self.open {
            open.finish();
        }
        self.take_text();
        if let Some(open) = self.open.take() {
            self.ended_in_call = open.is_call();
            let (message_index, mut message) = (open.index(), open.into_message());
            let text_left_out = message.text.len() > limits::MAX_WHOLE_TEXT;
            if text_left_out {
                message.text = String::new();
            }
            let done = MessageDone {
                message_index,
                message: Some(message),
                text_left_out,
            };
            self.ready.push_back((1, Event::MessageDone(done)));
        }
    }

    /// Makes deltas of all text that may be sent.
    fn take_text(&mut self) {
        if let Some(open) = &mut self.open {
            let deltas = std::iter::from_fn(|| open.take());
            self.ready
                .extend(deltas.map(|delta| (1, Event::TextDelta(delta))));
        }
    }

    fn warn(&mut self, reason: &str, message: String) {
        let warning = Warning {
            reason: reason.to_owned(),
            message,
        };
        self.ready.push_back((0, Event::Warning(warning)));
    }
}

impl Output for ChatOutput {
    type Piece = Event;

    fn push(&mut self, sampled: SampledToken) -> bool {
        let token = sampled.token;
        // Such a token only stopped the generation; as a special token it would be text.
        if self.ends.at(token) && !self.is_of_format(token) {
            return false;
        }
        let was_reasoning = self.is_reasoning();
        let was_in_message = self.parser.header().is_some();
        let begins_header = token == self.harmony.tokens().start;
        // These two are never part of a text that ends with them: one ends it, and the other begins
        // what follows.
        let mut of_next = None;
        if begins_header {
            of_next = Some(sampled);
        } else if !self.is_of_format(token) {
            self.tokens.push(sampled);
        }
        let mut events = self.parser.push(token);
        self.reasoning_tokens += u32::from(was_reasoning && self.is_reasoning());
        if events.is_empty() && self.open.is_some() && self.tokens.len() >= limits::MAX_CHUNK {
            // So many tokens that made no text go into one message to the client, and no more.
            events.push(harmony::Event::Text(String::new()));
        }
        let stops = self.take_parsed(events);
        let is_in_message = self.parser.header().is_some();
        if !was_in_message && (is_in_message || begins_header) || self.is_of_format(token) {
            // A header is over. What was text of it has taken its tokens; others belong to no text.
            self.tokens.clear();
        }
        self.tokens.extend(of_next);
        stops
    }

    fn finish(&mut self) {
        // After a stop sequence what the parser holds is no part of the text.
        if self.stopped_by.is_none() {
            let events = self.parser.finish();
            self.take_parsed(events);
        }
    }

    /// Each group of tokens whose text came together is a canonical event, and each beginning and
    /// end of a message.
    fn take(&mut self, most: u64) -> Option<(u64, Event)> {
        let most = chunk(most);
        let (mut events, event) = self.ready.pop_front()?;
        let Event::TextDelta(mut delta) = event else {
            return Some((events, event));
        };
        while let Some((_, Event::TextDelta(next))) = self.ready.front()
            && (events as usize) < most
            && delta.logprobs.len() + next.logprobs.len() <= limits::MAX_CHUNK
            && delta.token_ids.len() + next.token_ids.len() <= limits::MAX_CHUNK
        {
            if let Some((more, Event::TextDelta(next))) = self.ready.pop_front() {
                events += more;
                delta.text.push_str(&next.text);
                delta.token_ids.extend(next.token_ids);
                delta.logprobs.extend(next.logprobs);
            }
        }
        Some((events, Event::TextDelta(delta)))
    }

    fn stopped_by(&self) -> Option<&str> {
        self.stopped_by.as_deref()
    }

    /// The recipient decides, and not the token: `<|call|>` after an answer calls nothing, and
    /// `<|return|>` after a call still leaves the tool to be called. A token that the request stops
    /// at says nothing about the turn.
    fn is_call(&self, token: TokenId) -> bool {
        let in_call = self
            .open
            .as_ref()
            .map_or(self.ended_in_call, OpenMessage::is_call);
        in_call && self.ends.eos.contains(&token)
    }

    fn reasoning_tokens(&self) -> u32 {
        self.reasoning_tokens
    }

    fn is_reasoning(&self) -> bool {
        self.parser
            .header()
            .is_some_and(|header| header.channel == Some(Channel::Analysis))
    }

    fn answer_opening(&self) -> &[TokenId] {
        &self.answer_opening
    }
}

/// Returns `<|end|><|start|>assistant<|channel|>final<|message|>`.
fn answer_opening(harmony: &Harmony) -> Vec<TokenId> {
    let (tokens, words) = (harmony.tokens(), harmony.tokenizer());
    let mut opening = vec![tokens.end, tokens.start];
    opening.extend(words.encode("assistant"));
    opening.push(tokens.channel);
    opening.extend(words.encode("final"));
    opening.push(tokens.message);
    opening
}

#[cfg(test)]
mod tests;
