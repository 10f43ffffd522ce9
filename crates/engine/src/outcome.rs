//! What comes out: tokens, ends, and counts of what was done.

use spec::{Rank, SampledToken, SequenceId, StepNumber, TokenId, TokenLogprob};

/// What a completed step brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Completed {
    /// News of sequences, at most one event for each.
    pub events: Vec<Event>,
    /// What the engine did since the last completed step.
    pub report: Report,
}

/// News of one sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The sequence.
    pub sequence: SequenceId,
    /// Position of the first of `tokens`; where there are none, of the token that comes next.
    pub first_position: u32,
    /// Tokens sampled, a stop token among them. Each position is emitted once.
    pub tokens: Vec<SampledToken>,
    /// Position of the first of `prompt_logprobs`.
    pub first_prompt_position: u32,
    /// Logprobs of prompt tokens, where asked for. Each position from 1 is emitted once.
    pub prompt_logprobs: Vec<TokenLogprob>,
    /// Set with the last event of a sequence; the engine has then forgotten it.
    pub finished: Option<Finish>,
}

/// A sequence left the queue for the first time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admitted {
    /// The sequence.
    pub sequence: SequenceId,
    /// Tokens of its prompt that the prefix cache held.
    pub cached_prompt_tokens: u32,
}

/// How a sequence ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It sampled one of its stop tokens, which is the last token of its output.
    Stop {
        /// That token.
        token: TokenId,
    },
    /// It has as many tokens as it asked for, or as the context holds.
    Length,
}

/// What the engine did, for metrics; counts since the previous report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows of the completed step.
    pub rows: usize,
    /// Rows among them whose sequence had ended, left the rank or gone back in the meantime.
    pub wasted_rows: usize,
    /// Lines that were skipped or not sampled because an input was late.
    pub late_lines: usize,
    /// Tokens emitted.
    pub tokens: usize,
    /// Sequences that started to run.
    pub admitted: usize,
    /// Tokens that those had, and of these how many the prefix cache held.
    pub admitted_rows: usize,
    /// See `admitted_rows`.
    pub hit_rows: usize,
    /// Sequences sent back to waiting because KV blocks ran out.
    pub preemptions: usize,
}

/// How full the engine is, at this moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Sequences that wait.
    pub waiting: usize,
    /// What the first of them was found to wait for; `None` if it was not asked yet.
    pub shortage: Option<Shortage>,
    /// Sequences that run.
    pub running: usize,
    /// Steps in flight.
    pub in_flight: usize,
    /// Each rank.
    pub ranks: Vec<RankLoad>,
}

/// What a sequence waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shortage {
    /// A slot on a rank, or a row in a step.
    Room,
    /// Blocks of KV.
    Kv,
    /// Nobody new is let in, see [`crate::Engine::pause_admission`].
    Pause,
}

/// How full a rank is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RankLoad {
    /// Sequences that run there.
    pub running: usize,
    /// Blocks of the full-attention layers.
    pub full: PoolLoad,
    /// Blocks of the sliding layers.
    pub window: PoolLoad,
}

/// Where the blocks of a pool are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolLoad {
    /// Held by sequences.
    pub held: usize,
    /// Held by none, kept for the prefix cache until the room is needed.
    pub cached: usize,
    /// Empty.
    pub free: usize,
}

/// Results that do not answer the step. Nothing was changed; the caller treats the step as void.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadResult {
    /// Results are taken in the order of the steps.
    #[error("results of step {step} where those of {expected:?} are due")]
    OutOfOrder {
        /// The step that was answered.
        step: StepNumber,
        /// The oldest step in flight.
        expected: Option<StepNumber>,
    },
    /// A part for each rank is needed.
    #[error("{got} parts answered of {expected}")]
    PartCount {
        /// Parts that came.
        got: usize,
        /// Ranks in the group.
        expected: usize,
    },
    /// Parts come in rank order.
    #[error("rank {got} answered in the place of rank {expected}")]
    WrongRank {
        /// The rank that the part names.
        got: Rank,
        /// The rank whose place it is.
        expected: Rank,
    },
    /// A result for each line is needed.
    #[error("rank {rank} answered {got} of {expected} lines")]
    LineCount {
        /// The rank.
        rank: Rank,
        /// Results that came.
        got: usize,
        /// Lines of its part.
        expected: usize,
    },
    /// A line has at most one token, none if it was skipped or does not sample.
    #[error("rank {rank}, line {line}: {got} tokens where at most {most} can be")]
    TokenCount {
        /// The rank.
        rank: Rank,
        /// Index of the line in its part.
        line: usize,
        /// Tokens that came.
        got: usize,
        /// Most that the line can give.
        most: usize,
    },
    /// A line that ran has exactly the logprobs that were asked for.
    #[error("rank {rank}, line {line}: {got} logprobs of the prompt where {expected} are due")]
    LogprobCount {
        /// The rank.
        rank: Rank,
        /// Index of the line in its part.
        line: usize,
        /// Logprobs that came.
        got: usize,
        /// Logprobs that the line owes.
        expected: usize,
    },
}
