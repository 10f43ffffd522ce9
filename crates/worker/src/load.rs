//! Loads the weights of a worker's ranks, each byte once for the whole process.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use checkpoint::{Checkpoint, LoadOptions, Progress, RankWeights};
use spec::{Placement, Rank};
use tokio_util::sync::CancellationToken;

/// Bytes of weights, as they are read.
#[derive(Debug, Default)]
pub(crate) struct LoadGauge {
    done: AtomicU64,
    total: AtomicU64,
}

impl LoadGauge {
    /// Returns the bytes read and the bytes to read, as far as they are known.
    pub(crate) fn read(&self) -> (u64, u64) {
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }

    fn show(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }
}

/// Loads what `ranks` need and `have` lacks; the rest is shared. Blocks for as long as the disk
/// needs, unless `alive` is cancelled.
///
/// # Errors
///
/// If the files changed or cannot be read, or the epoch ended.
pub(crate) fn load(
    checkpoint: &Checkpoint,
    placement: &Placement,
    ranks: &[Rank],
    have: &[Arc<RankWeights>],
    threads: usize,
    (gauge, alive): (&LoadGauge, &CancellationToken),
) -> Result<Vec<Arc<RankWeights>>, checkpoint::Error> {
    let mut loaded: Vec<Arc<RankWeights>> = Vec::with_capacity(ranks.len());
    let mut before = 0;
    for rank in ranks {
        let have: Vec<&RankWeights> = have.iter().chain(&loaded).map(Arc::as_ref).collect();
        let options = LoadOptions {
            placement,
            rank: *rank,
            threads,
            have: &have,
        };
        let mut read = 0;
        let weights = RankWeights::load(checkpoint, &options, &mut |progress: Progress| {
            read = progress.total;
            gauge.show(before + progress.done, before + progress.total);
            if alive.is_cancelled() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        before += read;
        loaded.push(Arc::new(weights));
    }
    Ok(loaded)
}
