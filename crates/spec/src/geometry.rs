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

impl Rope {
    /// The settings of both published models.
    pub const GPT_OSS: Self = Self {
        theta: 150_000.0,
        factor: 32.0,
        beta_fast: 32.0,
        beta_slow: 1.0,
        original_max_positions: 4096,
        truncate: false,
    };
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

/// Far above any disk; keeps every sum of bytes inside 64 bits.
const MAX_BYTES: u128 = 1 << 63;

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
        let mut faults = self.shape_faults();
        faults.extend(self.shapeless_faults());
        faults.extend(self.float_faults());
        faults
    }

    /// Finds the faults among the sizes that shape tensors. Where there are none, every tensor has a
    /// shape, and the bytes of all of them together fit 64 bits.
    #[must_use]
    pub fn shape_faults(&self) -> Vec<GeometryError> {
        let mut faults = range_faults(&[
            ("num_hidden_layers", self.layers.len()),
            ("hidden_size", self.hidden),
            ("intermediate_size", self.intermediate),
            ("num_local_experts", self.num_experts),
            ("num_attention_heads", self.num_heads),
            ("num_key_value_heads", self.num_kv_heads),
            ("head_dim", self.head_dim),
            ("vocab_size", self.vocab_size),
        ]);
        let mut demand = |ok: bool, key: &'static str, why: String| {
            if !ok {
                faults.push(GeometryError { key, why });
            }
        };
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
        let [weights, _] = self.extents();
        faults.extend(extent_fault("sizes of the weights together", weights));
        faults
    }

    /// Finds the faults among the sizes that shape no tensor.
    fn shapeless_faults(&self) -> Vec<GeometryError> {
        let mut faults = range_faults(&[
            ("num_experts_per_tok", self.experts_per_token),
            ("sliding_window", self.sliding_window),
            ("max_position_embeddings", self.max_positions),
        ]);
        let (k, e) = (self.experts_per_token, self.num_experts);
        if k > e {
            faults.push(GeometryError {
                key: "num_experts_per_tok",
                why: format!("{k} is more than the {e} experts of a layer"),
            });
        }
        let [_, cache] = self.extents();
        faults.extend(extent_fault(
            "sizes of the KV of one sequence together",
            cache,
        ));
        faults
    }

    /// Returns bounds on the bytes of all tensors, as if each value had two (MXFP4 has fewer), and
    /// on those of one sequence's keys and values in `f32`; `None` beyond 128 bits.
    fn extents(&self) -> [Option<u128>; 2] {
        let product = |sizes: &[usize]| {
            let mut sizes = sizes.iter();
            sizes.try_fold(1u128, |product, size| product.checked_mul(*size as u128))
        };
        let sum = |products: &[Option<u128>]| {
            let mut products = products.iter();
            products.try_fold(0u128, |sum, product| sum.checked_add((*product)?))
        };
        let (layers, hidden, experts) = (self.num_layers(), self.hidden, self.num_experts);
        let values = sum(&[
            product(&[2, self.vocab_size, hidden]),
            product(&[3, layers.saturating_add(1), hidden]),
            // Query and output; key and value; and a bias of each.
            product(&[4, layers, hidden, self.num_heads, self.head_dim]),
            product(&[4, layers, hidden, self.num_kv_heads, self.head_dim]),
            product(&[layers, self.num_heads]),
            product(&[2, layers, experts, hidden]),
            // Gate, up and down, and a bias of each.
            product(&[6, layers, experts, hidden, self.intermediate]),
        ]);
        let positions = self.max_positions.max(self.sliding_window);
        let cached = product(&[2, layers, self.num_kv_heads, self.head_dim, positions]);
        [
            values.and_then(|values| values.checked_mul(2)),
            cached.and_then(|cached| cached.checked_mul(4)),
        ]
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
        let mut faults: Vec<GeometryError> = wrong.map(fault).collect();
        // The scaling divides by the logarithm of theta.
        if rope.theta > 0.0 && rope.theta <= 1.0 {
            faults.push(GeometryError {
                key: "rope_theta",
                why: format!("{} must be above 1", rope.theta),
            });
        }
        faults
    }
}

/// Finds the sizes that are none, or far above any real model's: what is left keeps every product of
/// two sizes inside 64 bits.
fn range_faults(sizes: &[(&'static str, usize)]) -> Vec<GeometryError> {
    let fault = |(key, size): &(&'static str, usize)| {
        let why = match *size {
            0 => "must be at least 1".into(),
            size if size >= 1 << 24 => format!("{size} is beyond what can be served (2^24)"),
            _ => return None,
        };
        Some(GeometryError { key, why })
    };
    sizes.iter().filter_map(fault).collect()
}

/// Finds what is too large only together: each size may be large where the others are small.
fn extent_fault(key: &'static str, bytes: Option<u128>) -> Option<GeometryError> {
    if bytes.is_some_and(|bytes| bytes < MAX_BYTES) {
        return None;
    }
    let many = bytes.map_or("more than 2^128".into(), |bytes| bytes.to_string());
    let why = format!("{many} bytes are beyond what can be served (2^63)");
    Some(GeometryError { key, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// gpt-oss-20b.
    fn published() -> Geometry {
        Geometry {
            layers: vec![Attention::Full; 24],
            hidden: 2880,
            intermediate: 2880,
            num_experts: 32,
            experts_per_token: 4,
            num_heads: 64,
            num_kv_heads: 8,
            head_dim: 64,
            vocab_size: 201_088,
            sliding_window: 128,
            max_positions: 131_072,
            rope: Rope::GPT_OSS,
            rms_norm_eps: 1e-5,
            swiglu_limit: 7.0,
        }
    }

    fn faults(edit: impl FnOnce(&mut Geometry)) -> Vec<String> {
        let mut geometry = published();
        edit(&mut geometry);
        let faults = geometry.faults();
        faults.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_published_model_is_sound() {
        assert_eq!(faults(|_| ()), [""; 0]);
    }

    #[test]
    fn refuses_sizes_whose_product_does_not_fit() {
        let largest = (1 << 24) - 32;
        let wide = faults(|g| {
            (g.hidden, g.intermediate) = (largest, largest);
            g.num_experts = (1 << 24) - 1;
        });
        assert_eq!(wide.len(), 1, "{wide:?}");
        assert!(
            wide[0].starts_with("sizes of the weights together: 1360"),
            "{wide:?}"
        );
        let long = faults(|g| {
            (g.num_heads, g.num_kv_heads, g.head_dim) = (largest, largest, largest);
            g.max_positions = largest;
            g.hidden = 32;
        });
        assert_eq!(long.len(), 1, "{long:?}");
        assert!(
            long[0].starts_with("sizes of the KV of one sequence together: "),
            "{long:?}"
        );
        let all = faults(|g| {
            *g = Geometry {
                hidden: usize::MAX,
                intermediate: usize::MAX,
                num_experts: usize::MAX,
                ..published()
            }
        });
        assert!(
            all.last().unwrap().contains("more than 2^128 bytes"),
            "{all:?}"
        );
    }

    #[test]
    fn refuses_a_theta_without_a_logarithm() {
        for theta in [1.0, 0.5] {
            assert_eq!(
                faults(|g| g.rope.theta = theta),
                [format!("rope_theta: {theta} must be above 1")]
            );
        }
        for theta in [0.0, f64::NAN, f64::INFINITY, -2.0] {
            assert_eq!(
                faults(|g| g.rope.theta = theta),
                [format!("rope_theta: {theta} must be positive")]
            );
        }
    }
}
