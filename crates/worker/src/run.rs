//! One run of an epoch: parts in, results and progress out, until the stream or the epoch ends.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exchange::Inbox;
use model::ModelError;
use proto::internal as wire;
use spec::{Geometry, PartResult, Rank, Slot, StepNumber};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use crate::compute::{Order, Outcome, StepOrder, blamed};
use crate::convert::{self, EpochPlan};
use crate::crew::Contact;
use crate::effort::Effort;
use crate::error::chain;
use crate::left::Left;
use crate::limits::{MAX_STEPS_IN_FLIGHT, PROGRESS_INTERVAL};
use crate::meter::StepMeter;
use crate::names::{Changes, Names};

/// What a prepared epoch needs to run.
pub(crate) struct Prepared {
    pub(crate) plan: Arc<EpochPlan>,
    /// The worker's ranks, ascending.
    pub(crate) seats: Vec<Seat>,
    pub(crate) meter: StepMeter,
}

/// One rank of the worker, seen from the network.
pub(crate) struct Seat {
    pub(crate) contact: Contact,
    /// Knows whom the rank waits for.
    pub(crate) inbox: Arc<Inbox>,
}

/// Where a run's answers go.
pub(crate) type Answers = mpsc::Sender<Result<wire::RunResponse, Status>>;

/// A rank's part of a step in flight.
struct Place {
    /// The slots of its lines.
    slots: Vec<Slot>,
    result: Option<(PartResult, Vec<u32>)>,
}

/// A run in progress.
pub(crate) struct Run {
    prepared: Prepared,
    geometry: Arc<Geometry>,
    /// Cancelled when the epoch ends.
    alive: CancellationToken,
    answers: Answers,
    outcomes: mpsc::UnboundedSender<Outcome>,
    /// What another lead would collect.
    left: Arc<Mutex<Left>>,
    /// What the log calls the sequences that are open.
    names: Names,
    /// Steps in flight, one place for each rank.
    pending: BTreeMap<StepNumber, Vec<Place>>,
    /// The step sent last.
    newest: StepNumber,
    /// A step failed: nothing later is executed or answered.
    failed: bool,
}

impl Run {
    /// Executes the lead's requests, `first` and those of `requests`, until the stream ends or the
    /// epoch does. Returns the status to end the answers with, if any.
    pub(crate) async fn drive(
        prepared: Prepared,
        geometry: Arc<Geometry>,
        (alive, left): (CancellationToken, Arc<Mutex<Left>>),
        answers: Answers,
        (first, mut requests): (wire::RunRequest, Streaming<wire::RunRequest>),
    ) -> Option<Status> {
        // Not bounded by itself: at most one outcome for each rank and step in flight.
        let (sender, mut outcomes) = mpsc::unbounded_channel();
        let mut run = Self {
            prepared,
            geometry,
            alive: alive.clone(),
            answers: answers.clone(),
            outcomes: sender,
            left,
            names: Names::default(),
            pending: BTreeMap::new(),
            newest: StepNumber(0),
            failed: false,
        };
        if let Err(status) = run.accept(first).await {
            return Some(status);
        }
        let mut progress = interval(PROGRESS_INTERVAL);
        progress.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = alive.cancelled() => {
                    let fence = run.prepared.plan.fence;
                    return Some(Status::aborted(format!("epoch {fence} has ended")));
                }
                () = answers.closed() => return None,
                request = requests.message() => match request {
                    // The lead has left.
                    Ok(None) => return None,
                    // Its connection broke, and nobody hears this; or a message was too large.
                    Err(status) => return Some(status),
                    Ok(Some(_)) if run.failed => {}
                    Ok(Some(request)) => if let Err(status) = run.accept(request).await {
                        return Some(status);
                    }
                },
                Some(outcome) = outcomes.recv() => run.settle(outcome).await,
                _ = progress.tick() => run.report(),
            }
        }
    }

    /// Checks a request and gives its parts to the ranks.
    async fn accept(&mut self, request: wire::RunRequest) -> Result<(), Status> {
        let fence = self.prepared.plan.fence;
        convert::for_group(&request.group, &self.prepared.plan.group)?;
        let named = convert::fence(request.fence)?;
        if named != fence {
            self.prepared.meter.stale();
            let why = format!("epoch {named} in a stream of epoch {fence}");
            return Err(Status::failed_precondition(why));
        }
        // A request that is refused below ends the run, and what it has opened is collected or not.
        let number = StepNumber(request.step);
        self.left().begin(fence, number, &request.parts);
        let changes = Changes::of(&request.parts);
        let step = convert::step_parts(request, &self.prepared.plan, &self.geometry)?;
        if step.step <= self.newest {
            let why = format!(
                "step: {} does not come after step {}",
                step.step, self.newest
            );
            return Err(Status::invalid_argument(why));
        }
        if self.pending.len() >= MAX_STEPS_IN_FLIGHT {
            let why = format!(
                "step: {} would be more than {MAX_STEPS_IN_FLIGHT} in flight",
                step.step
            );
            return Err(Status::invalid_argument(why));
        }
        self.newest = step.step;
        self.names.apply(changes);
        self.prepared.meter.begin(step.step, &step.parts);
        let places = step.parts.iter().map(|part| Place {
            slots: part.lines.iter().map(|line| line.slot).collect(),
            result: None,
        });
        self.pending.insert(step.step, places.collect());
        for (seat, part) in self.prepared.seats.iter().zip(step.parts) {
            let order = Order::Step(StepOrder {
                step: step.step,
                part,
                alive: self.alive.clone(),
                reply: self.outcomes.clone(),
            });
            // An error means that the thread panicked; the process is about to end.
            seat.contact.orders.send(order).await.ok();
        }
        Ok(())
    }

    /// Takes a rank's result; the last of a step's answers it.
    async fn settle(&mut self, outcome: Outcome) {
        if self.failed {
            return;
        }
        let Outcome {
            rank,
            step,
            result,
            effort,
        } = outcome;
        let answer = match result {
            Err(error) => {
                // Only the first failure is told: later ones are often its consequences. The
                // exchange stays up, so that no peer mistakes this worker for the one to blame;
                // the lead ends it together with the stream.
                self.failed = true;
                self.pending.clear();
                let reason = chain(&error);
                let sequence = match error {
                    ModelError::NotFinite { sequence, .. } => Some(sequence),
                    _ => None,
                };
                let request_id = sequence.and_then(|sequence| self.names.of(sequence));
                let number = sequence.map(|sequence| sequence.0);
                tracing::warn!(%rank, %step, request_id, sequence = number, reason, "step failed");
                convert::failed(step, rank, reason, blamed(&error, rank), sequence)
            }
            Ok(result) => match self.place(rank, step, (result, effort)) {
                Some(parts) => {
                    self.prepared.meter.answered(step);
                    convert::step_done(step, parts)
                }
                None => return,
            },
        };
        self.answer(answer).await;
    }

    /// Puts a result into its place; returns all of the step's once they are complete.
    fn place(
        &mut self,
        rank: Rank,
        step: StepNumber,
        (result, effort): (PartResult, Effort),
    ) -> Option<Vec<(PartResult, Vec<u32>)>> {
        let plan = &self.prepared.plan;
        let index = plan.own.iter().position(|own| *own == rank)?;
        let places = self.pending.get_mut(&step)?;
        self.prepared.meter.completed(step, index, &effort);
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.sampled(plan.fence, step, &places[index].slots, &result);
        drop(left);
        places[index].result = Some((result, effort.rows));
        if places.iter().any(|place| place.result.is_none()) {
            return None;
        }
        let places = self.pending.remove(&step)?.into_iter();
        places.map(|place| place.result).collect()
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        // Nothing panics while it holds the lock.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends an answer, unless the epoch ends first.
    async fn answer(&self, answer: wire::RunResponse) {
        tokio::select! {
            // An error means that the lead has left; the loop sees that too.
            sent = self.answers.send(Ok(answer)) => drop(sent),
            () = self.alive.cancelled() => {}
        }
    }

    /// Tells where the ranks are, while they are anywhere.
    fn report(&self) {
        if self.pending.is_empty() {
            return;
        }
        let ranks = self.prepared.seats.iter().map(|seat| {
            let (step, ticks) = seat.contact.gauge.read();
            let waiting_for = seat.inbox.waiting_for();
            convert::rank_progress(seat.contact.rank, step, ticks, waiting_for)
        });
        // A full queue holds what is newer than this to its reader.
        self.answers
            .try_send(Ok(convert::progress(ranks.collect())))
            .ok();
    }
}
