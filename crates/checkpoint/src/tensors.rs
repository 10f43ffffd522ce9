//! Which tensors a model has: names, shapes and element types, all from its [`Geometry`].

use std::fmt;

use spec::Geometry;

/// Values that share one scale byte, and the bytes that hold them.
const BLOCK_VALUES: usize = 32;
const BLOCK_BYTES: usize = 16;

/// Element types of a published checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Dtype {
    /// bfloat16, little-endian.
    Bf16,
    /// Bytes: MXFP4 codes, two to a byte, or their scales.
    U8,
}

impl Dtype {
    /// Returns the name a safetensors header uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "BF16",
            Self::U8 => "U8",
        }
    }

    /// Returns the bytes of one element.
    #[must_use]
    pub const fn size(self) -> usize {
        match self {
            Self::Bf16 => 2,
            Self::U8 => 1,
        }
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A tensor's place in the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// Rows of the vocabulary, `[vocab, hidden]`.
    Embedding,
    /// Norm before the head, `[hidden]`.
    FinalNorm,
    /// Rows of the head, `[vocab, hidden]`; not the embedding.
    Head,
    /// A tensor of one layer.
    Layer(usize, Weight),
}

/// The tensors of a layer, in the order of the published index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Weight {
    /// Norm before attention, `[hidden]`.
    InputNorm,
    /// Bias of the output projection, `[hidden]`.
    OutputBias,
    /// Output projection, `[hidden, query_width]`.
    Output,
    /// Bias of the query projection, `[query_width]`.
    QueryBias,
    /// Bias of the key projection, `[kv_width]`.
    KeyBias,
    /// Bias of the value projection, `[kv_width]`.
    ValueBias,
    /// Query projection, `[query_width, hidden]`.
    Query,
    /// Key projection, `[kv_width, hidden]`.
    Key,
    /// Value projection, `[kv_width, hidden]`.
    Value,
    /// One logit a query head that joins the softmax, `[num_heads]`.
    Sinks,
    /// Bias of the router, `[num_experts]`.
    RouterBias,
    /// Router, `[num_experts, hidden]`.
    Router,
    /// Bias of gate (even rows) and up (odd rows), `[num_experts, 2 intermediate]`.
    GateUpBias,
    /// MXFP4 codes of gate and up, `[num_experts, 2 intermediate, hidden / 32, 16]`.
    GateUpBlocks,
    /// Scale bytes of gate and up, `[num_experts, 2 intermediate, hidden / 32]`.
    GateUpScales,
    /// Bias of the down projection, `[num_experts, hidden]`.
    DownBias,
    /// MXFP4 codes of down, `[num_experts, hidden, intermediate / 32, 16]`.
    DownBlocks,
    /// Scale bytes of down, `[num_experts, hidden, intermediate / 32]`.
    DownScales,
    /// Norm before the experts, `[hidden]`.
    PostNorm,
}

impl Weight {
    /// All of them, in the order of the published index.
    pub const ALL: [Self; 19] = [
        Self::InputNorm,
        Self::OutputBias,
        Self::Output,
        Self::QueryBias,
        Self::KeyBias,
        Self::ValueBias,
        Self::Query,
        Self::Key,
        Self::Value,
        Self::Sinks,
        Self::RouterBias,
        Self::Router,
        Self::GateUpBias,
        Self::GateUpBlocks,
        Self::GateUpScales,
        Self::DownBias,
        Self::DownBlocks,
        Self::DownScales,
        Self::PostNorm,
    ];

    /// Returns the name after `model.layers.N.`.
    const fn name(self) -> &'static str {
        match self {
            Self::InputNorm => "input_layernorm.weight",
            Self::OutputBias => "self_attn.o_proj.bias",
            Self::Output => "self_attn.o_proj.weight",
            Self::QueryBias => "self_attn.q_proj.bias",
            Self::KeyBias => "self_attn.k_proj.bias",
            Self::ValueBias => "self_attn.v_proj.bias",
            Self::Query => "self_attn.q_proj.weight",
            Self::Key => "self_attn.k_proj.weight",
            Self::Value => "self_attn.v_proj.weight",
            Self::Sinks => "self_attn.sinks",
            Self::RouterBias => "mlp.router.bias",
            Self::Router => "mlp.router.weight",
            Self::GateUpBias => "mlp.experts.gate_up_proj_bias",
            Self::GateUpBlocks => "mlp.experts.gate_up_proj_blocks",
            Self::GateUpScales => "mlp.experts.gate_up_proj_scales",
            Self::DownBias => "mlp.experts.down_proj_bias",
            Self::DownBlocks => "mlp.experts.down_proj_blocks",
            Self::DownScales => "mlp.experts.down_proj_scales",
            Self::PostNorm => "post_attention_layernorm.weight",
        }
    }

    fn shape(self, g: &Geometry) -> Vec<usize> {
        let (hidden, experts) = (g.hidden, g.num_experts);
        let (in_hidden, in_expert) = (hidden / BLOCK_VALUES, g.intermediate / BLOCK_VALUES);
        match self {
            Self::InputNorm | Self::PostNorm | Self::OutputBias => vec![hidden],
            Self::Output => vec![hidden, g.query_width()],
            Self::QueryBias => vec![g.query_width()],
            Self::KeyBias | Self::ValueBias => vec![g.kv_width()],
            Self::Query => vec![g.query_width(), hidden],
            Self::Key | Self::Value => vec![g.kv_width(), hidden],
            Self::Sinks => vec![g.num_heads],
            Self::RouterBias => vec![experts],
            Self::Router => vec![experts, hidden],
            Self::GateUpBias => vec![experts, 2 * g.intermediate],
            Self::GateUpBlocks => vec![experts, 2 * g.intermediate, in_hidden, BLOCK_BYTES],
            Self::GateUpScales => vec![experts, 2 * g.intermediate, in_hidden],
            Self::DownBias => vec![experts, hidden],
            Self::DownBlocks => vec![experts, hidden, in_expert, BLOCK_BYTES],
            Self::DownScales => vec![experts, hidden, in_expert],
        }
    }
}

impl Key {
    /// Returns whether the first dimension counts experts, so that ranks hold slices of it.
    #[must_use]
    pub const fn is_expert(self) -> bool {
        matches!(
            self,
            Self::Layer(
                _,
                Weight::GateUpBias
                    | Weight::GateUpBlocks
                    | Weight::GateUpScales
                    | Weight::DownBias
                    | Weight::DownBlocks
                    | Weight::DownScales
            )
        )
    }

    /// Returns whether the tensor holds MXFP4 codes.
    #[must_use]
    pub const fn is_blocks(self) -> bool {
        matches!(
            self,
            Self::Layer(_, Weight::GateUpBlocks | Weight::DownBlocks)
        )
    }

    /// Returns whether the tensor holds MXFP4 scales.
    #[must_use]
    pub const fn is_scales(self) -> bool {
        matches!(
            self,
            Self::Layer(_, Weight::GateUpScales | Weight::DownScales)
        )
    }

    const fn dtype(self) -> Dtype {
        if self.is_blocks() || self.is_scales() {
            Dtype::U8
        } else {
            Dtype::Bf16
        }
    }

    fn name(self) -> String {
        match self {
            Self::Embedding => "model.embed_tokens.weight".to_owned(),
            Self::FinalNorm => "model.norm.weight".to_owned(),
            Self::Head => "lm_head.weight".to_owned(),
            Self::Layer(layer, weight) => format!("model.layers.{layer}.{}", weight.name()),
        }
    }

    fn shape(self, g: &Geometry) -> Vec<usize> {
        match self {
            Self::Embedding | Self::Head => vec![g.vocab_size, g.hidden],
            Self::FinalNorm => vec![g.hidden],
            Self::Layer(_, weight) => weight.shape(g),
        }
    }
}

/// A tensor that a model must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSpec {
    /// Its place in the model.
    pub key: Key,
    /// Its name in the published layout.
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its shape, outermost dimension first.
    pub shape: Vec<usize>,
}

impl TensorSpec {
    /// Describes the tensor at `key`.
    #[must_use]
    pub fn new(key: Key, geometry: &Geometry) -> Self {
        Self {
            key,
            name: key.name(),
            dtype: key.dtype(),
            shape: key.shape(geometry),
        }
    }

    /// Returns the bytes of the whole tensor.
    #[must_use]
    pub fn num_bytes(&self) -> u64 {
        let elements: u64 = self.shape.iter().map(|side| *side as u64).product();
        elements * self.dtype.size() as u64
    }

    /// Returns the bytes of one expert's slice, or of the whole tensor if it is not an expert's.
    #[must_use]
    pub fn piece_bytes(&self) -> u64 {
        if self.key.is_expert() {
            self.num_bytes() / self.shape[0] as u64
        } else {
            self.num_bytes()
        }
    }
}

/// Lists every tensor of a model: the layers in numeric order, then embedding, norm and head. In a
/// geometry without [`Geometry::shape_faults`] the bytes of all of them fit 64 bits.
#[must_use]
pub fn expected(geometry: &Geometry) -> Vec<TensorSpec> {
    let layers = (0..geometry.num_layers())
        .flat_map(|layer| Weight::ALL.map(|weight| Key::Layer(layer, weight)));
    let rest = [Key::Embedding, Key::FinalNorm, Key::Head];
    layers
        .chain(rest)
        .map(|key| TensorSpec::new(key, geometry))
        .collect()
}
