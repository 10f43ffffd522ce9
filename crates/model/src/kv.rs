//! The KV memory of one rank: keys and values of every layer, in blocks.
//!
//! Layers that attend fully share the ids of one pool, sliding layers those of another: a block id
//! names the same place in every layer of its kind.

use checkpoint::Pages;
use kernels::KvLayout;
use spec::{Attention, Geometry, KvPlan};

use crate::error::ModelError;

/// Keys and values of one layer, as the layout says.
#[derive(Debug)]
pub(crate) struct LayerKv {
    pub(crate) keys: Pages,
    pub(crate) values: Pages,
}

/// Keys and values of all layers.
#[derive(Debug)]
pub(crate) struct KvMemory {
    pub(crate) plan: KvPlan,
    pub(crate) layout: KvLayout,
    pub(crate) layers: Vec<LayerKv>,
}

impl KvMemory {
    /// Reserves the memory. Zeroed pages come from the system when first written, so blocks cost nothing as long as
    /// none in the same page was used.
    pub(crate) fn new(geometry: &Geometry, plan: KvPlan) -> Result<Self, ModelError> {
        let layout = KvLayout {
            block_size: plan.block_size,
            kv_heads: geometry.num_kv_heads,
            head_dim: geometry.head_dim,
        };
        // The whole memory in bytes must be a number, before any product below is taken.
        let total = Some(plan.block_size)
            .and_then(|n| n.checked_mul(geometry.kv_width()))
            .and_then(|n| n.checked_mul(plan.full_blocks.max(plan.window_blocks)))
            .and_then(|n| n.checked_mul(2 * geometry.num_layers() * size_of::<f32>()));
        if plan.block_size == 0 || total.is_none_or(|bytes| bytes > isize::MAX as usize) {
            return Err(ModelError::BadKvPlan { plan });
        }
        let layers = geometry.layers.iter().map(|attention| {
            let bytes = pool_blocks(&plan, *attention) * layout.block_len() * size_of::<f32>();
            let pages =
                || Pages::zeroed(bytes).map_err(|source| ModelError::KvMemory { plan, source });
            Ok(LayerKv {
                keys: pages()?,
                values: pages()?,
            })
        });
        let layers = layers.collect::<Result<_, ModelError>>()?;
        Ok(Self {
            plan,
            layout,
            layers,
        })
    }
}

/// Returns the number of blocks in the pool that layers of this kind use.
pub(crate) fn pool_blocks(plan: &KvPlan, attention: Attention) -> usize {
    match attention {
        Attention::Full => plan.full_blocks,
        Attention::Sliding => plan.window_blocks,
    }
}
