//! Loads the weights of a worker's ranks, each byte once for the whole process.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use checkpoint::{Checkpoint, LoadOptions, PackedCache, PackedNews, Progress, RankWeights};
use kernels::Packing;
use spec::{Placement, Rank};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::convert::EpochPlan;

/// Bytes of weights, as they are read.
#[derive(Debug, Default)]
pub(crate) struct LoadGauge {
    done: AtomicU64,
    total: AtomicU64,
    counted: AtomicU64,
}

impl LoadGauge {
    /// Returns the bytes read and the bytes to read, as far as they are known.
    pub(crate) fn read(&self) -> (u64, u64) {
        (
            self.done.load(Ordering::Relaxed),
            self.total.load(Ordering::Relaxed),
        )
    }

    /// Returns the bytes read since the last time this was asked.
    pub(crate) fn news(&self) -> u64 {
        let (done, _) = self.read();
        done.saturating_sub(self.counted.swap(done, Ordering::Relaxed))
    }

    pub(crate) fn show(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }
}

/// What a load has brought into memory: the weights of whole ranks, all of them unless it failed.
pub(crate) type Loaded = (Vec<Arc<RankWeights>>, Result<(), checkpoint::Error>);

/// A load on a thread of its own, which may block. It belongs to no epoch: what one preparation began
/// the next takes over, if it needs the same. Dropping it stops it.
pub(crate) struct Loading {
    placement: Arc<Placement>,
    ranks: Vec<Rank>,
    gauge: Arc<LoadGauge>,
    stop: CancellationToken,
    task: JoinHandle<Loaded>,
}

impl Loading {
    /// Begins to load what the plan's own ranks need, by `work`; see [`load`].
    pub(crate) fn begin(
        plan: &EpochPlan,
        work: impl FnOnce(&EpochPlan, (&LoadGauge, &CancellationToken)) -> Loaded + Send + 'static,
    ) -> Self {
        let (gauge, stop) = (Arc::new(LoadGauge::default()), CancellationToken::new());
        let task = tokio::task::spawn_blocking({
            let (plan, gauge, stop) = (plan.clone(), Arc::clone(&gauge), stop.clone());
            move || work(&plan, (&gauge, &stop))
        });
        Self {
            placement: Arc::clone(&plan.placement),
            ranks: plan.own.clone(),
            gauge,
            stop,
            task,
        }
    }

    /// Returns whether it brings what a plan needs.
    pub(crate) fn is_for(&self, plan: &EpochPlan) -> bool {
        self.ranks == plan.own && self.placement == plan.placement
    }

    /// Returns how far it is.
    pub(crate) fn gauge(&self) -> &Arc<LoadGauge> {
        &self.gauge
    }

    /// Waits for its end; whoever gives up waiting may wait again.
    ///
    /// # Errors
    ///
    /// If it panicked.
    pub(crate) async fn ended(&mut self) -> Result<Loaded, JoinError> {
        (&mut self.task).await
    }

    /// Stops it and returns the weights of those ranks that are whole.
    pub(crate) async fn stop(mut self) -> Vec<Arc<RankWeights>> {
        self.stop.cancel();
        self.ended().await.map_or(Vec::new(), |(whole, _)| whole)
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// How weights are brought into memory.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Threads that read: those that will compute.
    pub(crate) threads: usize,
    /// What the ranks compute with.
    pub(crate) packing: Option<&'static dyn Packing>,
    /// Where what was packed is kept.
    pub(crate) cache: Option<PackedCache>,
}

/// Logs what happened to packed matrices.
pub(crate) fn log(news: &PackedNews) {
    match news {
        PackedNews::Unusable { files, first } => {
            tracing::warn!(
                files,
                first,
                "packed weights that cannot be used are packed again"
            );
        }
        PackedNews::NotKept { dir, why } => tracing::warn!(
            dir = %dir.display(),
            why,
            "packed weights cannot be kept; they are packed into memory, and again at the next start"
        ),
        PackedNews::Loaded {
            dir,
            found,
            packed,
            in_memory,
        } => tracing::info!(dir = %dir.display(), found, packed, in_memory, "packed weights"),
    }
}

#[cfg(test)]
impl Layout {
    /// As the checkpoint has them.
    pub(crate) fn plain() -> Self {
        Self {
            threads: 1,
            packing: None,
            cache: None,
        }
    }
}

/// Loads what the plan's own ranks need and `have` lacks; the rest is shared. Blocks for as long as
/// the disk needs, unless `stop` is cancelled. Fails if the files changed or cannot be read.
pub(crate) fn load(
    checkpoint: &Checkpoint,
    plan: &EpochPlan,
    have: &[Arc<RankWeights>],
    how: &Layout,
    (gauge, stop): (&LoadGauge, &CancellationToken),
) -> Loaded {
    let mut loaded: Vec<Arc<RankWeights>> = Vec::with_capacity(plan.own.len());
    let mut before = 0;
    for rank in &plan.own {
        let have: Vec<&RankWeights> = have.iter().chain(&loaded).map(Arc::as_ref).collect();
        let options = LoadOptions {
            placement: &plan.placement,
            rank: *rank,
            threads: how.threads,
            have: &have,
            packing: how.packing,
            cache: how.cache.as_ref(),
        };
        let mut read = 0;
        let weights = RankWeights::load(checkpoint, &options, &mut |progress: Progress| {
            read = progress.total;
            gauge.show(before + progress.done, before + progress.total);
            if stop.is_cancelled() {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        match weights {
            Ok(weights) => loaded.push(Arc::new(weights)),
            Err(error) => return (loaded, Err(error)),
        }
        before += read;
    }
    (loaded, Ok(()))
}
