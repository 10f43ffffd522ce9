//! What comes in: a sequence to generate, or why it cannot be taken.

use std::sync::Arc;

use spec::{Sampling, SequenceId, TokenId};

use crate::outcome::Finish;

/// A sequence to generate.
#[derive(Clone, Debug)]
pub struct Submit {
    /// Its name; free again once the sequence has finished or was cancelled.
    pub sequence: SequenceId,
    /// The prompt, followed by what was generated already where the sequence is resumed.
    ///
    /// A sequence resumed with output has had the logprobs of its prompt reported before.
    pub tokens: Vec<TokenId>,
    /// How many of `tokens` are the prompt.
    pub prompt_len: usize,
    /// How its tokens are chosen.
    pub sampling: Arc<Sampling>,
    /// When it ends.
    pub stop: Stop,
    /// Whose it is: admission is fair between principals, and no prefix is shared across them.
    pub principal: u32,
    /// Keeps prefixes apart within a principal.
    pub cache_salt: u64,
    /// Whether it was taken before, elsewhere: then it is taken however many wait, and comes before all that are
    /// new. Whoever submits knows how many of these there can be.
    pub was_accepted: bool,
    /// Its place among the waiting of its principal, or among all that were taken elsewhere and have no output:
    /// higher ones come first, see [`MAX_PRIORITY`].
    pub priority: i32,
}

/// Priorities lie between this and as much below zero; others count as the nearest of these.
///
/// One more is worth as much as to have come [`PRIORITY_TURNS`] turns earlier, so that nobody waits
/// for ever.
pub const MAX_PRIORITY: i32 = 100;

/// Turns, that is submissions and first admissions of all principals, that a higher priority by one
/// is worth. Far more than a queue holds, and a few minutes' worth of a busy group.
pub const PRIORITY_TURNS: u64 = 1024;

/// When a sequence ends by itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stop {
    /// Most tokens to generate. With 0 the prompt is computed, for its logprobs, and nothing is
    /// sampled.
    pub max_tokens: usize,
    /// Tokens that end it, those of the model's own end among them unless they are to be ignored.
    pub stop_tokens: Vec<TokenId>,
}

/// Why a sequence was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// There is no prompt, or its length is not one of the tokens.
    #[error("a prompt of {prompt_len} of {tokens} tokens: it must have at least one of them")]
    Empty {
        /// The length claimed for the prompt.
        prompt_len: usize,
        /// Tokens in all.
        tokens: usize,
    },
    /// A sequence of that name is waiting or running.
    #[error("sequence {sequence} is already waiting or running")]
    Duplicate {
        /// The name.
        sequence: SequenceId,
    },
    /// No sequence of that name waits or runs, or it has no such output.
    #[error("sequence {sequence} has no {keep} tokens of output that could stay")]
    Unknown {
        /// The name.
        sequence: SequenceId,
        /// Tokens of output that were to stay.
        keep: usize,
    },
    /// More tokens than a sequence may have.
    #[error("{tokens} tokens are more than the context of {max_context}")]
    TooLong {
        /// Tokens submitted.
        tokens: usize,
        /// The limit.
        max_context: usize,
    },
    /// At its full length it would not fit into a rank that runs nothing else.
    #[error(
        "the sequence takes up to {needed} KV blocks and a rank has {have}: ask for fewer tokens"
    )]
    NeverFits {
        /// Blocks of the full-attention pool at the sequence's full length.
        needed: usize,
        /// Blocks of that pool on a rank.
        have: usize,
    },
    /// A resumed sequence that has nothing left to generate.
    #[error("the sequence had already finished: {finish:?}")]
    Finished {
        /// How it had ended.
        finish: Finish,
    },
    /// Too many are waiting; later there may be room.
    #[error("{waiting} sequences are waiting, which is the limit")]
    QueueFull {
        /// How many wait.
        waiting: usize,
    },
}
