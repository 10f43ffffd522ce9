//! How many rows each expert has computed lately: what operators see of the router's choices.
//!
//! Counted in two windows of time, of which the older one is dropped when the newer one is full. A
//! count is one addition for each row that a rank computes anyway.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kernels::Work;
use proto::internal as wire;
use proto::internal::expert_service_server::{ExpertService, ExpertServiceServer};
use tonic::{Request, Response, Status};

use crate::limits::CHOSEN_WINDOW;

/// The rows of a worker's experts. Clones count together.
#[derive(Clone, Debug)]
pub(crate) struct Chosen(Arc<Mutex<Windows>>);

#[derive(Debug)]
struct Windows {
    /// By layer and expert.
    current: Vec<Vec<u64>>,
    began: Instant,
    before: Vec<Vec<u64>>,
    before_began: Instant,
}

impl Chosen {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self(Arc::new(Mutex::new(Windows {
            current: Vec::new(),
            began: now,
            before: Vec::new(),
            before_began: now,
        })))
    }

    /// Counts what a rank is about to compute in a layer of so many experts.
    pub(crate) fn count(&self, layer: usize, num_experts: usize, work: &[Work], now: Instant) {
        let mut windows = self.windows();
        windows.turn(now);
        if windows.current.len() <= layer {
            windows.current.resize(layer + 1, Vec::new());
        }
        let rows = &mut windows.current[layer];
        rows.resize(num_experts.max(rows.len()), 0);
        for work in work {
            // The model refuses experts that the layer does not have.
            if let Some(rows) = rows.get_mut(work.expert.index()) {
                *rows += 1;
            }
        }
    }

    /// Returns what was counted, and in which time.
    fn read(&self, now: Instant) -> (Vec<Vec<u64>>, Duration) {
        let mut windows = self.windows();
        windows.turn(now);
        let mut all = windows.before.clone();
        all.resize(all.len().max(windows.current.len()), Vec::new());
        for (sums, rows) in all.iter_mut().zip(&windows.current) {
            sums.resize(sums.len().max(rows.len()), 0);
            for (sum, rows) in sums.iter_mut().zip(rows) {
                *sum += rows;
            }
        }
        (all, now.saturating_duration_since(windows.before_began))
    }

    /// Returns the service that tells it.
    pub(crate) fn service(&self) -> ExpertServiceServer<Self> {
        ExpertServiceServer::new(self.clone())
    }

    fn windows(&self) -> MutexGuard<'_, Windows> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Windows {
    /// Begins a new window where the present one is full.
    fn turn(&mut self, now: Instant) {
        let age = now.saturating_duration_since(self.began);
        if age < CHOSEN_WINDOW {
            return;
        }
        self.before = std::mem::take(&mut self.current);
        self.before_began = self.began;
        self.began = now;
        if age >= 2 * CHOSEN_WINDOW {
            // What is in it is too long ago.
            self.before.clear();
            self.before_began = now.checked_sub(CHOSEN_WINDOW).unwrap_or(self.before_began);
        }
    }
}

#[tonic::async_trait]
impl ExpertService for Chosen {
    async fn count_rows(
        &self,
        _: Request<wire::CountRowsRequest>,
    ) -> Result<Response<wire::CountRowsResponse>, Status> {
        let (layers, over) = self.read(Instant::now());
        let layers = layers.into_iter().map(|rows| wire::LayerRows { rows });
        Ok(Response::new(wire::CountRowsResponse {
            over_ms: u64::try_from(over.as_millis()).unwrap_or(u64::MAX),
            layers: layers.collect(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use spec::ExpertId;

    use super::*;

    fn work(experts: &[u32]) -> Vec<Work> {
        let work = |expert: &u32| Work {
            expert: ExpertId(*expert),
            row: 0,
        };
        experts.iter().map(work).collect()
    }

    #[test]
    fn rows_are_counted_by_layer_and_expert_and_forgotten_after_two_windows() {
        let (chosen, began) = (Chosen::new(), Instant::now());
        let at = |windows: u32| began + CHOSEN_WINDOW * windows + Duration::from_secs(1);
        chosen.count(1, 4, &work(&[0, 3, 3]), at(0));
        assert_eq!(chosen.read(at(0)).0, [vec![], vec![1, 0, 0, 2]]);
        chosen.count(0, 4, &work(&[2]), at(1));
        let (rows, over) = chosen.read(at(1));
        assert_eq!(rows, [vec![0, 0, 1, 0], vec![1, 0, 0, 2]]);
        assert!(over > CHOSEN_WINDOW, "{over:?}");
        assert_eq!(chosen.read(at(2)).0, [vec![0, 0, 1, 0]]);
        let (rows, over) = chosen.read(at(9));
        assert_eq!((rows, over), (Vec::<Vec<u64>>::new(), CHOSEN_WINDOW));
        chosen.count(0, 2, &work(&[7]), at(9));
        assert_eq!(chosen.read(at(9)).0, [vec![0, 0]], "no such expert");
    }
}
