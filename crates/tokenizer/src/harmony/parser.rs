//! The streaming parser. It never fails: every sequence of tokens is some list of messages.

use std::mem;

use spec::TokenId;

use super::Harmony;
use super::content::{HeldStart, OpenContent};
use super::event::{Ending, Event, Header, Warning};
use super::header::OpenHeader;
use super::message::{Message, Role};
use super::tokens::Mark;

/// Reads generated tokens one by one and reports messages as they form.
///
/// Well-formed tokens give the messages that openai-harmony gives. What is malformed is repaired
/// with a [`Warning`], and no text is lost: a word is a part of a header or of a text. What the
/// events say depends on the tokens alone, and, but for where texts are divided, on the bytes and
/// control tokens alone.
///
/// A special token within a content is text, by name. So a token that merely stopped the
/// generation, like `<|endoftext|>`, is not to be pushed. An id without a string adds nothing.
#[derive(Clone, Debug)]
pub struct Parser {
    harmony: Harmony,
    state: State,
}

#[derive(Clone, Debug)]
enum State {
    /// No message is open.
    Between,
    /// A header is.
    Header(OpenHeader, Beginning),
    /// A content is; perhaps the next message has begun without an end of this one.
    Content(OpenContent, Option<HeldStart>),
}

/// What began a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Beginning {
    /// `<|start|>`, here or at the end of the prompt.
    Start,
    /// Something else, between two messages.
    Stray,
}

/// Messages read from a whole list of tokens.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// The messages, each with a single text.
    pub messages: Vec<Message>,
    /// What was repaired.
    pub warnings: Vec<Warning>,
}

/// Reads all tokens.
pub(super) fn parse(harmony: &Harmony, tokens: &[TokenId], role: Option<Role>) -> Parsed {
    let mut parser = Parser::new(harmony.clone(), role);
    let mut events: Vec<Event> = tokens
        .iter()
        .flat_map(|&token| parser.push(token))
        .collect();
    events.extend(parser.finish());
    let mut parsed = Parsed::default();
    let (mut header, mut text) = (None, String::new());
    for event in events {
        match event {
            Event::MessageStarted(started) => header = Some(started),
            Event::Text(delta) => text.push_str(&delta),
            Event::MessageDone(_) => {
                let text = mem::take(&mut text);
                parsed
                    .messages
                    .extend(header.take().map(|header| header.into_message(text)));
            }
            Event::Warning(warning) => parsed.warnings.push(warning),
        }
    }
    parsed
}

impl Parser {
    pub(super) fn new(harmony: Harmony, role: Option<Role>) -> Self {
        let state = match role {
            Some(_) => State::Header(OpenHeader::new(role), Beginning::Start),
            None => State::Between,
        };
        Self { harmony, state }
    }

    /// Returns the header of the open message, once it is complete.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        match &self.state {
            State::Content(content, _) => Some(&content.header),
            State::Between | State::Header(..) => None,
        }
    }

    /// Takes the next token and returns what it makes certain.
    pub fn push(&mut self, token: TokenId) -> Vec<Event> {
        let mut events = Vec::new();
        self.state = match mem::replace(&mut self.state, State::Between) {
            State::Between => self.between(token, &mut events),
            State::Header(open, beginning) => self.in_header(open, beginning, token, &mut events),
            State::Content(content, held) => self.in_content(content, held, token, &mut events),
        };
        events
    }

    /// Ends the tokens: closes what is open and returns what was held back.
    ///
    /// The parser is then between two messages.
    pub fn finish(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        match mem::replace(&mut self.state, State::Between) {
            State::Between => {}
            State::Header(open, beginning) => {
                if let Some(reading) = open.salvage_cut() {
                    let repair = Some(beginning.without_message());
                    OpenContent::begin(reading, repair, &mut events)
                        .close(Ending::Cut, &mut events);
                } else if !open.is_blank() {
                    let text = open.text();
                    events.push(Event::Warning(Warning::CutHeader { text }));
                }
            }
            State::Content(mut content, held) => {
                if let Some(held) = held {
                    content.push(held.bytes(), &mut events);
                }
                content.close(Ending::Cut, &mut events);
            }
        }
        events
    }

    fn between(&self, token: TokenId, events: &mut Vec<Event>) -> State {
        match self.harmony.tokens.mark(token) {
            Mark::Start => State::Header(OpenHeader::new(None), Beginning::Start),
            Mark::Stop(_) => {
                let name = String::from_utf8_lossy(self.bytes(token)).into_owned();
                events.push(Event::Warning(Warning::StrayStop { name }));
                State::Between
            }
            _ => {
                let open = OpenHeader::new(Some(Role::Assistant));
                self.in_header(open, Beginning::Stray, token, events)
            }
        }
    }

    fn in_header(
        &self,
        mut open: OpenHeader,
        beginning: Beginning,
        token: TokenId,
        events: &mut Vec<Event>,
    ) -> State {
        match self.harmony.tokens.mark(token) {
            Mark::Message => {
                let repair = (beginning == Beginning::Stray).then_some(Warning::MissingStart);
                return State::Content(OpenContent::begin(open.read(), repair, events), None);
            }
            Mark::Stop(ending) => {
                abandon(&open, beginning, ending, events);
                return State::Between;
            }
            Mark::Start => {
                abandon(&open, beginning, Ending::Cut, events);
                return State::Header(OpenHeader::new(None), Beginning::Start);
            }
            Mark::Channel => open.push_channel(),
            Mark::Constrain => open.push_constrain(),
            Mark::Text if self.harmony.tokenizer.is_special(token) => {
                open.push_special(self.bytes(token));
            }
            Mark::Text => return self.header_text(open, beginning, token, events),
        }
        header_or_content(open, beginning, &[], events)
    }

    /// Adds text to a header.
    fn header_text(
        &self,
        mut open: OpenHeader,
        beginning: Beginning,
        token: TokenId,
        events: &mut Vec<Event>,
    ) -> State {
        let mut rest = self.bytes(token);
        while let (false, Some((&byte, after))) = (open.is_too_long(), rest.split_first()) {
            open.push(byte);
            rest = after;
        }
        header_or_content(open, beginning, rest, events)
    }

    fn in_content(
        &self,
        mut content: OpenContent,
        held: Option<HeldStart>,
        token: TokenId,
        events: &mut Vec<Event>,
    ) -> State {
        let mark = self.harmony.tokens.mark(token);
        if let Some(mut held) = held {
            if let Some(reading) = held.read().filter(|_| mark == Mark::Message) {
                content.close(Ending::Cut, events);
                let repair = Some(Warning::MissingEnd);
                return State::Content(OpenContent::begin(reading, repair, events), None);
            }
            if held.takes(token, mark, &self.harmony.tokenizer) {
                return State::Content(content, Some(held));
            }
            content.push(held.bytes(), events);
        }
        match mark {
            Mark::Stop(ending) => {
                content.close(ending, events);
                State::Between
            }
            Mark::Start => State::Content(content, Some(HeldStart::new(self.bytes(token)))),
            _ => {
                content.push(self.bytes(token), events);
                State::Content(content, None)
            }
        }
    }

    fn bytes(&self, token: TokenId) -> &[u8] {
        self.harmony
            .tokenizer
            .token_bytes(token)
            .unwrap_or_default()
    }
}

impl Beginning {
    /// Says what is wrong with a header that `<|message|>` does not end.
    fn without_message(self) -> Warning {
        match self {
            Self::Start => Warning::MissingMessage,
            Self::Stray => Warning::StrayText,
        }
    }
}

/// Goes on with a header, or, where it is too long to be one, with the content that it begins and
/// the bytes that follow it.
fn header_or_content(
    open: OpenHeader,
    beginning: Beginning,
    rest: &[u8],
    events: &mut Vec<Event>,
) -> State {
    if !open.is_too_long() {
        return State::Header(open, beginning);
    }
    let repair = Some(beginning.without_message());
    let mut content = OpenContent::begin(open.salvage(), repair, events);
    content.push(rest, events);
    State::Content(content, None)
}

/// Makes a message of a header that ended without `<|message|>`, if there is anything in it.
fn abandon(open: &OpenHeader, beginning: Beginning, ending: Ending, events: &mut Vec<Event>) {
    let reading = open.salvage();
    let Header {
        role: _,
        name,
        channel,
        recipient,
        content_type,
    } = &reading.header;
    let marked = channel.is_some()
        || [name, recipient, content_type]
            .into_iter()
            .any(Option::is_some);
    if marked || !reading.text.is_empty() {
        OpenContent::begin(reading, Some(beginning.without_message()), events)
            .close(ending, events);
    } else if beginning == Beginning::Start || !open.is_blank() {
        events.push(Event::Warning(Warning::EmptyMessage));
    }
}
