//! What an undisturbed run gives.

use engine::stub::extend;
use proto::internal as wire;
use proto::internal::SequenceEnd;
use spec::TokenId;

use crate::lead::simulation::{MAX_CONTEXT, MODEL};

/// A whole output, and why it ends.
#[derive(Debug)]
pub(super) struct Story {
    pub(super) tokens: Vec<TokenId>,
    pub(super) end: SequenceEnd,
}

/// Tokens that a front puts in the place of what comes after the first so many.
#[derive(Debug)]
pub(super) struct Twist {
    pub(super) after: usize,
    pub(super) tokens: Vec<TokenId>,
    /// All of it then.
    pub(super) story: Story,
}

impl Story {
    /// Returns the output to a prompt that begins with these tokens, which end nothing.
    pub(super) fn new(
        prompt: &[TokenId],
        fixed: &[TokenId],
        (seed, stop): (u64, &wire::Stop),
    ) -> Self {
        let most = (MAX_CONTEXT - prompt.len()).min(stop.max_tokens as usize);
        let mut tokens = fixed[..fixed.len().min(most)].to_vec();
        let said = prompt.iter().chain(&tokens);
        let mut history = said.fold(0, |history, token| extend(history, *token));
        while tokens.len() < most {
            let token = MODEL.sample(history, seed);
            history = extend(history, token);
            tokens.push(token);
            if stop.stop_tokens.contains(&token.0) {
                let end = SequenceEnd::Stop;
                return Self { tokens, end };
            }
        }
        let end = SequenceEnd::Length;
        Self { tokens, end }
    }
}
