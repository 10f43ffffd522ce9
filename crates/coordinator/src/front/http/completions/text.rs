//! One choice: a raw generation's events to pieces of text with OpenAI's logprobs.

use std::sync::Arc;

use proto::v1::FinishReason;
use spec::{SampledToken, TokenId, TokenLogprob};
use tokenizer::{Tokenizer, Utf8Stream};

use super::shape::{Choice, Logprobs, Top};
use crate::front::Shared;
use crate::front::output::raw::Chunk;
use crate::front::request::Request;
use crate::front::stream::Said;
use crate::front::transcript::Told;

/// What OpenAI's API gives for a probability of zero; JSON knows no infinity.
const LEAST_LOGPROB: f32 = -9999.0;

/// A prompt as text, which all its choices share.
#[derive(Debug)]
pub(super) struct Echo {
    text: String,
    chars: usize,
    /// Holds the beginning of a character that the output may complete.
    utf8: Utf8Stream,
}

impl Echo {
    /// Decodes a prompt.
    pub(super) fn new(tokenizer: &Tokenizer, prompt: &[TokenId]) -> Self {
        let (mut text, mut utf8) = (String::new(), Utf8Stream::default());
        utf8.push(&tokenizer.decode(prompt), &mut text);
        let chars = text.chars().count();
        Self { text, chars, utf8 }
    }
}

/// The text of one choice, as far as it has come.
#[derive(Debug)]
pub(super) struct ChoiceText {
    tokenizer: Arc<Tokenizer>,
    /// The prompt's tokens, if they are part of the text.
    echo: Option<Arc<[TokenId]>>,
    /// The prompt's text, until it was taken.
    echoed: Option<Arc<Echo>>,
    /// Whether tokens come with logprobs, and so position by position.
    logprobs: bool,
    utf8: Utf8Stream,
    /// Characters of the text so far.
    chars: usize,
}

impl ChoiceText {
    /// Begins a choice, with its prompt as text where that is echoed without logprobs.
    pub(super) fn new(
        shared: &Shared,
        request: &Request,
        echo: bool,
        echoed: Option<Arc<Echo>>,
    ) -> Self {
        Self {
            echoed,
            tokenizer: Arc::clone(&shared.tokenizer),
            echo: echo.then(|| Arc::clone(&request.prompt)),
            logprobs: request.sampling.logprobs.is_some(),
            utf8: Utf8Stream::default(),
            chars: 0,
        }
    }

    /// Returns the echoed prompt, unless it comes with logprobs.
    pub(super) fn beginning(&mut self, index: usize) -> Option<Choice> {
        let echoed = self.echoed.take()?;
        self.utf8 = echoed.utf8.clone();
        self.chars = echoed.chars;
        Some(Choice {
            text: echoed.text.clone(),
            ..Choice::empty(index)
        })
    }

    /// Takes the next event; a sign of life is no piece.
    pub(super) fn take(&mut self, index: usize, said: Said<Chunk>) -> Option<Choice> {
        let empty = Choice::empty(index);
        Some(match said {
            Said::Told(Told::Prompt {
                first_position,
                logprobs,
            }) => {
                let (text, logprobs) = self.prompt(first_position, logprobs);
                Choice {
                    text,
                    logprobs: Some(logprobs),
                    ..empty
                }
            }
            Said::Told(Told::Piece(chunk)) => {
                let (text, logprobs) = self.output(chunk);
                Choice {
                    text,
                    logprobs,
                    ..empty
                }
            }
            Said::Told(Told::Finished(_)) | Said::Resumed | Said::Idle(_) => return None,
            Said::Finished(ending) => {
                let mut text = String::new();
                self.utf8.finish(&mut text);
                let finish_reason = match ending.reason {
                    FinishReason::Length => "length",
                    _ => "stop",
                };
                Choice {
                    text,
                    finish_reason: Some(finish_reason),
                    ..empty
                }
            }
        })
    }

    fn prompt(&mut self, first: u32, logprobs: Vec<Option<TokenLogprob>>) -> (String, Logprobs) {
        let mut text = String::new();
        let mut shown = Logprobs::default();
        let tokenizer = Arc::clone(&self.tokenizer);
        for (position, logprob) in (first as usize..).zip(logprobs) {
            let token = self
                .echo
                .as_ref()
                .and_then(|prompt| prompt.get(position).copied());
            let token = token.expect("logprobs of the prompt are asked for with echo only");
            self.push_logprob(token, logprob, &mut shown);
            text.push_str(&self.text(tokenizer.token_bytes(token).unwrap_or_default()));
        }
        (text, shown)
    }

    fn output(&mut self, chunk: Chunk) -> (String, Option<Logprobs>) {
        if !self.logprobs {
            return (self.text(&chunk.text), None);
        }
        let mut text = String::new();
        let mut shown = Logprobs::default();
        let mut rest = chunk.text.as_slice();
        for SampledToken { token, logprob } in chunk.tokens {
            self.push_logprob(token, logprob, &mut shown);
            // The last tokens have less text than bytes, where a stop cut them off.
            let length = self
                .tokenizer
                .token_bytes(token)
                .map_or(0, <[u8]>::len)
                .min(rest.len());
            let (own, after) = rest.split_at(length);
            text.push_str(&self.text(own));
            rest = after;
        }
        (text, Some(shown))
    }

    /// Appends one position, which begins at the text's present end.
    fn push_logprob(&self, token: TokenId, logprob: Option<TokenLogprob>, shown: &mut Logprobs) {
        let name = self.name(token);
        let top = logprob.as_ref().map(|found| {
            let mut top: Vec<(String, f32)> = Vec::with_capacity(found.top.len() + 1);
            let own = std::iter::once((found.token, found.logprob));
            for (token, logprob) in found.top.iter().copied().chain(own) {
                let name = self.name(token);
                // The position's own token is always among them, and no name comes twice.
                if !top.iter().any(|(other, _)| *other == name) {
                    top.push((name, logprob.max(LEAST_LOGPROB)));
                }
            }
            Top(top)
        });
        shown.text_offset.push(self.chars);
        shown
            .token_logprobs
            .push(logprob.map(|found| found.logprob.max(LEAST_LOGPROB)));
        shown.tokens.push(name);
        shown.top_logprobs.push(top);
    }

    /// Names a token as OpenAI's API does, so that different tokens have different names.
    fn name(&self, token: TokenId) -> String {
        let Some(bytes) = self.tokenizer.token_bytes(token) else {
            return format!("token_id:{token}");
        };
        match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => bytes.iter().fold("bytes:".to_owned(), |name, byte| {
                format!("{name}\\x{byte:02x}")
            }),
        }
    }

    /// Appends bytes; returns the text that they make certain.
    fn text(&mut self, bytes: &[u8]) -> String {
        let mut text = String::new();
        self.utf8.push(bytes, &mut text);
        self.chars += text.chars().count();
        text
    }
}
