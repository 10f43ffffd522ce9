//! A group of ranks in this process.

mod steps;

use std::num::NonZeroUsize;
use std::sync::Arc;

use checkpoint::{Checkpoint, LoadOptions, PackedCache, RankWeights, Watch};
use exchange::local_group;
use kernels::Backend;
use kernels_cpu::{Cpu, Numerics, Threads};
use model::RankModel;
use spec::{KvPlan, Placement, Rank, StepNumber};

use self::steps::Seat;
use crate::error::Error;

/// Positions of a block, as coordinators choose it.
pub(crate) const BLOCK: usize = 16;

/// What a group is made for.
#[derive(Clone, Debug)]
pub struct Shape {
    /// Ranks, each with threads of its own.
    pub ranks: NonZeroUsize,
    /// Threads, those of all ranks together.
    pub threads: Threads,
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
    /// At least one.
    seats: Vec<Seat>,
    pub(crate) shape: Shape,
    step: StepNumber,
}

impl Group {
    /// Loads the weights, each byte once for all ranks, and makes the ranks.
    ///
    /// # Errors
    ///
    /// If the weights cannot be loaded, the model has not that many positions, or the threads cannot be shared
    /// out evenly or bound.
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
        let threads = shape.threads.parts(ranks).ok_or(Error::Uneven { ranks })?;
        let loading = threads.iter().map(Threads::count).sum();
        let mut loaded: Vec<Arc<RankWeights>> = Vec::new();
        let mut seats = Vec::new();
        for (rank, (exchange, threads)) in local_group(ranks).into_iter().zip(threads).enumerate() {
            let rank = Rank(rank as u32);
            let backend = Cpu::with(shape.numerics, &threads).map_err(Error::Bind)?;
            let backend: Arc<dyn Backend> = Arc::new(backend);
            let have: Vec<&RankWeights> = loaded.iter().map(Arc::as_ref).collect();
            let options = LoadOptions {
                placement: &placement,
                rank,
                threads: loading,
                have: &have,
                packing: backend.packing(),
                cache: shape.cache.as_ref(),
            };
            let weights = Arc::new(RankWeights::load(checkpoint, &options, watch)?);
            loaded.push(Arc::clone(&weights));
            let placement = Arc::clone(&placement);
            let model = RankModel::new(weights, Arc::clone(&backend), rank, placement, kv)?;
            seats.push(Seat {
                model,
                exchange,
                backend,
            });
        }
        Ok(Self {
            seats,
            shape: shape.clone(),
            step: StepNumber(0),
        })
    }
}

/// Blocks that a sequence of so many positions takes.
pub(crate) fn blocks(positions: usize) -> usize {
    positions.div_ceil(BLOCK)
}
