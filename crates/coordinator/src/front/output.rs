//! Generated tokens to what a client sees: raw ([`raw`]) or as Harmony messages ([`chat`]). Pure.

pub(super) mod chat;
pub(super) mod raw;

use spec::{SampledToken, TokenId};

use super::limits;

/// Returns how many canonical events a piece may hold.
fn chunk(most: u64) -> usize {
    usize::try_from(most).map_or(limits::MAX_CHUNK, |most| most.min(limits::MAX_CHUNK))
}

/// A state machine from tokens to pieces of output.
///
/// What comes out is a function of the tokens alone; when it may come out is, too.
pub(super) trait Output {
    /// Something to be sent to the client.
    type Piece;

    /// Takes the next token; returns whether it completes a stop sequence.
    fn push(&mut self, token: SampledToken) -> bool;

    /// Says that no token will follow. Nothing happens the second time.
    fn finish(&mut self);

    /// Returns the next piece that may be sent, with the number of canonical events in it: at most
    /// `most`, and at most [`limits::MAX_CHUNK`].
    fn take(&mut self, most: u64) -> Option<(u64, Self::Piece)>;

    /// Returns the stop sequence that was met.
    fn stopped_by(&self) -> Option<&str>;

    /// Says whether this token, which ended the generation, is a tool call.
    fn is_call(&self, token: TokenId) -> bool;

    /// Returns how many tokens so far were reasoning.
    fn reasoning_tokens(&self) -> u32;

    /// Says whether the next token would be reasoning.
    fn is_reasoning(&self) -> bool;

    /// Returns the tokens that end reasoning and begin the answer.
    fn answer_opening(&self) -> &[TokenId];
}
