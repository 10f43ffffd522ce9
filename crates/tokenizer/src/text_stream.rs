//! Incremental decoding of a token stream.

use std::sync::Arc;

use spec::TokenId;

use crate::tokenizer::Tokenizer;
use crate::utf8::Utf8Stream;

/// Turns tokens into text one at a time, and never splits a character.
///
/// Special tokens appear by name; a caller that wants none asks [`Tokenizer::is_special`] first.
#[derive(Clone, Debug)]
pub struct TextStream {
    tokenizer: Arc<Tokenizer>,
    utf8: Utf8Stream,
}

impl TextStream {
    /// Begins a stream.
    #[must_use]
    pub fn new(tokenizer: Arc<Tokenizer>) -> Self {
        Self {
            tokenizer,
            utf8: Utf8Stream::default(),
        }
    }

    /// Returns the text that this token makes certain: nothing while a character is unfinished.
    pub fn push(&mut self, token: TokenId) -> String {
        let mut text = String::new();
        self.utf8.push(
            self.tokenizer.token_bytes(token).unwrap_or_default(),
            &mut text,
        );
        text
    }

    /// Ends the stream and returns what was held back: U+FFFD for an unfinished character.
    pub fn finish(&mut self) -> String {
        let mut text = String::new();
        self.utf8.finish(&mut text);
        text
    }
}
