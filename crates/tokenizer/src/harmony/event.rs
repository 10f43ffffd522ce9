//! What the parser reports.

use super::message::{Channel, Content, Message, Role};

/// One step of a parse. Between `MessageStarted` and `MessageDone` lie the texts of that message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A header is complete.
    MessageStarted(Header),
    /// More text of the open message: whole characters, never empty.
    Text(String),
    /// The open message has ended.
    MessageDone(Ending),
    /// Something malformed was repaired.
    Warning(Warning),
}

/// The header of a message. No field ever holds a special token, but for the `<|constrain|>` at
/// the beginning of a content type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Who writes.
    pub role: Role,
    /// The tool's name, for [`Role::Tool`]; a person's name, if one was given.
    pub name: Option<String>,
    /// The channel. `None` for text that came without a header; it is meant to be seen.
    pub channel: Option<Channel>,
    /// To whom, as `functions.f`.
    pub recipient: Option<String>,
    /// The form of the content, as `<|constrain|>json` or `json`.
    pub content_type: Option<String>,
}

impl Header {
    /// Makes the message of this header and a text.
    #[must_use]
    pub fn into_message(self, text: String) -> Message {
        let Self {
            role,
            name,
            channel,
            recipient,
            content_type,
        } = self;
        Message {
            role,
            name,
            channel,
            recipient,
            content_type,
            content: vec![Content::Text(text)],
        }
    }
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With `<|end|>`: another message follows.
    End,
    /// With `<|return|>`: the answer is complete.
    Return,
    /// With `<|call|>`: a tool is called.
    Call,
    /// Without a token of its own: the tokens ended, or another message began.
    Cut,
}

/// What was malformed, and how it was read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Text stood between two messages.
    #[error("text outside a message is taken as a message without a channel")]
    StrayText,
    /// A token that ends a message stood between two messages.
    #[error("{name} outside a message is ignored")]
    StrayStop {
        /// The token's name.
        name: String,
    },
    /// A header had no `<|start|>`.
    #[error("a header without <|start|> is taken as the assistant's")]
    MissingStart,
    /// A header named no role.
    #[error("a header without a role is taken as the assistant's")]
    MissingRole,
    /// A header named its role again.
    #[error("the header repeats the role")]
    RepeatedRole,
    /// A header ended without `<|message|>`.
    #[error("a header without <|message|>: what is no header is taken as the content")]
    MissingMessage,
    /// A message ended without a token that says so.
    #[error("a message without <|end|> ends where the next one begins")]
    MissingEnd,
    /// A message ended that had neither header nor content.
    #[error("an empty message is ignored")]
    EmptyMessage,
    /// `<|channel|>` without a name.
    #[error("<|channel|> without a name is ignored")]
    EmptyChannel,
    /// A header named several channels; the last one counts.
    #[error("the header names a second channel: the first, {ignored}, is ignored")]
    SecondChannel {
        /// The channel named earlier.
        ignored: String,
    },
    /// A header named several recipients; the last one counts.
    #[error("the header names a second recipient: the first, {ignored}, is ignored")]
    SecondRecipient {
        /// The recipient named earlier.
        ignored: String,
    },
    /// A header named several content types; the last one counts.
    #[error("the header names a second content type: the first, {ignored}, is ignored")]
    SecondContentType {
        /// The content type named earlier.
        ignored: String,
    },
    /// A word without `to=` stood where the recipient stands.
    #[error("the header's word {recipient} is taken as the recipient")]
    BareRecipient {
        /// The word.
        recipient: String,
    },
    /// A header had more words than it has places for.
    #[error("the header has words of no meaning; they are put before the content")]
    ExtraWords,
    /// The tokens ended inside a header.
    #[error("the tokens end inside a header: {text}")]
    CutHeader {
        /// The header so far.
        text: String,
    },
}

impl Warning {
    /// Returns a word for programs: stable, in capitals.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::StrayText => "STRAY_TEXT",
            Self::StrayStop { .. } => "STRAY_STOP",
            Self::MissingStart => "MISSING_START",
            Self::MissingRole => "MISSING_ROLE",
            Self::RepeatedRole => "REPEATED_ROLE",
            Self::MissingMessage => "MISSING_MESSAGE",
            Self::MissingEnd => "MISSING_END",
            Self::EmptyMessage => "EMPTY_MESSAGE",
            Self::EmptyChannel => "EMPTY_CHANNEL",
            Self::SecondChannel { .. } => "SECOND_CHANNEL",
            Self::SecondRecipient { .. } => "SECOND_RECIPIENT",
            Self::SecondContentType { .. } => "SECOND_CONTENT_TYPE",
            Self::BareRecipient { .. } => "BARE_RECIPIENT",
            Self::ExtraWords => "EXTRA_WORDS",
            Self::CutHeader { .. } => "CUT_HEADER",
        }
    }
}
