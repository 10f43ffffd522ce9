//! `ClusterService`: a worker is a member for as long as its stream is open and beats.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cluster::{Refused, Registration};
use proto::internal as wire;
use proto::internal::attend_request::Message as Said;
use proto::internal::cluster_service_server::ClusterService;
use spec::Term;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status, Streaming};

use super::Lead;
use super::convert;
use super::follow::ending;
use super::leads::Leads;
use super::message::{Message, Orders, Register};
use crate::limits;

/// Answers waiting for one worker; one a heartbeat.
const ANSWER_QUEUE: usize = 4;

/// Serves the workers' streams.
#[derive(Clone, Debug)]
pub(crate) struct Attend {
    leads: Leads,
    tasks: TaskTracker,
    sessions: Arc<AtomicU64>,
    attending: Arc<AtomicUsize>,
}

/// Counts a stream for as long as it lives.
struct Seat(Arc<AtomicUsize>);

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Attend {
    /// Takes workers in for whatever groups are led here.
    pub(crate) fn new(leads: Leads, tasks: TaskTracker) -> Self {
        Self {
            leads,
            tasks,
            sessions: Arc::new(AtomicU64::new(0)),
            attending: Arc::new(AtomicUsize::new(0)),
        }
    }

    fn take_seat(&self) -> Result<Seat, Status> {
        let seat = Seat(self.attending.clone());
        if self.attending.fetch_add(1, Ordering::Relaxed) >= limits::MAX_MEMBERS {
            let limit = limits::MAX_MEMBERS;
            return Err(Status::resource_exhausted(format!(
                "{limit} workers attend already"
            )));
        }
        Ok(seat)
    }
}

impl Lead {
    /// Registers a worker with the step loop.
    async fn register(
        &self,
        registration: Registration,
        session: u64,
        orders: Orders,
    ) -> Result<Term, Status> {
        let (reply, answer) = oneshot::channel();
        let register = Register {
            registration,
            session,
            orders,
            reply,
        };
        let sent = self
            .messages
            .send(Message::Register(Box::new(register)))
            .await;
        sent.map_err(|_| ending())?;
        let answer = answer.await.map_err(|_| ending())?;
        answer.map_err(|refused| refusal(&refused))
    }
}

fn refusal(refused: &Refused) -> Status {
    let said = refused.to_string();
    match refused {
        Refused::Malformed { .. } => Status::invalid_argument(said),
        Refused::NameTaken { .. } => Status::already_exists(said),
        Refused::Differs { .. } => Status::failed_precondition(said),
    }
}

fn registration(from: wire::Registration) -> Registration {
    Registration {
        name: from.name,
        incarnation: from.incarnation,
        address: from.address,
        wire: (from.wire_min, from.wire_max),
        build: from.build,
        weights: from.weights_fingerprint,
        tokenizer: from.tokenizer_fingerprint,
        numerics: from.numerics,
        num_ranks: from.num_ranks as usize,
        term: Term(from.term),
        lead: from.lead,
        stepped: from
            .stepped
            .map(|stepped| convert::to_fence(stepped.term, stepped.epoch)),
        draining: from.draining,
    }
}

#[tonic::async_trait]
impl ClusterService for Attend {
    type AttendStream = ReceiverStream<Result<wire::AttendResponse, Status>>;

    async fn attend(
        &self,
        request: Request<Streaming<wire::AttendRequest>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let seat = self.take_seat()?;
        let mut said = request.into_inner();
        let first = timeout(limits::LEASE, said.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no registration came"))??;
        let Some(Said::Registration(from)) = first.and_then(|first| first.message) else {
            return Err(Status::invalid_argument(
                "the first message must be a registration",
            ));
        };
        let lead = self.leads.of(&from.group).await?;
        let registration = registration(from);
        let name = registration.name.clone();
        let session = self.sessions.fetch_add(1, Ordering::Relaxed);
        let orders = Orders::new(lead.done.child_token());
        let (answers, stream) = mpsc::channel(ANSWER_QUEUE);
        let (accepted, answer) = oneshot::channel();
        // The handler may be dropped at any moment; this task is not, so a member that was taken in
        // is always told to have left.
        self.tasks.spawn(async move {
            let evict = orders.evict.clone();
            let told = orders.clone();
            let term = match lead.register(registration, session, told).await {
                Ok(term) => term,
                Err(status) => return drop(accepted.send(Err(status))),
            };
            accepted.send(Ok(())).ok();
            let draining = Message::Draining {
                name: name.clone(),
                session,
            };
            let heard = Heard {
                said,
                draining,
                orders,
            };
            let end = tokio::select! {
                end = heard.listen(&lead, &answers, term) => end,
                () = evict.cancelled() => Status::unavailable("sent away by the lead"),
            };
            tracing::info!(worker = %name, reason = end.message(), "worker left");
            // The loop is told even when the worker no longer listens; once done, nobody is.
            drop(answers.try_send(Err(end)));
            drop(lead.messages.send(Message::Left { name, session }).await);
            drop(seat);
        });
        answer.await.map_err(|_| ending())??;
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

/// What is heard of a worker that was taken in, and to be told to it.
struct Heard {
    said: Streaming<wire::AttendRequest>,
    /// Tells the step loop that it drains.
    draining: Message,
    orders: Orders,
}

impl Heard {
    /// Answers heartbeats until they stop.
    async fn listen(
        mut self,
        lead: &Lead,
        answers: &mpsc::Sender<Result<wire::AttendResponse, Status>>,
        term: Term,
    ) -> Status {
        let mut draining = Some(self.draining);
        loop {
            let Orders { drain, release, .. } = &self.orders;
            let (told, released) = (drain.is_cancelled(), release.is_cancelled());
            let answer = wire::AttendResponse {
                term: term.0,
                released,
                drain: told,
            };
            if answers.send(Ok(answer)).await.is_err() {
                return Status::cancelled("the worker closed its stream");
            }
            let said = tokio::select! {
                said = timeout(limits::LEASE, self.said.message()) => said,
                () = release.cancelled(), if !released => continue,
                () = drain.cancelled(), if !told => continue,
            };
            let Ok(said) = said else {
                let limit = limits::LEASE;
                return Status::deadline_exceeded(format!("no heartbeat for {limit:?}"));
            };
            match said {
                Ok(Some(request)) => {
                    let drains =
                        matches!(request.message, Some(Said::Heartbeat(beat)) if beat.draining);
                    if drains && let Some(message) = draining.take() {
                        drop(lead.messages.send(message).await);
                    }
                }
                Ok(None) => return Status::cancelled("the worker closed its stream"),
                Err(status) => return status,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_new_lead_waits_longer_than_a_worker_rests() {
        let spare = cluster::GRACE.checked_sub(worker::limits::BACKOFF_MAX);
        assert!(spare.is_some_and(|spare| spare.as_millis() >= 500));
    }
}
