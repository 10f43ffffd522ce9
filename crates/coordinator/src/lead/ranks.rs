//! The lead's side of a worker: makes it ready for an epoch, sends it parts, listens to it.
//!
//! One task a worker and epoch; it tells the step loop and ends with the epoch.

use std::collections::BTreeMap;

use cluster::{EpochPlan, Event, Registration};
use proto::internal as wire;
use proto::internal::prepare_response::State;
use proto::internal::step_service_client::StepServiceClient;
use sockets::Dialer;
use spec::{Fence, KvPlan, Rank, Step};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

use super::convert;
use super::message::Message;
use super::workers::{Kept, Workers};
use crate::limits;

/// The workers of the present epoch.
#[derive(Debug)]
pub(crate) struct Ranks {
    messages: mpsc::Sender<Message>,
    dialer: Dialer,
    tasks: TaskTracker,
    /// The group, and this start of the coordinator.
    group: String,
    lead: u64,
    epoch: Option<Epoch>,
}

#[derive(Debug)]
struct Epoch {
    workers: BTreeMap<String, Worker>,
    /// Ends the tasks when dropped.
    _end: DropGuard,
}

#[derive(Debug)]
struct Worker {
    ranks: Vec<Rank>,
    parts: mpsc::Sender<wire::RunRequest>,
}

impl Ranks {
    /// Starts without an epoch; what workers say goes to `messages`.
    pub(crate) fn new(
        messages: mpsc::Sender<Message>,
        dialer: Dialer,
        tasks: TaskTracker,
        (group, lead): (String, u64),
    ) -> Self {
        Self {
            group,
            messages,
            dialer,
            tasks,
            lead,
            epoch: None,
        }
    }
}

impl Workers for Ranks {
    /// Each member reports [`Event::Prepared`] or [`Event::PrepareFailed`], and then waits for parts.
    fn prepare(&mut self, plan: &EpochPlan, kv: &KvPlan, max_step_rows: usize) {
        let end = CancellationToken::new();
        let mut workers = BTreeMap::new();
        for (member, ranks) in &plan.members {
            let (parts, queue) = mpsc::channel(limits::STEP_QUEUE);
            let task = WorkerTask {
                fence: plan.fence,
                member: member.clone(),
                request: wire::PrepareRequest {
                    lead: self.lead,
                    group: self.group.clone(),
                    ..request(plan, member, kv, max_step_rows)
                },
                messages: self.messages.clone(),
                dialer: self.dialer.clone(),
            };
            let end = end.clone();
            self.tasks.spawn(async move {
                tokio::select! {
                    () = task.run(queue) => {}
                    () = end.cancelled() => {}
                }
            });
            let ranks = ranks.clone();
            workers.insert(member.name.clone(), Worker { ranks, parts });
        }
        let _end = end.drop_guard();
        self.epoch = Some(Epoch { workers, _end });
    }

    /// A worker does not take its parts whose stream is gone, or that is so far behind that its queue
    /// is full, which the engine's limit of steps in flight rules out.
    fn send(&mut self, step: &Step, kept: Kept<'_>) -> Result<(), String> {
        let workers = self.epoch.iter().flat_map(|epoch| &epoch.workers);
        for (name, worker) in workers {
            let parts = worker
                .ranks
                .iter()
                .map(|rank| convert::part(&step.parts[rank.index()], kept));
            let request = wire::RunRequest {
                fence: Some(convert::fence(step.fence)),
                step: step.number.0,
                parts: parts.collect(),
                group: self.group.clone(),
            };
            worker.parts.try_send(request).map_err(|_| name.clone())?;
        }
        Ok(())
    }

    fn end(&mut self) {
        self.epoch = None;
    }
}

fn request(
    plan: &EpochPlan,
    member: &Registration,
    kv: &KvPlan,
    max_step_rows: usize,
) -> wire::PrepareRequest {
    let members = plan.members.iter().map(|(member, ranks)| wire::Member {
        name: member.name.clone(),
        address: member.address.clone(),
        ranks: ranks.iter().map(|rank| rank.0).collect(),
    });
    let own = plan.members.iter().find(|(own, _)| own.name == member.name);
    let own = own.map_or(&[][..], |(_, ranks)| ranks);
    let held = plan.held.iter().filter(|rank| own.contains(rank));
    wire::PrepareRequest {
        held: held.map(|rank| rank.0).collect(),
        fence: Some(convert::fence(plan.fence)),
        members: members.collect(),
        placement: convert::placement(&plan.placement),
        kv: Some(convert::kv_plan(kv)),
        name: member.name.clone(),
        max_step_rows: max_step_rows as u32,
        ..Default::default()
    }
}

/// Why a worker did not get ready.
struct NotReady {
    why: String,
    until: Until,
}

/// When a worker that is not ready may be.
enum Until {
    /// At another try.
    Later,
    /// Once it has said what it obeys.
    Registered,
    /// Never: it refuses the plan itself, so the same plan would be refused again.
    Never,
}

impl NotReady {
    fn later(why: String) -> Self {
        let until = Until::Later;
        Self { why, until }
    }

    fn of(status: &Status) -> Self {
        let until = match status.code() {
            Code::InvalidArgument => Until::Never,
            // It obeys another epoch. If that is one of ours, this one is over and nobody listens.
            Code::Aborted => Until::Registered,
            _ => Until::Later,
        };
        let why = in_words(status);
        Self { why, until }
    }

    /// Returns what the step loop is told.
    fn message(self, fence: Fence, name: String) -> Message {
        let why = self.why;
        match self.until {
            Until::Later => Message::Group(Event::PrepareFailed { fence, name, why }),
            Until::Registered => Message::Group(Event::Overtaken { fence, name, why }),
            Until::Never => Message::Hopeless { fence, name, why },
        }
    }
}

struct WorkerTask {
    fence: Fence,
    member: Registration,
    request: wire::PrepareRequest,
    messages: mpsc::Sender<Message>,
    dialer: Dialer,
}

impl WorkerTask {
    async fn run(self, queue: mpsc::Receiver<wire::RunRequest>) {
        let (fence, name) = (self.fence, self.member.name.clone());
        let mut client = match self.prepare().await {
            Ok((client, kept_kv)) => {
                let name = name.clone();
                self.tell(Message::Group(Event::Prepared {
                    fence,
                    name,
                    kept_kv,
                }))
                .await;
                client
            }
            Err(not_ready) => return self.tell(not_ready.message(fence, name)).await,
        };
        let why = self.listen(&mut client, queue).await;
        self.tell(Message::Broken { fence, name, why }).await;
    }

    /// Connects and waits until the worker is ready.
    async fn prepare(&self) -> Result<(StepServiceClient<Channel>, Vec<bool>), NotReady> {
        let address = &self.member.address;
        let endpoint = endpoint(address).map_err(NotReady::later)?;
        let channel = self.dialer.connect(&endpoint).await.map_err(|error| {
            NotReady::later(format!("cannot connect to {address}: {}", chain(&error)))
        })?;
        let mut client = StepServiceClient::new(channel)
            .max_decoding_message_size(limits::MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(limits::MAX_INTERNAL_MESSAGE);
        let mut deadline = Instant::now() + limits::PREPARE_SILENCE;
        let silent = |_| NotReady::later("it loads nothing more".into());
        let states = timeout_at(deadline, client.prepare(self.request.clone())).await;
        let states = states
            .map_err(silent)?
            .map_err(|status| NotReady::of(&status))?;
        let (mut states, mut loaded) = (states.into_inner(), 0);
        loop {
            let state = timeout_at(deadline, states.message()).await;
            let state = state
                .map_err(silent)?
                .map_err(|status| NotReady::of(&status))?;
            match state.and_then(|response| response.state) {
                Some(State::Ready(ready)) => {
                    let stepped = convert::to_fence(ready.left_term, ready.left_epoch);
                    self.tell(Message::Stepped(stepped)).await;
                    return Ok((client, ready.kept_kv));
                }
                // Only bytes count as progress: a disk that hangs is reported on, too.
                Some(State::Loading(progress)) if progress.bytes_done > loaded => {
                    loaded = progress.bytes_done;
                    deadline = Instant::now() + limits::PREPARE_SILENCE;
                }
                Some(State::Loading(_)) => {}
                Some(State::Left(left)) => self.tell(Message::Collected(left)).await,
                None => return Err(NotReady::later("it stopped answering too early".into())),
            }
        }
    }

    /// Passes parts on and answers back until the stream ends; returns why it did.
    async fn listen(
        &self,
        client: &mut StepServiceClient<Channel>,
        queue: mpsc::Receiver<wire::RunRequest>,
    ) -> String {
        let answers = client.run(ReceiverStream::new(queue)).await;
        let mut answers = match answers {
            Ok(answers) => answers.into_inner(),
            Err(status) => return in_words(&status),
        };
        loop {
            match answers.message().await {
                Ok(Some(said)) => {
                    let (fence, name) = (self.fence, self.member.name.clone());
                    self.tell(Message::Worker { fence, name, said }).await;
                }
                Ok(None) => return "it ended the stream of steps".into(),
                Err(status) => return in_words(&status),
            }
        }
    }

    /// Tells the step loop; once that has ended nobody needs to know.
    async fn tell(&self, message: Message) {
        drop(self.messages.send(message).await);
    }
}

/// Describes how a worker is reached.
fn endpoint(address: &str) -> Result<Endpoint, String> {
    let endpoint = Endpoint::from_shared(address.to_owned())
        .map_err(|error| format!("its address '{address}' is no URI: {error}"))?;
    Ok(endpoint
        .connect_timeout(limits::CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(limits::KEEPALIVE)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true))
}

/// A connection that is lost in the middle of a stream shows as `Unknown`.
fn in_words(status: &Status) -> String {
    match status.code() {
        Code::Unknown | Code::Unavailable => {
            let source = std::error::Error::source(status);
            let why = source.map_or_else(|| status.message().to_owned(), chain);
            format!("the connection is gone ({why})")
        }
        _ => status.message().to_owned(),
    }
}

/// Joins an error and its causes, innermost last.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
