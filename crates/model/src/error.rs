//! Why a rank could not be made, or could not execute its part.

use kernels::ExchangeError;
use spec::{
    BlockId, ExpertId, GeometryError, KvPlan, Rank, SamplingError, SequenceId, Slot, TokenId,
};

/// Why a rank's model could not be made, adopted, or run.
///
/// After an error of [`crate::RankModel::run`] the step is void; the same part can be run again.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The geometry cannot be served.
    #[error("the model's geometry: {0}")]
    Geometry(#[from] GeometryError),
    /// The weights to adopt are of another model.
    #[error("the weights are of another model than the rank's KV")]
    OtherModel,
    /// The weights do not lie as the back end wants them.
    #[error(
        "the weights are laid out as '{}', and the back end computes with '{}'",
        found.unwrap_or("the checkpoint"), wanted.unwrap_or("the checkpoint")
    )]
    OtherLayout {
        /// Name of their layout; `None` for the checkpoint's.
        found: Option<&'static str>,
        /// The one that is wanted.
        wanted: Option<&'static str>,
    },
    /// The KV memory has no size, or one that no machine has.
    #[error(
        "a KV memory of {} + {} blocks of {} positions cannot be reserved",
        plan.full_blocks, plan.window_blocks, plan.block_size
    )]
    BadKvPlan {
        /// The plan.
        plan: KvPlan,
    },
    /// The system refused the KV memory.
    #[error(
        "the system has no KV memory for {} + {} blocks of {} positions",
        plan.full_blocks, plan.window_blocks, plan.block_size
    )]
    KvMemory {
        /// The plan.
        plan: KvPlan,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// The placement is for another model.
    #[error(
        "the placement has {layers} layers of {experts} experts; the model has {expected_layers} of \
         {expected_experts}"
    )]
    OtherPlacement {
        /// Layers of the placement.
        layers: usize,
        /// Experts of a layer of the placement.
        experts: usize,
        /// Layers of the model.
        expected_layers: usize,
        /// Experts of a layer of the model.
        expected_experts: usize,
    },
    /// The placement has no such rank.
    #[error("rank {rank} is outside the placement's {num_ranks} ranks")]
    UnknownRank {
        /// This rank.
        rank: Rank,
        /// Ranks of the placement.
        num_ranks: usize,
    },
    /// The placement gives this rank an expert that its weights lack.
    #[error("expert {expert} of layer {layer} is placed on this rank, but is not loaded")]
    ExpertNotLoaded {
        /// Layer of the expert.
        layer: usize,
        /// The expert.
        expert: ExpertId,
    },
    /// The part asks for what cannot be done. Nothing was changed.
    #[error("the part was refused: {0}")]
    Part(#[from] PartFault),
    /// An exchange with the other ranks did not happen.
    #[error(transparent)]
    Exchange(#[from] ExchangeError),
    /// An exchange brought work that is not this rank's.
    #[error(
        "layer {layer} received row {row} of {num_rows} for expert {expert}, which is not this \
         rank's to compute"
    )]
    ForeignWork {
        /// The layer.
        layer: usize,
        /// The expert named.
        expert: ExpertId,
        /// The row named.
        row: u32,
        /// Rows received.
        num_rows: usize,
    },
    /// An exchange brought home another number of expert outputs than were asked for.
    #[error("layer {layer} got {found} values of expert outputs back, not {expected}")]
    WrongReturn {
        /// The layer.
        layer: usize,
        /// Values that came.
        found: usize,
        /// Values asked for.
        expected: usize,
    },
    /// The logits hold an infinity or a NaN: weights or arithmetic are broken.
    #[error(
        "the logits after position {position} of sequence {sequence} are not finite (token {token})"
    )]
    NotFinite {
        /// The sequence.
        sequence: SequenceId,
        /// Position of the row.
        position: usize,
        /// The first token whose logit is not finite.
        token: TokenId,
    },
}

/// What is wrong with a part.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartFault {
    /// It is another rank's.
    #[error("it is rank {part}'s, this is rank {rank}")]
    OtherRank {
        /// The part's rank.
        part: Rank,
        /// This rank.
        rank: Rank,
    },
    /// A close names a slot that does not exist.
    #[error("close of slot {slot}: there are {num_slots} slots")]
    Close {
        /// The slot.
        slot: Slot,
        /// Slots of the rank.
        num_slots: usize,
    },
    /// An open cannot be applied.
    #[error("open of slot {slot} (sequence {sequence}): {why}")]
    Open {
        /// The slot.
        slot: Slot,
        /// The sequence.
        sequence: SequenceId,
        /// Why not.
        why: OpenFault,
    },
    /// A line cannot be executed.
    #[error("line {line} (slot {slot}): {why}")]
    Line {
        /// Index of the line in the part.
        line: usize,
        /// Its slot.
        slot: Slot,
        /// Why not.
        why: LineFault,
    },
}

/// What is wrong with an open.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenFault {
    /// The slot does not exist.
    #[error("there are {num_slots} slots")]
    NoSuchSlot {
        /// Slots of the rank.
        num_slots: usize,
    },
    /// The part opens the slot twice.
    #[error("the part opens the slot twice")]
    Twice,
    /// The prompt is empty, or longer than the tokens.
    #[error("a prompt of {prompt_len} among {num_tokens} tokens")]
    PromptLen {
        /// The prompt's length.
        prompt_len: u32,
        /// All tokens.
        num_tokens: usize,
    },
    /// There are more tokens than positions.
    #[error("{num_tokens} tokens, the model has {max_positions} positions")]
    TooLong {
        /// All tokens.
        num_tokens: usize,
        /// Positions of the model.
        max_positions: usize,
    },
    /// A token is outside the vocabulary.
    #[error("token {token} at position {position} is outside the vocabulary of {vocab_size}")]
    NoSuchToken {
        /// The token.
        token: TokenId,
        /// Its position.
        position: usize,
        /// Size of the vocabulary.
        vocab_size: usize,
    },
    /// A sampling parameter is out of range.
    #[error("{0}")]
    Sampling(SamplingError),
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineFault {
    /// No sequence is open in the slot.
    #[error("no sequence is open there")]
    NotOpen,
    /// The part has two lines for the slot.
    #[error("the part has another line for the slot")]
    Twice,
    /// It has no rows.
    #[error("it has no rows")]
    Empty,
    /// It goes past the model's positions.
    #[error("{len} rows from position {start}, the model has {max_positions} positions")]
    TooFar {
        /// First position.
        start: u32,
        /// Rows.
        len: u32,
        /// Positions of the model.
        max_positions: usize,
    },
    /// It would overwrite a token of the prompt by a sampled one.
    #[error("it samples position {position}, inside the prompt of {prompt_len}")]
    SamplesPrompt {
        /// The position.
        position: usize,
        /// Length of the prompt.
        prompt_len: usize,
    },
    /// A block is outside its pool.
    #[error("{pool} block {block} is outside the pool of {num_blocks}")]
    NoSuchBlock {
        /// Which pool.
        pool: &'static str,
        /// The block.
        block: BlockId,
        /// Blocks of the pool.
        num_blocks: usize,
    },
    /// The table would hold more blocks than the model has positions.
    #[error("a {pool} table of {num_blocks} blocks is longer than the model's positions")]
    TableTooLong {
        /// Which table.
        pool: &'static str,
        /// Blocks of the table.
        num_blocks: usize,
    },
    /// The table lacks a block that the rows read or write.
    #[error("the {pool} table lacks blocks for positions {first} to {last}")]
    NoBlocks {
        /// Which table.
        pool: &'static str,
        /// First position that is read or written.
        first: usize,
        /// Last position that is read or written.
        last: usize,
    },
    /// A block would be written for two places at once.
    #[error("{pool} block {block} is written for two places in one part")]
    WrittenTwice {
        /// Which pool.
        pool: &'static str,
        /// The block.
        block: BlockId,
    },
}
