//! Harmony, the message format of gpt-oss: conversations to prompts, generated tokens to messages.
//!
//! A message is `<|start|>` header `<|message|>` content and a token that ends it. The format is
//! OpenAI's (docs/format.md of openai/harmony); prompts have the same ids as those of
//! openai-harmony 0.0.8, but for [`PastReasoning::Drop`]. The ids of the control tokens come from
//! the tokenizer's file.

mod content;
mod event;
mod header;
mod message;
mod parser;
mod render;
mod sections;
mod tokens;
mod typescript;

use std::sync::Arc;

use spec::TokenId;

use crate::error::Error;
use crate::tokenizer::Tokenizer;

pub use event::{Ending, Event, Header, Warning};
pub use message::{
    Channel, Content, DeveloperContent, Effort, Function, Message, Namespace, Role, Schema,
    SchemaError, SystemContent,
};
pub use parser::{Parsed, Parser};
pub use render::{PastReasoning, RenderError};
pub use tokens::HarmonyTokens;

/// The Harmony format over one vocabulary. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Harmony {
    tokenizer: Arc<Tokenizer>,
    tokens: HarmonyTokens,
}

impl Harmony {
    /// Looks the control tokens up in a vocabulary.
    ///
    /// # Errors
    ///
    /// [`Error::MissingSpecial`] names the first control token that the vocabulary lacks.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Result<Self, Error> {
        let tokens = HarmonyTokens::new(&tokenizer)?;
        Ok(Self { tokenizer, tokens })
    }

    /// Returns the vocabulary.
    #[must_use]
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Returns the ids of the control tokens.
    #[must_use]
    pub fn tokens(&self) -> &HarmonyTokens {
        &self.tokens
    }

    /// Renders a conversation.
    ///
    /// # Errors
    ///
    /// [`RenderError`] if a tool message has no name, or a system or developer content stands in
    /// a message of another role.
    pub fn render(
        &self,
        messages: &[Message],
        past: PastReasoning,
    ) -> Result<Vec<TokenId>, RenderError> {
        render::conversation(self, messages, past)
    }

    /// Renders a conversation as a prompt: it ends in `<|start|>assistant`, and what the model
    /// generates after it is read by `parser(Some(Role::Assistant))`.
    ///
    /// # Errors
    ///
    /// As [`Harmony::render`].
    pub fn render_prompt(
        &self,
        messages: &[Message],
        past: PastReasoning,
    ) -> Result<Vec<TokenId>, RenderError> {
        let mut ids = self.render(messages, past)?;
        ids.push(self.tokens.start);
        self.tokenizer
            .encode_into(Role::Assistant.as_str(), &mut ids);
        Ok(ids)
    }

    /// Begins to read tokens: after `<|start|>` and a role if one is given, as at the end of a
    /// prompt, else between two messages.
    #[must_use]
    pub fn parser(&self, role: Option<Role>) -> Parser {
        Parser::new(self.clone(), role)
    }

    /// Reads a whole list of tokens, as [`Parser`] does one by one.
    #[must_use]
    pub fn parse(&self, tokens: &[TokenId], role: Option<Role>) -> Parsed {
        parser::parse(self, tokens, role)
    }
}
