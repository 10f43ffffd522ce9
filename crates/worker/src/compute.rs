//! One plain thread for each rank, one of its back end's own: it owns the rank's model and its side of the
//! exchange.
//!
//! The thread knows no socket. It takes [`Order`]s in the order given and answers each; what it
//! does meanwhile shows in its [`Gauge`]. A panic ends it, and with it the process: a KV memory in
//! an unknown state must not be used again.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use checkpoint::RankWeights;
use kernels::{Backend, Exchange, ExchangeError, Moment, Phase};
use model::{ModelError, Progress, RankModel, Stage};
use spec::{KvPlan, Part, PartResult, Rank, StepNumber, Term};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use crate::convert::EpochPlan;
use crate::effort::{Effort, Stopwatch};

/// Where a rank is; written by its thread, read by anyone.
#[derive(Debug, Default)]
pub(crate) struct Gauge {
    /// Step it computes, 0 when idle.
    step: AtomicU64,
    /// Grows with every piece of work done.
    ticks: AtomicU64,
    /// Rows that its experts were given in the step, by layer.
    rows: Mutex<Vec<u32>>,
}

impl Gauge {
    /// Returns the step that runs, 0 when idle, and the ticks so far.
    pub(crate) fn read(&self) -> (u64, u64) {
        (
            self.step.load(Ordering::Relaxed),
            self.ticks.load(Ordering::Relaxed),
        )
    }

    /// The rank's experts are given so many rows in a layer. For the rank's thread alone.
    pub(crate) fn count_rows(&self, layer: usize, rows: u32) {
        let mut all = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() <= layer {
            all.resize(layer + 1, 0);
        }
        all[layer] += rows;
    }

    /// Takes the rows that were counted.
    fn take_rows(&self) -> Vec<u32> {
        let mut all = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut all)
    }

    fn enter(&self, step: StepNumber) {
        self.step.store(step.0, Ordering::Relaxed);
        self.tick();
    }

    fn tick(&self) {
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }
}

/// Shows how far a step is, and gives it up once its epoch is over: between two exchanges a rank may
/// compute for minutes, and the next epoch waits for it.
struct Watch<'a> {
    gauge: &'a Gauge,
    alive: &'a CancellationToken,
    times: Stopwatch,
}

/// What a step that is given up unwinds with: where it was. No panic, so no hook is called.
struct GivenUp {
    moment: Moment,
    stage: Stage,
}

impl Progress for Watch<'_> {
    fn at(&self, moment: Moment, stage: Stage) {
        self.gauge.tick();
        self.times.enters(stage);
        if self.alive.is_cancelled() {
            resume_unwind(Box::new(GivenUp { moment, stage }));
        }
    }
}

impl GivenUp {
    /// Says the same as an exchange of that moment does that finds its epoch over.
    fn error(&self, own: Rank) -> ModelError {
        let phase = match self.stage {
            Stage::Attention | Stage::Dispatch => Phase::Dispatch,
            Stage::Experts | Stage::Combine | Stage::Head => Phase::Combine,
        };
        ModelError::Exchange(ExchangeError::Aborted {
            peer: own,
            phase,
            moment: self.moment,
        })
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
    /// Answers whether the KV is as the last steps of this term left it. Whether those were of the
    /// epoch before, the lead alone knows.
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
    pub(crate) effort: Effort,
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
    /// The term of the last step executed.
    used: Option<Term>,
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
                    let held = self.hold(&hold.plan, hold.weights);
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
    /// last steps of this term left there. Memory that no step of the term has used holds nothing
    /// that its lead knows of.
    ///
    /// Whether another worker has held the rank since is the lead's to know: it compares who answers
    /// now with who served last.
    fn hold(&mut self, plan: &EpochPlan, weights: Arc<RankWeights>) -> Result<bool, ModelError> {
        let placement = Arc::clone(&plan.placement);
        if let Some(memory) = self.memory.as_mut().filter(|memory| memory.kv == plan.kv) {
            memory.model.adopt(self.rank, weights, placement)?;
            return Ok(memory.used == Some(plan.fence.term));
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
        memory.used = Some(fence.term);
        let watch = Watch {
            gauge: &self.gauge,
            alive: &alive,
            times: Stopwatch::start(),
        };
        // Those of a part that was given up.
        self.gauge.take_rows();
        let run = || memory.model.run(fence, step, &part, exchange, &watch);
        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| {
            match payload.downcast::<GivenUp>() {
                Ok(given_up) => Err(given_up.error(self.rank)),
                // A panic goes on its way, and ends the thread.
                Err(panic) => resume_unwind(panic),
            }
        });
        let effort = Effort {
            spent: watch.times.stop(),
            rows: self.gauge.take_rows(),
        };
        self.gauge.enter(StepNumber(0));
        seat.failed = result.is_err();
        // An error means that the run has ended.
        reply
            .send(Outcome {
                rank: self.rank,
                step,
                result,
                effort,
            })
            .ok();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use spec::Fence;

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
