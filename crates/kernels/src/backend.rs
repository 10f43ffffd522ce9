//! The ops of the model: arguments, shapes and order of arithmetic.
//!
//! All arrays are row-major and dense. Every output element is computed in an order fixed by its
//! own inputs alone: a row's result never depends on the other rows of the call, on their number or
//! on the number of threads. That is what makes sharding, batching and chunking change no bit.

use half::bf16;
use spec::BlockId;

use crate::packing::Packing;

/// Executes the ops. An implementation owns its threads; every call returns when its output is
/// complete.
///
/// A wrong length is a bug of the caller and panics with the op's name; [`Backend`]s call the
/// argument's `check` first, so that all of them refuse the same calls.
pub trait Backend: Send + Sync {
    /// Names what decides the bits of the results: mode and kernel revision, and the instruction
    /// path where that changes them; for instance `exact-2`. Ranks of one group must agree on it.
    fn numerics(&self) -> &str;

    /// How the large matrices have to lie that this back end computes with: those of attention, the head
    /// and the experts. `None` if it reads them as checkpoints hold them.
    fn packing(&self) -> Option<&'static dyn Packing>;

    /// Runs what calls many ops, on a thread from which each begins soonest: one of the back end's own if
    /// it has any. Returns when the work has; a panic in it reaches the caller.
    fn host(&self, work: Box<dyn FnOnce() + Send + '_>) {
        work();
    }

    /// Copies rows of the embedding: `out[r] = table[ids[r]]`.
    fn embed(&self, args: Embed<'_>);

    /// `out[r] = x[r] / sqrt(mean(x[r]^2) + eps) * weight`.
    fn rms_norm(&self, args: RmsNorm<'_>);

    /// `out[r] = x[r] · weightᵀ + bias`, or added to `out[r]`.
    fn linear(&self, args: Linear<'_>);

    /// Turns each head's pairs `(i, i + head_dim / 2)` by `position · inv_freq[i]`.
    fn rotate(&self, args: Rotate<'_>);

    /// Writes keys and values of rows into their places in the KV blocks of one layer.
    fn store_kv(&self, args: StoreKv<'_>);

    /// Attention of query rows over the KV blocks of one layer, with sinks.
    fn attend(&self, args: Attend<'_>);

    /// Picks the `k` experts with the largest logits and weighs them by softmax over those `k`.
    fn route(&self, args: Route<'_>);

    /// Computes experts on rows that came from all ranks.
    fn run_experts(&self, args: Experts<'_>);

    /// Adds each row's expert outputs, weighted, in top-k order, to the residual stream.
    fn combine(&self, args: Combine<'_>);
}

/// Arguments of [`Backend::embed`].
#[derive(Debug)]
pub struct Embed<'a> {
    /// `[vocab, hidden]`.
    pub table: &'a [bf16],
    /// `[rows]`, each below `vocab`.
    pub ids: &'a [u32],
    /// Width of a row.
    pub hidden: usize,
    /// `[rows, hidden]`, overwritten.
    pub out: &'a mut [f32],
}

/// Arguments of [`Backend::rms_norm`]. The mean is accumulated in `f32`; the weight multiplies last.
#[derive(Debug)]
pub struct RmsNorm<'a> {
    /// `[rows, hidden]`.
    pub x: &'a [f32],
    /// `[hidden]`.
    pub weight: &'a [bf16],
    /// Added to the mean square.
    pub eps: f32,
    /// `[rows, hidden]`, overwritten.
    pub out: &'a mut [f32],
}

/// A matrix of `bf16`, `[outputs, inputs]`.
#[derive(Clone, Copy, Debug)]
pub enum Bf16<'a> {
    /// Row by row, as checkpoints hold it.
    Rows(&'a [bf16]),
    /// In the layout of the back end's [`Packing`].
    Packed(&'a [u8]),
}

/// Arguments of [`Backend::linear`]. Sums are `f32`, over `inputs` in an order fixed by `inputs`.
#[derive(Debug)]
pub struct Linear<'a> {
    /// `[rows, inputs]`.
    pub x: &'a [f32],
    /// `[outputs, inputs]`.
    pub weight: Bf16<'a>,
    /// `[outputs]`, added after the sum.
    pub bias: Option<&'a [bf16]>,
    /// Number of inputs, the length of each sum.
    pub inputs: usize,
    /// Number of outputs.
    pub outputs: usize,
    /// Adds the result (bias included) to `out` rather than overwriting it.
    pub accumulate: bool,
    /// `[rows, outputs]`.
    pub out: &'a mut [f32],
}

/// Arguments of [`Backend::rotate`]: `a' = a·cos − b·sin`, `b' = b·cos + a·sin`, where the angle is
/// the `f32` product `position · inv_freq[i]` and `factor` multiplies both cosine and sine.
#[derive(Debug)]
pub struct Rotate<'a> {
    /// `[rows, heads, head_dim]`, turned in place.
    pub x: &'a mut [f32],
    /// `[rows]`.
    pub positions: &'a [u32],
    /// `[head_dim / 2]`.
    pub inv_freq: &'a [f32],
    /// YaRN's factor on cosine and sine.
    pub factor: f32,
    /// Heads in a row.
    pub heads: usize,
}

/// How one layer's KV lies in memory: values `[block][kv_head][slot][head_dim]`, and keys
/// `[block][kv_head][head_dim][slot]`, so that a query is multiplied with neighbouring positions side by
/// side and no sum runs across them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvLayout {
    /// Positions in a block.
    pub block_size: usize,
    /// Key (and value) heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
}

impl KvLayout {
    /// Returns the number of elements of one block, keys or values.
    #[must_use]
    pub fn block_len(&self) -> usize {
        self.block_size * self.kv_heads * self.head_dim
    }
}

/// Consecutive rows of one sequence: row `first_row + i` stands at position `start + i`.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// First row in the call's arrays.
    pub first_row: usize,
    /// Number of rows.
    pub len: usize,
    /// Position of the first row.
    pub start: usize,
    /// Block table: entry `i` holds the positions `i · block_size ..`. Entries that no row of the
    /// span reads or writes may hold anything.
    pub table: &'a [BlockId],
}

/// Arguments of [`Backend::store_kv`].
#[derive(Debug)]
pub struct StoreKv<'a> {
    /// `[rows, kv_heads, head_dim]`, after rotation.
    pub k: &'a [f32],
    /// `[rows, kv_heads, head_dim]`.
    pub v: &'a [f32],
    /// Which rows go where; no two rows share a place.
    pub spans: &'a [Span<'a>],
    /// Layout of `keys` and `values`.
    pub layout: KvLayout,
    /// The layer's keys.
    pub keys: &'a mut [f32],
    /// The layer's values.
    pub values: &'a mut [f32],
}

/// Arguments of [`Backend::attend`].
///
/// Query head `h` reads key head `h / (heads / kv_heads)`. With the scores `s_j = scale · q·k_j`
/// over the visible keys and `m` the maximum of them and the head's sink,
/// `out = Σ exp(s_j − m) v_j / (Σ exp(s_j − m) + exp(sink − m))`. Sums run over keys in an order
/// fixed by their absolute positions.
///
/// Source: attention sinks as in openai/gpt-oss, `gpt_oss/torch/model.py`, `sdpa`.
#[derive(Debug)]
pub struct Attend<'a> {
    /// `[rows, heads, head_dim]`, after rotation.
    pub q: &'a [f32],
    /// Query heads.
    pub heads: usize,
    /// The rows and where their keys lie. The rows' own keys are stored already. No row is in two
    /// spans.
    pub spans: &'a [Span<'a>],
    /// Layout of `keys` and `values`.
    pub layout: KvLayout,
    /// The layer's keys.
    pub keys: &'a [f32],
    /// The layer's values.
    pub values: &'a [f32],
    /// `[heads]`.
    pub sinks: &'a [bf16],
    /// Keys a position sees, its own included; `None` for all up to its own.
    pub window: Option<usize>,
    /// Multiplies the products of query and key.
    pub scale: f32,
    /// `[rows, heads, head_dim]`, overwritten for the rows of the spans.
    pub out: &'a mut [f32],
}

/// Arguments of [`Backend::route`]. Among equal logits the lower expert goes first; a logit that is
/// not a number counts as the lowest.
#[derive(Debug)]
pub struct Route<'a> {
    /// `[rows, num_experts]`.
    pub logits: &'a [f32],
    /// Experts to choose from.
    pub num_experts: usize,
    /// Experts to choose.
    pub k: usize,
    /// `[rows, k]`, best first, overwritten.
    pub index: &'a mut [u32],
    /// `[rows, k]`, overwritten.
    pub weight: &'a mut [f32],
}

/// The codes of a matrix `[outputs, inputs]` in MXFP4: blocks of 32 values along the inputs, byte `j`
/// of a block holding value `2j` in its low and `2j + 1` in its high four bits.
///
/// Source: OCP Microscaling Formats (MX) Specification 1.0; the nibble order is that of the
/// published checkpoint.
#[derive(Clone, Copy, Debug)]
pub enum Codes<'a> {
    /// Row by row, as checkpoints hold them.
    Rows {
        /// `[outputs, inputs / 32, 16]`.
        blocks: &'a [u8],
        /// `[outputs, inputs / 32]`, powers of two with a bias of 127.
        scales: &'a [u8],
    },
    /// In the layout of the back end's [`Packing`].
    Packed(&'a [u8]),
}

/// One expert's matrix.
#[derive(Clone, Copy, Debug)]
pub struct Mxfp4<'a> {
    /// `[outputs, inputs]`.
    pub codes: Codes<'a>,
    /// `[outputs]`.
    pub bias: &'a [bf16],
}

/// One expert and the rows it has to compute.
#[derive(Clone, Debug)]
pub struct ExpertWork<'a> {
    /// `[2 · intermediate, hidden]`; row `2i` is gate `i`, row `2i + 1` is up `i`.
    pub gate_up: Mxfp4<'a>,
    /// `[hidden, intermediate]`.
    pub down: Mxfp4<'a>,
    /// Input rows, as indices into [`Experts::x`].
    pub rows: &'a [u32],
    /// Output rows, as indices into [`Experts::out`]; as many as `rows`, each index once in a call.
    pub outputs: &'a [u32],
}

/// Arguments of [`Backend::run_experts`].
///
/// For each row: `z = W₁·x + b₁`; `g = min(z[0::2], limit)`, `u = clamp(z[1::2], −limit, limit)`;
/// `h = g · sigmoid(1.702 g) · (u + 1)`; `out = W₂·h + b₂`.
///
/// Source: openai/gpt-oss, `gpt_oss/torch/model.py`, `swiglu` and `MLPBlock.forward`.
#[derive(Debug)]
pub struct Experts<'a> {
    /// `[rows, hidden]`.
    pub x: &'a [f32],
    /// Width of a row.
    pub hidden: usize,
    /// Width inside an expert.
    pub intermediate: usize,
    /// Clamp of the activation.
    pub limit: f32,
    /// The experts that have rows.
    pub work: &'a [ExpertWork<'a>],
    /// `[outputs, hidden]`, overwritten where named.
    pub out: &'a mut [f32],
}

/// Arguments of [`Backend::combine`]: `x[r] += Σ_j weight[r, j] · outputs[r, j]`, the sum taken
/// over `j` ascending and then added.
#[derive(Debug)]
pub struct Combine<'a> {
    /// `[rows, k, hidden]`, in top-k order.
    pub outputs: &'a [f32],
    /// `[rows, k]`.
    pub weight: &'a [f32],
    /// Experts of a row.
    pub k: usize,
    /// `[rows, hidden]`.
    pub x: &'a mut [f32],
}
