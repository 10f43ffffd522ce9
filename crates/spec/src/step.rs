//! What all ranks do together next, and what they answer.
//!
//! The engine makes a [`Step`], every rank executes its [`Part`], and only when all have answered
//! does the engine take the [`PartResult`]s. A part can be run again on the same KV: it names
//! absolute positions and blocks, and a rank keeps tokens by position, so a second run writes what
//! the first wrote.

use std::sync::Arc;

use crate::ids::{BlockId, Fence, Rank, SequenceId, Slot, StepNumber, TokenId};
use crate::sampling::Sampling;

/// One forward pass of all ranks of a group together.
#[derive(Clone, Debug, PartialEq)]
pub struct Step {
    /// Term and epoch it belongs to.
    pub fence: Fence,
    /// Its number; a rank executes steps in ascending order.
    pub number: StepNumber,
    /// One part for each rank, in rank order; a rank without lines still takes part.
    pub parts: Vec<Part>,
}

/// One rank's share of a step. Applied in the order `closes`, `opens`, `lines`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Part {
    /// The rank that executes it.
    pub rank: Rank,
    /// Slots whose sequences are gone.
    pub closes: Vec<Slot>,
    /// Sequences that are new to the rank, or told again after a void step.
    pub opens: Vec<Open>,
    /// The rows to compute, at most one line for a slot.
    pub lines: Vec<Line>,
}

/// Tells a rank all about a sequence; replaces what the slot held before.
#[derive(Clone, Debug, PartialEq)]
pub struct Open {
    /// Where the rank keeps it.
    pub slot: Slot,
    /// Its name in logs and in the record that a new lead collects.
    pub sequence: SequenceId,
    /// Prompt and committed output. Token `p` is the input at position `p`.
    pub tokens: Arc<[TokenId]>,
    /// How many of `tokens` are the prompt.
    pub prompt_len: u32,
    /// How its tokens are chosen.
    pub sampling: Arc<Sampling>,
}

/// The rows `start .. start + len` of one sequence.
///
/// The inputs are the slot's tokens at those positions. The last may be one that the step before
/// has just sampled; where it was not (its row was skipped), this line is skipped too.
#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    /// The sequence.
    pub slot: Slot,
    /// Position of the first row.
    pub start: u32,
    /// Number of rows, at least 1.
    pub len: u32,
    /// Change of the table of blocks that the full-attention layers use.
    pub full: BlockRun,
    /// Change of the table of blocks that the sliding layers use.
    pub window: BlockRun,
    /// Whether the token at `start + len` is sampled from the last row.
    pub samples: bool,
    /// Whether logprobs of the prompt's tokens `start + 1 ..= start + len` are reported
    /// (those inside the prompt).
    pub prompt_logprobs: bool,
}

/// Cuts a block table to `first` entries, then appends `blocks`.
///
/// Entry `i` of a table holds the positions `i * block_size .. (i + 1) * block_size`. Where `first`
/// is past the table's end, the gap is of blocks that no row of this sequence reads any more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockRun {
    /// Index of the first block in the sequence's table.
    pub first: u32,
    /// The blocks from there on. Empty: nothing changes, whatever `first` says.
    pub blocks: Vec<BlockId>,
}

/// The KV memory of one rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvPlan {
    /// Positions in a block.
    pub block_size: usize,
    /// Blocks of the pool that the full-attention layers share.
    pub full_blocks: usize,
    /// Blocks of the pool that the sliding layers share.
    pub window_blocks: usize,
    /// Sequences a rank can hold at a time.
    pub num_slots: usize,
}

/// What a rank answers to its part.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PartResult {
    /// The rank.
    pub rank: Rank,
    /// One result for each line, in the part's order.
    pub lines: Vec<LineResult>,
}

/// What became of one line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LineResult {
    /// False if the line was skipped because an input was not there; then all else is empty.
    pub ran: bool,
    /// The token sampled after the last row; absent also where a late input kept it from being
    /// sampled. `complete` takes what came, so more than one is possible later (drafts).
    pub tokens: Vec<SampledToken>,
    /// Logprobs of the prompt's tokens `start + 1 ..`, if the line asked for them.
    pub prompt_logprobs: Vec<TokenLogprob>,
}

/// A token that was sampled.
#[derive(Clone, Debug, PartialEq)]
pub struct SampledToken {
    /// The token.
    pub token: TokenId,
    /// Its logprob and the alternatives, if the sequence asked for them.
    pub logprob: Option<TokenLogprob>,
}

/// Log-probabilities at one position, of the model's own distribution (before temperature,
/// penalties and cuts).
#[derive(Clone, Debug, PartialEq)]
pub struct TokenLogprob {
    /// The token at the position.
    pub token: TokenId,
    /// Its natural log-probability.
    pub logprob: f32,
    /// How many tokens are at least as likely before it in order, from 1.
    pub rank: u32,
    /// The most likely tokens, best first; equals by ascending id.
    pub top: Vec<(TokenId, f32)>,
}
