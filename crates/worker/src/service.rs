//! `StepService`: how a lead uses this worker.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exchange_grpc::Hub;
use proto::internal as wire;
use proto::internal::step_service_server::{StepService, StepServiceServer};
use spec::{Geometry, Rank, Term};
use telemetry::labels::Fenced;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};
use tonic_health::server::HealthReporter;

use crate::convert::{self, Bounds, EpochPlan};
use crate::epoch::{Epochs, NotReady, Stale};
use crate::left::Left;
use crate::limits::{MAX_MESSAGE_BYTES, MAX_RUNS_WITHOUT_STEP, STREAM_DEPTH};
use crate::prepare::{Preparation, Workshop, superseded};
use crate::run::{Prepared, Run};
use crate::standing::Standing;

/// The worker behind its sockets. Clones are the same worker.
#[derive(Clone)]
pub(crate) struct Worker {
    bounds: Arc<Bounds>,
    geometry: Arc<Geometry>,
    epochs: Arc<Mutex<Epochs<Prepared>>>,
    workshop: Arc<tokio::sync::Mutex<Workshop>>,
    hub: Hub,
    health: HealthReporter,
    /// Whoever shows in the health service how the worker is; one at a time.
    showing: Arc<tokio::sync::Mutex<()>>,
    /// The sequences at home here, for another lead.
    left: Arc<Mutex<Left>>,
    /// Places of streams of steps that wait for their first step.
    waiting_runs: Arc<Semaphore>,
    standing: Arc<Standing>,
    tasks: TaskTracker,
}

/// Where a preparation's states go.
type PrepareStates = mpsc::Sender<Result<wire::PrepareResponse, Status>>;

/// A stream of steps before its first step.
struct Waiting {
    /// Cancelled when the epoch is over in which the stream was opened.
    alive: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Worker {
    pub(crate) fn new(
        bounds: Bounds,
        workshop: Workshop,
        hub: Hub,
        health: HealthReporter,
        (standing, shutdown): (Arc<Standing>, &CancellationToken),
    ) -> Self {
        Self {
            geometry: Arc::new(bounds.geometry.clone()),
            bounds: Arc::new(bounds),
            epochs: Arc::new(Mutex::new(Epochs::new(shutdown))),
            workshop: Arc::new(tokio::sync::Mutex::new(workshop)),
            hub,
            health,
            showing: Arc::default(),
            left: Arc::default(),
            waiting_runs: Arc::new(Semaphore::new(MAX_RUNS_WITHOUT_STEP)),
            standing,
            tasks: TaskTracker::new(),
        }
    }

    /// Returns the service, with the limits of its messages.
    pub(crate) fn service(&self) -> StepServiceServer<Self> {
        StepServiceServer::new(self.clone())
            .max_decoding_message_size(MAX_MESSAGE_BYTES)
            .max_encoding_message_size(MAX_MESSAGE_BYTES)
    }

    /// Fills in the highest term obeyed, which start of a coordinator in it, and the last step's epoch.
    pub(crate) fn sign(&self, registration: &mut wire::Registration) {
        // In this order: the term obeyed, which only rises, is never below that of the last step.
        let stepped = self.left().stepped();
        registration.stepped = stepped.map(convert::to_fence);
        let epochs = self.epochs();
        (registration.term, registration.lead) = (epochs.obeyed().term.0, epochs.lead());
    }

    /// Shows in the health service whether an epoch is ready or runs.
    pub(crate) async fn show_ready(&self) {
        // In turn, so that the last to show has seen what holds at the end.
        let _turn = self.showing.lock().await;
        let ready = self.epochs().is_ready();
        if ready {
            self.health.set_serving::<StepServiceServer<Self>>().await;
        } else {
            self.health
                .set_not_serving::<StepServiceServer<Self>>()
                .await;
        }
    }

    /// Waits until what `shutdown` ends has ended, then ends the ranks' threads.
    pub(crate) async fn close(&self) {
        self.tasks.close();
        self.tasks.wait().await;
        self.workshop.lock().await.close().await;
    }

    fn epochs(&self) -> MutexGuard<'_, Epochs<Prepared>> {
        // Nothing panics while it holds the lock.
        self.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn prepare(self, preparation: Preparation) {
        let Preparation {
            plan,
            alive,
            states,
        } = &preparation;
        self.show_ready().await;
        let outcome = async {
            let mut workshop = tokio::select! {
                workshop = self.workshop.lock() => workshop,
                () = alive.cancelled() => return Err(superseded(plan)),
            };
            workshop.prepare(&preparation).await
        };
        let answer = match outcome.await {
            Ok((prepared, kept_kv)) => {
                if self.epochs().ready(alive, prepared) {
                    self.show_ready().await;
                    let left = self.tell_left(plan.fence.term, states).await;
                    self.left().ready(plan.fence, &counted(plan, &kept_kv));
                    tracing::info!(epoch = %plan.fence, ?kept_kv, left, "ready");
                    Ok(convert::ready(kept_kv, self.left().stepped()))
                } else {
                    Err(superseded(plan))
                }
            }
            Err(status) => {
                tracing::warn!(epoch = %plan.fence, reason = status.message(), "not ready");
                Err(status)
            }
        };
        // An error means that the lead has left: it will come with another epoch.
        states.send(answer).await.ok();
    }

    fn left(&self) -> MutexGuard<'_, Left> {
        // Nothing panics while it holds the lock.
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a new lead what the last one has left here; returns how many sequences that are.
    async fn tell_left(&self, term: Term, states: &PrepareStates) -> usize {
        let all = self.left().before(term);
        let count = all.len();
        for sequence in all {
            // An error means that the lead has left: the next one asks again.
            states.send(Ok(convert::left(sequence))).await.ok();
        }
        count
    }

    async fn run(
        self,
        waiting: Waiting,
        mut requests: Streaming<wire::RunRequest>,
        answers: crate::run::Answers,
    ) {
        let first = tokio::select! {
            first = requests.message() => first,
            () = answers.closed() => return,
            () = waiting.alive.cancelled() => {
                let ended = Status::aborted("the epoch ended before its first step came");
                answers.send(Err(ended)).await.ok();
                return;
            }
        };
        drop(waiting);
        // A lead that leaves before its first step has nothing to be told.
        let Ok(Some(first)) = first else { return };
        let group = convert::for_group(&first.group, &self.bounds.group);
        let begun = group.map_err(Status::from).and_then(|()| {
            let fence = convert::fence(first.fence)?;
            let begun = self.epochs().run(fence);
            let is_stale = matches!(begun, Err(NotReady::Other { .. }));
            self.standing.hears(Fenced::Run, is_stale);
            Ok(begun?)
        });
        let (prepared, alive) = match begun {
            Ok(begun) => begun,
            Err(status) => {
                answers.send(Err(status)).await.ok();
                return;
            }
        };
        let fence = prepared.plan.fence;
        let geometry = Arc::clone(&self.geometry);
        let stream = (first, requests);
        let during = (alive.clone(), Arc::clone(&self.left));
        let ended = Run::drive(prepared, geometry, during, answers.clone(), stream).await;
        self.epochs().end(&alive);
        self.hub.abort(fence);
        self.show_ready().await;
        if let Some(status) = ended {
            tracing::info!(epoch = %fence, reason = status.message(), "run ended");
            answers.send(Err(status)).await.ok();
        }
    }
}

/// Lists the ranks whose sequences go on in an epoch as they are kept here.
fn counted(plan: &EpochPlan, kept_kv: &[bool]) -> Vec<Rank> {
    let own = plan.own.iter().zip(kept_kv);
    let kept = own.filter(|(rank, kept)| **kept && plan.held.contains(rank));
    kept.map(|(rank, _)| *rank).collect()
}

#[tonic::async_trait]
impl StepService for Worker {
    type PrepareStream = ReceiverStream<Result<wire::PrepareResponse, Status>>;
    type RunStream = ReceiverStream<Result<wire::RunResponse, Status>>;

    async fn prepare(
        &self,
        request: Request<wire::PrepareRequest>,
    ) -> Result<Response<Self::PrepareStream>, Status> {
        let request = request.into_inner();
        convert::for_group(&request.group, &self.bounds.group)?;
        // A lead that is over hears so, whatever else its request says.
        let lead = request.lead;
        let checked = self.epochs().check(convert::fence(request.fence)?, lead);
        self.standing.hears(Fenced::Prepare, checked.is_err());
        checked?;
        let plan = Arc::new(EpochPlan::new(request, &self.bounds)?);
        let begun = self.epochs().prepare(plan.fence, lead);
        self.standing.hears(Fenced::Prepare, begun.is_err());
        let alive = begun?;
        let (states, stream) = mpsc::channel(STREAM_DEPTH);
        let preparation = Preparation {
            plan,
            alive,
            states,
        };
        self.tasks.spawn(self.clone().prepare(preparation));
        Ok(Response::new(ReceiverStream::new(stream)))
    }

    async fn run(
        &self,
        request: Request<Streaming<wire::RunRequest>>,
    ) -> Result<Response<Self::RunStream>, Status> {
        let place = Arc::clone(&self.waiting_runs).try_acquire_owned();
        let waiting = Waiting {
            alive: self.epochs().alive(),
            _place: place.map_err(|_| {
                let limit = MAX_RUNS_WITHOUT_STEP;
                Status::resource_exhausted(format!("{limit} streams have brought no step yet"))
            })?,
        };
        let (answers, stream) = mpsc::channel(STREAM_DEPTH);
        self.tasks
            .spawn(self.clone().run(waiting, request.into_inner(), answers));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl From<Stale> for Status {
    fn from(stale: Stale) -> Self {
        Self::aborted(stale.to_string())
    }
}

impl From<NotReady> for Status {
    fn from(refusal: NotReady) -> Self {
        Self::failed_precondition(refusal.to_string())
    }
}
