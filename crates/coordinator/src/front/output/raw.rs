//! Generated tokens to text, without Harmony.
//!
//! A token is delivered together with its text, as soon as that text can neither be part of a
//! stop sequence nor the beginning of a character.

use std::collections::VecDeque;
use std::sync::Arc;

use spec::{SampledToken, TokenId};
use tokenizer::Tokenizer;

use super::{Output, chunk};
use crate::front::request::Ends;
use crate::front::stop::StopMatcher;

/// Tokens and the text that they make.
#[derive(Clone, Debug, Default, PartialEq)]
pub(in crate::front) struct Chunk {
    /// At least one.
    pub(in crate::front) tokens: Vec<SampledToken>,
    /// Whole characters, but for bytes that belong to none.
    pub(in crate::front) text: Vec<u8>,
}

/// The output of a raw generation.
#[derive(Debug)]
pub(in crate::front) struct RawOutput {
    tokenizer: Arc<Tokenizer>,
    ends: Ends,
    stops: StopMatcher,
    /// Whether everything is held until the end.
    final_only: bool,
    /// Tokens that are held, each with the length of its text.
    held: VecDeque<(SampledToken, usize)>,
    /// Their text.
    bytes: Vec<u8>,
    /// Whether no token will follow, so that nothing is undecided.
    is_finished: bool,
    stopped_by: Option<String>,
}

impl RawOutput {
    /// Begins an output.
    pub(in crate::front) fn new(tokenizer: Arc<Tokenizer>, ends: Ends, final_only: bool) -> Self {
        Self {
            tokenizer,
            stops: StopMatcher::new(&ends.sequences),
            ends,
            final_only,
            held: VecDeque::new(),
            bytes: Vec::new(),
            is_finished: false,
            stopped_by: None,
        }
    }

    /// Removes a stop sequence from the end of the text, and its share from the tokens' text.
    fn cut(&mut self, length: usize, last: SampledToken, before: usize) {
        self.held.push_back((last, self.bytes.len() - before));
        self.bytes.truncate(self.bytes.len() - length);
        let mut left = self.bytes.len();
        for (_, text_len) in &mut self.held {
            *text_len = left.min(*text_len);
            left -= *text_len;
        }
        self.finish();
    }
}

impl Output for RawOutput {
    type Piece = Chunk;

    /// A stop sequence and what follows it in its last token are no text; the tokens all come out.
    fn push(&mut self, sampled: SampledToken) -> bool {
        let token = sampled.token;
        let before = self.bytes.len();
        // A token that is obeyed as an end is no text.
        if !self.ends.at(token) {
            for &byte in self.tokenizer.token_bytes(token).unwrap_or_default() {
                self.bytes.push(byte);
                if let Some(stop) = self.stops.push(byte).map(str::to_owned) {
                    self.cut(stop.len(), sampled, before);
                    self.stopped_by = Some(stop);
                    return true;
                }
            }
        }
        self.held.push_back((sampled, self.bytes.len() - before));
        false
    }

    fn finish(&mut self) {
        self.is_finished = true;
    }

    fn stopped_by(&self) -> Option<&str> {
        self.stopped_by.as_deref()
    }

    /// Each token is a canonical event.
    fn take(&mut self, most: u64) -> Option<(u64, Chunk)> {
        if self.final_only && !self.is_finished {
            return None;
        }
        let undecided = if self.is_finished {
            0
        } else {
            self.stops.undecided()
        };
        let decided = self.bytes.len() - undecided;
        let most = chunk(most);
        // The most tokens that end on a character's boundary, and their text.
        let (mut count, mut length) = (0, 0);
        let mut end = 0;
        for (index, (_, text_len)) in self.held.iter().take(most).enumerate() {
            end += text_len;
            if end > decided {
                break;
            }
            let is_last = self.is_finished && index + 1 == self.held.len();
            if is_last || !ends_inside_a_character(&self.bytes[..end]) {
                (count, length) = (index + 1, end);
            }
        }
        if count == 0 && self.held.len() >= most && end <= decided {
            // No boundary in so many tokens: these bytes are no text, or somebody cut it here.
            (count, length) = (most, end);
        }
        if count == 0 {
            return None;
        }
        let tokens = self.held.drain(..count).map(|(token, _)| token).collect();
        Some((
            count as u64,
            Chunk {
                tokens,
                text: self.bytes.drain(..length).collect(),
            },
        ))
    }

    fn is_call(&self, _: TokenId) -> bool {
        false
    }

    fn reasoning_tokens(&self) -> u32 {
        0
    }

    fn is_reasoning(&self) -> bool {
        false
    }

    fn answer_opening(&self) -> &[TokenId] {
        &[]
    }
}

/// Says whether more bytes could complete a character that the bytes end with.
fn ends_inside_a_character(bytes: &[u8]) -> bool {
    let tail = &bytes[bytes.len().saturating_sub(3)..];
    // A character's first byte is at most three before the end, if its last is yet to come.
    (0..tail.len()).any(|at| {
        let is_first = tail[at] >= 0xc0;
        is_first && std::str::from_utf8(&tail[at..]).is_err_and(|e| e.error_len().is_none())
    })
}

#[cfg(test)]
mod tests;
