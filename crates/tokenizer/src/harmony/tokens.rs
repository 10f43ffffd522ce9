//! The control tokens of the format.

use spec::TokenId;

use super::event::Ending;
use crate::error::Error;
use crate::tokenizer::Tokenizer;

/// Ids of the control tokens, looked up by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HarmonyTokens {
    /// `<|start|>` begins a message.
    pub start: TokenId,
    /// `<|message|>` ends the header.
    pub message: TokenId,
    /// `<|end|>` ends a message.
    pub end: TokenId,
    /// `<|return|>` ends the last message of an answer.
    pub return_: TokenId,
    /// `<|call|>` ends a tool call.
    pub call: TokenId,
    /// `<|channel|>` stands before the channel's name.
    pub channel: TokenId,
    /// `<|constrain|>` stands before the form of a tool call's arguments.
    pub constrain: TokenId,
}

/// What a token means to the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mark {
    Start,
    Message,
    Channel,
    Constrain,
    Stop(Ending),
    /// Not a control token of the format: text.
    Text,
}

impl HarmonyTokens {
    /// Looks the tokens up.
    ///
    /// # Errors
    ///
    /// [`Error::MissingSpecial`] names the first one that is missing.
    pub fn new(tokenizer: &Tokenizer) -> Result<Self, Error> {
        let id = |name| {
            tokenizer
                .special(name)
                .ok_or(Error::MissingSpecial { name })
        };
        Ok(Self {
            start: id("<|start|>")?,
            message: id("<|message|>")?,
            end: id("<|end|>")?,
            return_: id("<|return|>")?,
            call: id("<|call|>")?,
            channel: id("<|channel|>")?,
            constrain: id(CONSTRAIN)?,
        })
    }

    /// Returns the tokens that end a generation: `<|return|>` and `<|call|>`.
    ///
    /// `<|end|>` ends a message only; the model goes on with the next one.
    #[must_use]
    pub fn ends_of_generation(&self) -> [TokenId; 2] {
        [self.return_, self.call]
    }

    /// Says what a token means.
    pub(super) fn mark(&self, token: TokenId) -> Mark {
        let marks = [
            (self.start, Mark::Start),
            (self.message, Mark::Message),
            (self.channel, Mark::Channel),
            (self.constrain, Mark::Constrain),
            (self.end, Mark::Stop(Ending::End)),
            (self.return_, Mark::Stop(Ending::Return)),
            (self.call, Mark::Stop(Ending::Call)),
        ];
        let found = marks.into_iter().find(|&(id, _)| id == token);
        found.map_or(Mark::Text, |(_, mark)| mark)
    }
}

/// Name of the constrain token: a content type that begins with it is rendered with the token.
pub(super) const CONSTRAIN: &str = "<|constrain|>";
