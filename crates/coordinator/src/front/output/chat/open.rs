//! A message that the model is writing: its text, and how much of that may be sent.

use std::collections::VecDeque;
use std::sync::Arc;

use proto::v1;
use spec::SampledToken;
use tokenizer::Tokenizer;
use tokenizer::harmony::{Channel, Header, Role};

use super::Show;
use crate::front::convert::{self, reply};
use crate::front::stop::StopMatcher;

/// An open message.
#[derive(Debug)]
pub(super) struct OpenMessage {
    index: u32,
    header: Header,
    tool_call_id: String,
    tokenizer: Arc<Tokenizer>,
    show_token_ids: bool,
    /// Only for text that the end user sees.
    stops: Option<StopMatcher>,
    /// All text, but for a stop sequence.
    text: String,
    /// How much of it was taken.
    taken: usize,
    /// Tokens whose text was not taken, each group with where its text ends.
    held: VecDeque<(Vec<SampledToken>, usize)>,
    is_finished: bool,
}

impl OpenMessage {
    /// Begins a message.
    pub(super) fn new(
        index: u32,
        header: Header,
        stop_sequences: &[String],
        show: &Show,
        tokenizer: &Arc<Tokenizer>,
    ) -> Self {
        let tool_call_id = match is_call(&header) {
            true => format!(
                "call_{:016x}",
                convert::hash64(&format!("{}/{index}", show.id))
            ),
            false => String::new(),
        };
        let is_for_user = header.recipient.is_none() && header.channel != Some(Channel::Analysis);
        Self {
            index,
            header,
            tool_call_id,
            tokenizer: Arc::clone(tokenizer),
            show_token_ids: show.token_ids,
            stops: is_for_user.then(|| StopMatcher::new(stop_sequences)),
            text: String::new(),
            taken: 0,
            held: VecDeque::new(),
            is_finished: false,
        }
    }

    /// Returns the message's number.
    pub(super) fn index(&self) -> u32 {
        self.index
    }

    /// Says whether the message calls a tool.
    pub(super) fn is_call(&self) -> bool {
        is_call(&self.header)
    }

    /// Returns the announcement.
    pub(super) fn started(&self) -> v1::MessageStarted {
        v1::MessageStarted {
            message_index: self.index,
            role: role(self.header.role).into(),
            channel: channel(self.header.channel.as_ref()).into(),
            recipient: self.header.recipient.clone().unwrap_or_default(),
            content_type: self.header.content_type.clone().unwrap_or_default(),
            tool_call_id: self.tool_call_id.clone(),
        }
    }

    /// Appends tokens and the text they made certain; returns the stop sequence it completes.
    pub(super) fn push(&mut self, tokens: Vec<SampledToken>, text: String) -> Option<String> {
        let mut found = None;
        if let Some(stops) = &mut self.stops {
            for (at, byte) in text.bytes().enumerate() {
                if let Some(stop) = stops.push(byte) {
                    found = Some((at + 1, stop.to_owned()));
                    break;
                }
            }
        }
        let Some((end, stop)) = found else {
            self.text.push_str(&text);
            self.held.push_back((tokens, self.text.len()));
            return None;
        };
        self.text.push_str(&text[..end]);
        self.text.truncate(self.text.len() - stop.len());
        self.held.push_back((tokens, self.text.len()));
        for (_, end) in &mut self.held {
            *end = self.text.len().min(*end);
        }
        Some(stop)
    }

    /// Says that no text will follow.
    pub(super) fn finish(&mut self) {
        self.is_finished = true;
    }

    /// Returns the text of the next group of tokens, if it may be sent; it is a canonical event.
    pub(super) fn take(&mut self) -> Option<v1::TextDelta> {
        let undecided = match &self.stops {
            Some(stops) if !self.is_finished => stops.undecided(),
            _ => 0,
        };
        let decided = self.text.len() - undecided;
        let (tokens, end) = self.held.pop_front_if(|(_, end)| *end <= decided)?;
        let mut delta = v1::TextDelta {
            message_index: self.index,
            text: self.text[self.taken..end].to_owned(),
            ..Default::default()
        };
        self.taken = end;
        for sampled in tokens {
            if self.show_token_ids {
                delta.token_ids.push(sampled.token.0);
            }
            if sampled.logprob.is_some() {
                let (token, logprob) = (sampled.token, sampled.logprob);
                let shown = reply::token_logprob(&self.tokenizer, token, logprob);
                delta.logprobs.push(shown);
            }
        }
        Some(delta)
    }

    /// Returns the whole message.
    pub(super) fn into_message(self) -> v1::Message {
        v1::Message {
            role: role(self.header.role).into(),
            name: self.header.name.unwrap_or_default(),
            channel: channel(self.header.channel.as_ref()).into(),
            recipient: self.header.recipient.unwrap_or_default(),
            content_type: self.header.content_type.unwrap_or_default(),
            text: self.text,
            tool_call_id: self.tool_call_id,
        }
    }
}

fn is_call(header: &Header) -> bool {
    header.role == Role::Assistant && header.recipient.is_some()
}

fn role(role: Role) -> v1::Role {
    match role {
        Role::System => v1::Role::System,
        Role::Developer => v1::Role::Developer,
        Role::User => v1::Role::User,
        Role::Assistant => v1::Role::Assistant,
        Role::Tool => v1::Role::Tool,
    }
}

fn channel(channel: Option<&Channel>) -> v1::Channel {
    match channel {
        Some(Channel::Analysis) => v1::Channel::Analysis,
        Some(Channel::Commentary) => v1::Channel::Commentary,
        Some(Channel::Final) => v1::Channel::Final,
        Some(Channel::Other(_)) | None => v1::Channel::Unspecified,
    }
}
