//! The shape of a gpt-oss model, as its `config.json` says.

use std::fmt;

/// How a layer attends to the past.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Attention {
    /// Position `t` sees the keys `t - window + 1 ..= t`.
    Sliding,
    /// Position `t` sees the keys `0 ..= t`.
    Full,
}

/// Rotary embedding with YaRN scaling (<https://arxiv.org/abs/2309.00071>).
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Base of the frequencies; 150,000 in gpt-oss.
    pub theta: f64,
    /// How far the context is stretched; 32 in gpt-oss. At 1 or below there is no scaling.
    pub factor: f64,
    /// Rotations at and above which a frequency is kept.
    pub beta_fast: f64,
    /// Rotations at and below which a frequency is divided by `factor`.
    pub beta_slow: f64,
    /// Positions the model was first trained on; 4,096 in gpt-oss.
    pub original_max_positions: u32,
    /// Whether the corrected range is rounded to whole dimensions; false in gpt-oss.
    pub truncate: bool,
}

/// The numbers that fix every tensor's shape and the arithmetic of a forward pass.
#[derive(Clone, Debug, PartialEq)]
pub struct Geometry {
    /// Attention kind of each layer, in order; its length is the number of layers.
    pub layers: Vec<Attention>,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside an expert.
    pub intermediate: usize,
    /// Experts of a layer.
    pub num_experts: usize,
    /// Experts a token visits in each layer.
    pub experts_per_token: usize,
    /// Query heads.
    pub num_heads: usize,
    /// Key and value heads; query head `h` reads `h / (num_heads / num_kv_heads)`.
    pub num_kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the embedding and of the head.
    pub vocab_size: usize,
    /// Keys a sliding layer sees, the query's own included.
    pub sliding_window: usize,
    /// Positions the model accepts.
    pub max_positions: usize,
    /// Rotary embedding.
    pub rope: Rope,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f32,
    /// Clamp inside the experts' activation.
    pub swiglu_limit: f32,
}

/// A number of a geometry that cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GeometryError {
    /// Name of the configuration key.
    pub key: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for GeometryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.why)
    }
}

impl std::error::Error for GeometryError {}

/// Values of one MXFP4 block, which must divide both `hidden` and `intermediate`.
const MXFP4_BLOCK: usize = 32;

impl Geometry {
    /// Returns the number of layers.
    #[must_use]
    pub fn num_layers(&self) -> usize {
        self.layers.len()
    }

    /// Returns the width of all query heads together.
    #[must_use]
    pub fn query_width(&self) -> usize {
        self.num_heads * self.head_dim
    }

    /// Returns the width of all key (or value) heads together.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.num_kv_heads * self.head_dim
    }

    /// Returns how many layers attend in the given way.
    #[must_use]
    pub fn count(&self, attention: Attention) -> usize {
        self.layers
            .iter()
            .filter(|layer| **layer == attention)
            .count()
    }

    /// Finds every number that cannot be served; empty means the geometry is sound.
    #[must_use]
    pub fn faults(&self) -> Vec<GeometryError> {
        let mut faults = Vec::new();
        let mut demand = |ok: bool, key: &'static str, why: String| {
            if !ok {
                faults.push(GeometryError { key, why });
            }
        };
        let sizes = [
            ("num_hidden_layers", self.layers.len()),
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
            ("num_local_experts", self.num_experts),
            ("num_experts_per_tok", self.experts_per_token),
            ("num_attention_heads", self.num_heads),
            ("num_key_value_heads", self.num_kv_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab_size),
            ("sliding_window", self.sliding_window),
            ("max_position_embeddings", self.max_positions),
        ];
        for (key, size) in sizes {
            demand(size > 0, key, "must be at least 1".into());
            // Far above any real model; keeps every product of two sizes inside 64 bits.
            demand(
                size < 1 << 24,
                key,
                format!("{size} is beyond what can be served (2^24)"),
            );
        }
        for (key, size) in [
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
        ] {
            let whole = size.is_multiple_of(MXFP4_BLOCK);
            demand(
                whole,
                key,
                format!("{size} is not a multiple of {MXFP4_BLOCK} (one MXFP4 block)"),
            );
        }
        let (heads, kv) = (self.num_heads, self.num_kv_heads.max(1));
        let grouped = heads.is_multiple_of(kv);
        demand(
            grouped,
            "num_attention_heads",
            format!("{heads} is not a multiple of {kv} key heads"),
        );
        let even = self.head_dim.is_multiple_of(2);
        demand(
            even,
            "head_dim",
            format!("{} is odd; rotary pairs need halves", self.head_dim),
        );
        let (k, e) = (self.experts_per_token, self.num_experts);
        demand(
            k <= e,
            "num_experts_per_tok",
            format!("{k} is more than the {e} experts of a layer"),
        );
        faults.extend(self.float_faults());
        faults
    }

    fn float_faults(&self) -> Vec<GeometryError> {
        let rope = &self.rope;
        let numbers = [
            ("rope_theta", rope.theta),
            ("rope factor", rope.factor),
            ("rope beta_fast", rope.beta_fast),
            ("rope beta_slow", rope.beta_slow),
            ("rms_norm_eps", f64::from(self.rms_norm_eps)),
            ("swiglu_limit", f64::from(self.swiglu_limit)),
        ];
        let wrong = numbers
            .into_iter()
            .filter(|(_, value)| !(value.is_finite() && *value > 0.0));
        let fault = |(key, value)| GeometryError {
            key,
            why: format!("{value} must be positive"),
        };
        wrong.map(fault).collect()
    }
}
