//! Generated tokens to what a client sees: raw ([`raw`]) or as Harmony messages ([`chat`]). Pure.

pub(super) mod chat;
pub(super) mod raw;

use spec::{SampledToken, TokenId};

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

    /// Returns the next piece that may be sent, with the number of canonical events in it.
    fn take(&mut self) -> Option<(u64, Self::Piece)>;

    /// Returns the stop sequence that was met.
    fn stopped_by(&self) -> Option<&str>;

    /// Says whether this token, which ended the generation, is a tool call.
    fn is_call(&self, token: TokenId) -> bool;

    /// Returns how many tokens so far were reasoning.
    fn reasoning_tokens(&self) -> u32;
}
