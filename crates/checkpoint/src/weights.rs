//! The weights that one rank holds: everything but the experts, and its own experts.

mod cache;
mod load;
mod pack;
mod packed;

use std::fmt;
use std::sync::Arc;

use half::bf16;
use kernels::{Bf16, Codes, ExpertWork, Mxfp4, Packing};
use spec::{ExpertId, Placement, Rank};

pub use self::cache::{PackedCache, PackedNews};
use crate::checkpoint::Checkpoint;
use crate::error::Error;
use crate::map::Tensor;
use crate::parallel::Watch;

/// The weights of one rank, in memory and typed.
///
/// A clone shares them.
#[derive(Clone, Debug)]
pub struct RankWeights {
    checkpoint: Checkpoint,
    /// Name of the layout that its matrices have, if not the checkpoint's.
    layout: Option<&'static str>,
    /// Rows of the vocabulary, `[vocab, hidden]`.
    pub embedding: Tensor<bf16>,
    /// Norm before the head, `[hidden]`.
    pub final_norm: Tensor<bf16>,
    /// Rows of the head, `[vocab, hidden]`.
    pub head: Matrix,
    /// The layers, in order.
    pub layers: Vec<LayerWeights>,
}

/// The weights of one layer. Matrices are `[out, in]`.
#[derive(Clone, Debug)]
pub struct LayerWeights {
    /// Norm before attention, `[hidden]`.
    pub input_norm: Tensor<bf16>,
    /// Query projection, `[query_width, hidden]`.
    pub q: Matrix,
    /// Its bias, `[query_width]`.
    pub q_bias: Tensor<bf16>,
    /// Key projection, `[kv_width, hidden]`.
    pub k: Matrix,
    /// Its bias, `[kv_width]`.
    pub k_bias: Tensor<bf16>,
    /// Value projection, `[kv_width, hidden]`.
    pub v: Matrix,
    /// Its bias, `[kv_width]`.
    pub v_bias: Tensor<bf16>,
    /// Output projection, `[hidden, query_width]`.
    pub o: Matrix,
    /// Its bias, `[hidden]`.
    pub o_bias: Tensor<bf16>,
    /// One logit a query head that joins the softmax, `[num_heads]`.
    pub sinks: Tensor<bf16>,
    /// Norm before the experts, `[hidden]`.
    pub post_norm: Tensor<bf16>,
    /// Router, `[num_experts, hidden]`.
    pub router: Tensor<bf16>,
    /// Its bias, `[num_experts]`.
    pub router_bias: Tensor<bf16>,
    /// The experts that the rank holds.
    pub experts: ExpertSet,
}

/// A `bf16` matrix, as it was asked for.
#[derive(Clone, Debug)]
pub enum Matrix {
    /// Row by row, as the checkpoint has it.
    Rows(Tensor<bf16>),
    /// In a back end's layout.
    Packed(Tensor<u8>),
}

impl Matrix {
    /// Returns it as an op takes it.
    #[must_use]
    pub fn view(&self) -> Bf16<'_> {
        match self {
            Self::Rows(rows) => Bf16::Rows(rows),
            Self::Packed(bytes) => Bf16::Packed(bytes),
        }
    }
}

/// The codes of an MXFP4 matrix, as they were asked for.
#[derive(Debug)]
enum ExpertMatrix {
    Rows {
        blocks: Tensor<u8>,
        scales: Tensor<u8>,
    },
    Packed(Tensor<u8>),
}

impl ExpertMatrix {
    fn view(&self) -> Codes<'_> {
        match self {
            Self::Rows { blocks, scales } => Codes::Rows { blocks, scales },
            Self::Packed(bytes) => Codes::Packed(bytes),
        }
    }
}

/// The experts of one layer that a rank holds.
#[derive(Clone)]
pub struct ExpertSet {
    /// By expert; `None` for those of other ranks.
    held: Vec<Option<Arc<Expert>>>,
}

/// One expert's tensors.
#[derive(Debug)]
struct Expert {
    gate_up: ExpertMatrix,
    gate_up_bias: Tensor<bf16>,
    down: ExpertMatrix,
    down_bias: Tensor<bf16>,
}

/// The weights of one expert. In gate_up, row `2 i` is gate `i` and row `2 i + 1` is up `i`.
#[derive(Clone, Copy, Debug)]
pub struct ExpertWeights<'a> {
    /// `[2 intermediate, hidden]`.
    pub gate_up: Codes<'a>,
    /// `[2 intermediate]`.
    pub gate_up_bias: &'a [bf16],
    /// `[hidden, intermediate]`.
    pub down: Codes<'a>,
    /// `[hidden]`.
    pub down_bias: &'a [bf16],
}

impl<'a> ExpertWeights<'a> {
    /// Returns the work of this expert on rows, as an op takes it.
    #[must_use]
    pub fn work(self, rows: &'a [u32], outputs: &'a [u32]) -> ExpertWork<'a> {
        ExpertWork {
            gate_up: Mxfp4 {
                codes: self.gate_up,
                bias: self.gate_up_bias,
            },
            down: Mxfp4 {
                codes: self.down,
                bias: self.down_bias,
            },
            rows,
            outputs,
        }
    }
}

impl ExpertSet {
    /// Returns an expert; `None` if the rank does not hold it.
    #[must_use]
    pub fn expert(&self, expert: ExpertId) -> Option<ExpertWeights<'_>> {
        let expert = self.held.get(expert.index())?.as_ref()?;
        Some(ExpertWeights {
            gate_up: expert.gate_up.view(),
            gate_up_bias: &expert.gate_up_bias,
            down: expert.down.view(),
            down_bias: &expert.down_bias,
        })
    }

    /// Lists the experts held, ascending.
    pub fn held(&self) -> impl Iterator<Item = ExpertId> + '_ {
        let held = self.held.iter().enumerate();
        held.filter(|(_, expert)| expert.is_some())
            .map(|(expert, _)| ExpertId(expert as u32))
    }
}

impl fmt::Debug for ExpertSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.held.iter().flatten().count();
        write!(f, "ExpertSet({held} of {})", self.held.len())
    }
}

/// What a load is about.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions<'a> {
    /// Which rank holds which expert.
    pub placement: &'a Placement,
    /// The rank to load for.
    pub rank: Rank,
    /// Threads that read or make weights.
    pub threads: usize,
    /// Weights of the same checkpoint that are in memory already, of this rank or of another in
    /// this process; what they hold is shared, not loaded again.
    pub have: &'a [&'a RankWeights],
    /// How matrices are laid out; `None` as the checkpoint has them. The same as in `have`.
    pub packing: Option<&'static dyn Packing>,
    /// Where packed matrices are kept from one load to the next, and shared with other processes; `None`
    /// packs them into memory of this process.
    pub cache: Option<&'a PackedCache>,
}

impl RankWeights {
    /// Loads what a rank needs, each byte once: pages of the mapped files are touched, or values
    /// made; matrices that are packed are copied. `watch` counts the bytes that were not at hand already.
    ///
    /// # Errors
    ///
    /// If a file cannot be mapped or changed since it was opened, there is no memory, or the watch
    /// cancels.
    ///
    /// # Panics
    ///
    /// If the placement is of another model, or the weights in `have` are of another checkpoint or have
    /// another layout.
    pub fn load(
        checkpoint: &Checkpoint,
        options: &LoadOptions<'_>,
        watch: &mut Watch<'_>,
    ) -> Result<Self, Error> {
        load::load(checkpoint, options, watch)
    }

    /// Returns the name of the layout that the matrices have; `None` if they are as in the checkpoint.
    #[must_use]
    pub fn layout(&self) -> Option<&'static str> {
        self.layout
    }

    /// Returns the checkpoint they are of.
    #[must_use]
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}
