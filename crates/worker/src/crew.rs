//! The threads of a worker's ranks: who exists, under which rank, and who panicked.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::Arc;

use kernels::Backend;
use spec::Rank;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::compute::{Gauge, Order, RankThread};
use crate::error::{Error, Result};
use crate::limits::{MAX_STEPS_IN_FLIGHT, ORDER_LIMIT};

/// Orders that may wait for a rank: all steps in flight, and those of a preparation.
const ORDER_DEPTH: usize = MAX_STEPS_IN_FLIGHT + 2;

/// A worker's ranks.
pub(crate) struct Crew {
    /// One for each rank the worker holds. A back end owns threads of its own, so it outlives the
    /// rank numbers that come and go.
    backends: Vec<Arc<dyn Backend>>,
    desks: BTreeMap<Rank, Desk>,
    /// Told if a thread panics or hangs.
    fatal: mpsc::UnboundedSender<Error>,
}

/// How a rank's thread is reached.
struct Desk {
    backend: usize,
    contact: Contact,
    ended: oneshot::Receiver<()>,
}

/// What others need of a rank's thread.
#[derive(Clone)]
pub(crate) struct Contact {
    pub(crate) rank: Rank,
    pub(crate) orders: mpsc::Sender<Order>,
    pub(crate) gauge: Arc<Gauge>,
}

impl Crew {
    /// Returns a crew without threads.
    pub(crate) fn new(
        backends: Vec<Arc<dyn Backend>>,
        fatal: mpsc::UnboundedSender<Error>,
    ) -> Self {
        Self {
            backends,
            desks: BTreeMap::new(),
            fatal,
        }
    }

    /// Makes the threads be exactly those of `ranks`, one for each back end, and returns how each
    /// is reached, by ascending rank. A rank that had a thread before keeps it, and with it all it
    /// holds; the others' memory is free before any new thread begins.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a thread cannot be started; [`Error::RankHung`] if one does not end.
    pub(crate) async fn assign(&mut self, ranks: &[Rank]) -> Result<Vec<Contact>> {
        assert_eq!(
            ranks.len(),
            self.backends.len(),
            "the plan's check counted this worker's ranks"
        );
        let gone = |rank: &Rank| !ranks.contains(rank);
        while let Some(rank) = self.desks.keys().copied().find(gone) {
            self.retire(rank).await?;
        }
        for rank in ranks {
            if !self.desks.contains_key(rank) {
                let desk = self.spawn(*rank)?;
                self.desks.insert(*rank, desk);
            }
        }
        Ok(self
            .desks
            .values()
            .map(|desk| desk.contact.clone())
            .collect())
    }

    /// Ends all threads and waits for them.
    pub(crate) async fn dismiss(&mut self) {
        while let Some(rank) = self.desks.keys().next().copied() {
            if let Err(error) = self.retire(rank).await {
                tracing::warn!(%rank, %error, "not waited for");
            }
        }
    }

    /// Waits until a rank's thread has obeyed an order.
    ///
    /// # Errors
    ///
    /// [`Error::RankHung`] after [`ORDER_LIMIT`]; the worker ends then.
    pub(crate) async fn obeyed<T>(&self, rank: Rank, order: impl Future<Output = T>) -> Result<T> {
        let obeyed = timeout(ORDER_LIMIT, order).await;
        obeyed.map_err(|_| {
            let waited = ORDER_LIMIT;
            self.fatal.send(Error::RankHung { rank, waited }).ok();
            Error::RankHung { rank, waited }
        })
    }

    async fn retire(&mut self, rank: Rank) -> Result<()> {
        let Some(desk) = self.desks.remove(&rank) else {
            return Ok(());
        };
        let retired = async {
            // An error means that the thread is gone, which is what is wanted.
            if desk.contact.orders.send(Order::Retire).await.is_ok() {
                desk.ended.await.ok();
            }
        };
        self.obeyed(rank, retired).await
    }

    fn spawn(&self, rank: Rank) -> Result<Desk> {
        let taken = |index: &usize| self.desks.values().any(|desk| desk.backend == *index);
        let backend = (0..self.backends.len()).find(|index| !taken(index));
        let backend = backend.expect("there are as many back ends as ranks");
        let (sender, orders) = mpsc::channel(ORDER_DEPTH);
        let gauge = Arc::new(Gauge::default());
        let contact = Contact {
            rank,
            orders: sender,
            gauge: Arc::clone(&gauge),
        };
        let host = Arc::clone(&self.backends[backend]);
        let thread = RankThread::new(rank, Arc::clone(&host), gauge);
        let (guard, ending) = oneshot::channel::<()>();
        let body = move || {
            // Dropped when the thread ends, however it does.
            let _guard = guard;
            host.host(Box::new(|| thread.run(orders)));
        };
        let handle = std::thread::Builder::new()
            .name(format!("rank-{rank}"))
            .spawn(body);
        let handle = handle.map_err(|source| Error::Io {
            what: format!("starting the thread of rank {rank}"),
            source,
        })?;
        let (ended_sender, ended) = oneshot::channel();
        let fatal = self.fatal.clone();
        tokio::spawn(async move {
            ending.await.ok();
            // The thread has nothing left to do but to end: this does not block.
            if let Err(panic) = handle.join() {
                let message = panic_message(panic.as_ref());
                fatal.send(Error::RankPanicked { rank, message }).ok();
            }
            ended_sender.send(()).ok();
        });
        Ok(Desk {
            backend,
            contact,
            ended,
        })
    }
}

/// Returns what a panic said.
fn panic_message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "no message".into())
}

#[cfg(test)]
mod tests;
