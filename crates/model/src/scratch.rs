//! Memory for a step's rows, kept from step to step.

use spec::Geometry;

/// Activations of all rows of a part, or of those that came to this rank's experts.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// The residual stream, `[rows, hidden]`.
    pub(crate) x: Vec<f32>,
    /// Its norm, `[rows, hidden]`.
    pub(crate) normed: Vec<f32>,
    /// `[rows, heads, head_dim]`.
    pub(crate) q: Vec<f32>,
    /// `[rows, kv_heads, head_dim]`.
    pub(crate) k: Vec<f32>,
    /// `[rows, kv_heads, head_dim]`.
    pub(crate) v: Vec<f32>,
    /// `[rows, heads, head_dim]`.
    pub(crate) attended: Vec<f32>,
    /// The router's logits, `[rows, num_experts]`.
    pub(crate) router: Vec<f32>,
    /// `[rows, experts_per_token]`.
    pub(crate) experts: Vec<u32>,
    /// `[rows, experts_per_token]`.
    pub(crate) expert_weight: Vec<f32>,
    /// Outputs of this rank's experts, `[work, hidden]`.
    pub(crate) expert_out: Vec<f32>,
    /// Indices of received work, grouped by expert.
    pub(crate) grouped: Grouped,
    /// `[rows of a slice, vocab_size]`.
    pub(crate) logits: Vec<f32>,
}

impl Scratch {
    /// Sizes the arrays of this rank's own rows.
    pub(crate) fn resize(&mut self, geometry: &Geometry, rows: usize) {
        let (query, kv) = (geometry.query_width(), geometry.kv_width());
        for (array, width) in [
            (&mut self.x, geometry.hidden),
            (&mut self.normed, geometry.hidden),
            (&mut self.q, query),
            (&mut self.k, kv),
            (&mut self.v, kv),
            (&mut self.attended, query),
            (&mut self.router, geometry.num_experts),
            (&mut self.expert_weight, geometry.experts_per_token),
        ] {
            array.resize(rows * width, 0.0);
        }
        self.experts.resize(rows * geometry.experts_per_token, 0);
    }
}

/// Received work sorted by expert, in the order received within one.
#[derive(Debug, Default)]
pub(crate) struct Grouped {
    /// Where each expert's entries end in `rows` and `outputs`, by expert.
    pub(crate) ends: Vec<usize>,
    /// Rows to compute.
    pub(crate) rows: Vec<u32>,
    /// Where each one's output goes.
    pub(crate) outputs: Vec<u32>,
}
