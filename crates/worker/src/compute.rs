//! One plain thread for each rank: it owns the rank's model and its side of the exchange.
//!
//! The thread knows no socket. It takes [`Order`]s in the order given and answers each; what it
//! does meanwhile shows in its [`Gauge`]. A panic ends it, and with it the process: a KV memory in
//! an unknown state must not be used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use checkpoint::RankWeights;
use kernels::{Backend, Exchange, ExchangeError, Moment};
use model::{ModelError, Progress, RankModel, Stage};
use spec::{Fence, KvPlan, Part, PartResult, Rank, StepNumber};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::convert::EpochPlan;

/// Where a rank is; written by its thread, read by anyone.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// Step it computes, 0 when idle.
    step: AtomicU64,
    /// Grows with every piece of work done.
    ticks: AtomicU64,
}

impl Gauge {
    /// Returns the step that runs, 0 when idle, and the ticks so far.
    pub(crate) fn read(&self) -> (u64, u64) {
        (
            self.step.load(Ordering::Relaxed),
            self.ticks.load(Ordering::Relaxed),
        )
    }

    fn enter(&self, step: StepNumber) {
        self.step.store(step.0, Ordering::Relaxed);
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }
}

impl Progress for Gauge {
    fn at(&self, _moment: Moment, _stage: Stage) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }
}

/// What a rank's thread is told.
pub(crate) enum Order {
    /// Hold what an epoch needs.
    Hold(Hold),
    /// Compute with this exchange from now on.
    Enter {
        plan: Arc<EpochPlan>,
        exchange: Box<dyn Exchange>,
    },
    /// Execute a part.
    Step(StepOrder),
    /// End.
    Retire,
}

/// An order to hold what an epoch needs, in place of what was held before.
pub(crate) struct Hold {
    pub(crate) plan: Arc<EpochPlan>,
    pub(crate) weights: Arc<RankWeights>,
    /// The worker was a member of every epoch from this one on.
    pub(crate) since: Fence,
    /// Answers whether the KV of the epoch before is still there.
    pub(crate) reply: oneshot::Sender<Result<bool, ModelError>>,
}

/// An order to execute a part of a step.
pub(crate) struct StepOrder {
    pub(crate) step: StepNumber,
    pub(crate) part: Part,
    /// The epoch it belongs to; once cancelled, nothing more of it is executed.
    pub(crate) alive: CancellationToken,
    pub(crate) reply: mpsc::UnboundedSender<Outcome>,
}

/// What became of a part.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) rank: Rank,
    pub(crate) step: StepNumber,
    pub(crate) result: Result<PartResult, ModelError>,
}

/// Returns whom an error of a step blames: the rank that was waited for.
pub(crate) fn blamed(error: &ModelError, own: Rank) -> Option<Rank> {
    let ModelError::Exchange(error) = error else {
        return None;
    };
    let peer = match error {
        ExchangeError::PeerLost { peer, .. }
        | ExchangeError::TimedOut { peer, .. }
        | ExchangeError::BadFrame { peer, .. } => *peer,
        // Someone gave the step up; who was waited for just then says nothing.
        ExchangeError::Aborted { .. } => return None,
    };
    (peer != own).then_some(peer)
}

/// A rank, from its thread's point of view.
pub(crate) struct RankThread {
    rank: Rank,
    backend: Arc<dyn Backend>,
    gauge: Arc<Gauge>,
    memory: Option<Memory>,
    seat: Option<Seat>,
}

/// What a rank holds from epoch to epoch.
struct Memory {
    model: RankModel,
    /// The plan that the KV memory was made for.
    kv: KvPlan,
    /// The last epoch of which a step was executed.
    used: Option<Fence>,
}

/// A rank's place in an epoch.
struct Seat {
    plan: Arc<EpochPlan>,
    exchange: Box<dyn Exchange>,
    /// A step failed: nothing later in the epoch can be right.
    failed: bool,
}

impl RankThread {
    /// Returns a rank that holds nothing yet.
    pub(crate) fn new(rank: Rank, backend: Arc<dyn Backend>, gauge: Arc<Gauge>) -> Self {
        Self {
            rank,
            backend,
            gauge,
            memory: None,
            seat: None,
        }
    }

    /// Takes orders until told to retire, or nobody is left to give any.
    pub(crate) fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        while let Some(order) = orders.blocking_recv() {
            match order {
                Order::Hold(hold) => {
                    self.seat = None;
                    let held = self.hold(&hold.plan, hold.weights, hold.since);
                    // An error means that the preparation was given up; the next one asks again.
                    hold.reply.send(held).ok();
                }
                Order::Enter { plan, exchange } => {
                    self.seat = Some(Seat {
                        plan,
                        exchange,
                        failed: false,
                    });
                }
                Order::Step(order) => self.step(order),
                Order::Retire => return,
            }
        }
    }

    /// Keeps the memory if the new epoch wants the same; returns whether the KV in it is what the
    /// group's last steps left there. Memory that no step has used, or that was used before a gap,
    /// is no such KV.
    fn hold(
        &mut self,
        plan: &EpochPlan,
        weights: Arc<RankWeights>,
        since: Fence,
    ) -> Result<bool, ModelError> {
        let placement = Arc::clone(&plan.placement);
        if let Some(memory) = self.memory.as_mut().filter(|memory| memory.kv == plan.kv) {
            memory.model.adopt(self.rank, weights, placement)?;
            return Ok(memory.used.is_some_and(|used| used >= since));
        }
        // The old KV memory goes before the new one comes: both together may not fit.
        self.memory = None;
        let backend = Arc::clone(&self.backend);
        let model = RankModel::new(weights, backend, self.rank, placement, plan.kv)?;
        self.memory = Some(Memory {
            model,
            kv: plan.kv,
            used: None,
        });
        Ok(false)
    }

    fn step(&mut self, order: StepOrder) {
        let StepOrder {
            step,
            part,
            alive,
            reply,
        } = order;
        let (Some(memory), Some(seat)) = (&mut self.memory, &mut self.seat) else {
            // The epoch that this step is of was given up before it was entered.
            return;
        };
        if seat.failed || alive.is_cancelled() {
            return;
        }
        self.gauge.enter(step);
        let (fence, exchange) = (seat.plan.fence, seat.exchange.as_mut());
        memory.used = Some(fence);
        let gauge = self.gauge.as_ref();
        let result = memory.model.run(fence, step, &part, exchange, gauge);
        self.gauge.enter(StepNumber(0));
        seat.failed = result.is_err();
        // An error means that the run has ended.
        reply
            .send(Outcome {
                rank: self.rank,
                step,
                result,
            })
            .ok();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use kernels::Phase;

    use super::*;

    #[test]
    fn blames_who_was_waited_for_but_never_itself() {
        let moment = Moment {
            fence: Fence::default(),
            step: StepNumber(1),
            layer: 0,
        };
        let (peer, phase) = (Rank(3), Phase::Combine);
        let error = |error| ModelError::Exchange(error);
        let lost = || ExchangeError::PeerLost {
            peer,
            why: "reset".into(),
            phase,
            moment,
        };
        assert_eq!(blamed(&error(lost()), Rank(0)), Some(peer));
        assert_eq!(blamed(&error(lost()), peer), None);
        let waited = Duration::from_secs(1);
        let late = ExchangeError::TimedOut {
            peer,
            waited,
            phase,
            moment,
        };
        assert_eq!(blamed(&error(late), Rank(0)), Some(peer));
        let aborted = ExchangeError::Aborted {
            peer,
            phase,
            moment,
        };
        assert_eq!(blamed(&error(aborted), Rank(0)), None);
    }
}
