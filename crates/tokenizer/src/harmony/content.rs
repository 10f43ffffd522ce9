//! The content of the open message, and the forgotten end of it.

use spec::TokenId;

use super::event::{Ending, Event, Header, Warning};
use super::header::{OpenHeader, Reading};
use super::tokens::Mark;
use crate::tokenizer::Tokenizer;
use crate::utf8::Utf8Stream;

/// A message whose header is complete.
#[derive(Clone, Debug)]
pub(super) struct OpenContent {
    pub(super) header: Header,
    utf8: Utf8Stream,
}

impl OpenContent {
    /// Opens a message and reports what its header says.
    pub(super) fn begin(
        reading: Reading,
        repair: Option<Warning>,
        events: &mut Vec<Event>,
    ) -> Self {
        let Reading {
            header,
            text,
            warnings,
        } = reading;
        events.extend(repair.into_iter().chain(warnings).map(Event::Warning));
        events.push(Event::MessageStarted(header.clone()));
        let mut content = Self {
            header,
            utf8: Utf8Stream::default(),
        };
        content.push(&text, events);
        content
    }

    /// Appends bytes and reports the text they complete.
    pub(super) fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
        let mut text = String::new();
        self.utf8.push(bytes, &mut text);
        if !text.is_empty() {
            events.push(Event::Text(text));
        }
    }

    /// Closes the message.
    pub(super) fn close(mut self, ending: Ending, events: &mut Vec<Event>) {
        let mut text = String::new();
        self.utf8.finish(&mut text);
        if !text.is_empty() {
            events.push(Event::Text(text));
        }
        events.push(Event::MessageDone(ending));
    }
}

/// `<|start|>` inside a content and what follows it, until it is clear what it is.
///
/// Where the model forgot `<|end|>` it is the next message's header: a known role first, and
/// `<|message|>` last. Anything else is a part of the content.
#[derive(Clone, Debug)]
pub(super) struct HeldStart {
    bytes: Vec<u8>,
    header: OpenHeader,
}

impl HeldStart {
    /// Holds `<|start|>` back, whose name is `name`.
    pub(super) fn new(name: &[u8]) -> Self {
        Self {
            bytes: name.to_vec(),
            header: OpenHeader::new(None),
        }
    }

    /// Takes another token, or returns false if this cannot become a header with it.
    pub(super) fn takes(&mut self, token: TokenId, mark: Mark, tokenizer: &Tokenizer) -> bool {
        let bytes = tokenizer.token_bytes(token).unwrap_or_default();
        match mark {
            Mark::Channel => self.header.push_channel(),
            Mark::Constrain => self.header.push_constrain(),
            Mark::Text if !tokenizer.is_special(token) => {
                bytes.iter().for_each(|&byte| self.header.push(byte));
            }
            _ => return false,
        }
        let takes = self.header.can_begin_with_a_role();
        if takes {
            self.bytes.extend_from_slice(bytes);
        }
        takes
    }

    /// Reads the header that `<|message|>` has ended, if it is one.
    pub(super) fn read(&self) -> Option<Reading> {
        self.header.begins_with_a_role().then(|| self.header.read())
    }

    /// Returns what was held back, as text.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}
