//! A group of ranks in this process.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;

use checkpoint::{Checkpoint, LoadOptions, PackedCache, RankWeights, Watch};
use exchange::{HostExchange, Local, local_group};
use kernels::Backend;
use kernels_cpu::{Cpu, Numerics};
use model::{ModelError, RankModel};
use spec::{Fence, KvPlan, Part, Placement, Rank, StepNumber};

use crate::error::Error;

/// Positions of a block, as coordinators choose it.
pub(crate) const BLOCK: usize = 16;

/// What a group is made for.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Ranks, each with threads of its own.
    pub ranks: NonZeroUsize,
    /// Threads of each rank.
    pub threads: NonZeroUsize,
    /// How they compute.
    pub numerics: Numerics,
    /// Where packed weights are kept.
    pub cache: Option<PackedCache>,
    /// Most rows a rank computes in a step.
    pub step_rows: usize,
    /// Sequences at a time, over all ranks.
    pub sequences: usize,
    /// Most positions of a sequence, its prompt's and those that are generated.
    pub positions: usize,
}

/// Ranks with their weights and KV memory.
pub struct Group {
    models: Vec<RankModel>,
    exchanges: Vec<HostExchange<Local>>,
    pub(crate) shape: Shape,
    step: StepNumber,
}

impl Group {
    /// Loads the weights, each byte once for all ranks, and makes the ranks.
    ///
    /// # Errors
    ///
    /// If the weights cannot be loaded, or the model has not that many positions.
    pub fn new(
        checkpoint: &Checkpoint,
        shape: &Shape,
        watch: &mut Watch<'_>,
    ) -> Result<Self, Error> {
        let geometry = checkpoint.geometry();
        let (wanted, most) = (shape.positions, geometry.max_positions);
        if wanted > most {
            return Err(Error::TooLong { wanted, most });
        }
        let ranks = shape.ranks.get();
        let (layers, experts) = (geometry.num_layers(), geometry.num_experts);
        let placement = Arc::new(Placement::even(layers, experts, ranks));
        let slots = shape.sequences.div_ceil(ranks);
        let blocks = slots * blocks(shape.positions);
        let kv = KvPlan {
            block_size: BLOCK,
            full_blocks: blocks,
            window_blocks: blocks,
            num_slots: slots,
        };
        let mut loaded: Vec<Arc<RankWeights>> = Vec::new();
        let mut models = Vec::new();
        for rank in (0..ranks).map(|rank| Rank(rank as u32)) {
            let backend: Arc<dyn Backend> = Arc::new(Cpu::with(shape.numerics, shape.threads));
            let have: Vec<&RankWeights> = loaded.iter().map(Arc::as_ref).collect();
            let options = LoadOptions {
                placement: &placement,
                rank,
                threads: ranks * shape.threads.get(),
                have: &have,
                packing: backend.packing(),
                cache: shape.cache.as_ref(),
            };
            let weights = Arc::new(RankWeights::load(checkpoint, &options, watch)?);
            loaded.push(Arc::clone(&weights));
            let placement = Arc::clone(&placement);
            models.push(RankModel::new(weights, backend, rank, placement, kv)?);
        }
        Ok(Self {
            models,
            exchanges: local_group(ranks),
            shape: shape.clone(),
            step: StepNumber(0),
        })
    }

    /// Computes a part on each rank.
    pub(crate) fn step(&mut self, parts: &[Part]) -> Result<(), ModelError> {
        self.step.0 += 1;
        let step = self.step;
        let compute =
            |((model, exchange), part): ((&mut RankModel, &mut HostExchange<Local>), &Part)| {
                let result = model.run(Fence::default(), step, part, exchange, &());
                result.map(|result| debug_assert!(result.lines.iter().all(|line| line.ran)))
            };
        let mut ranks = self.models.iter_mut().zip(&mut self.exchanges).zip(parts);
        thread::scope(|scope| {
            // One rank needs no thread of its own.
            let first = ranks.next();
            let others: Vec<_> = ranks
                .map(|rank| scope.spawn(move || compute(rank)))
                .collect();
            let first = first.map_or(Ok(()), compute);
            let others = others
                .into_iter()
                .map(|thread| thread.join().expect("a rank's error is returned"));
            others.fold(first, Result::and)
        })
    }
}

/// Blocks that a sequence of so many positions takes.
pub(crate) fn blocks(positions: usize) -> usize {
    positions.div_ceil(BLOCK)
}
