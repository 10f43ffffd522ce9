//! A front between real clients and a lead that plays scripts.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use coordinator::front::{Addresses, Front, FrontConfig, Model};
use proto::internal::follow_response::Event;
use proto::internal::lead_service_server::{LeadService, LeadServiceServer};
use proto::internal::{self, FollowRequest, FollowResponse, SequenceRecord, SequenceState};
use proto::v1::generation_service_client::GenerationServiceClient;
use spec::{Sampling, TokenId};
use telemetry::{About, CoordinatorTelemetry, Telemetry};
use tokenizer::Tokenizer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// Rows of the model's vocabulary; the tokenizer has fewer strings.
pub(crate) const VOCAB: u32 = 2100;
/// The model's context.
pub(crate) const CONTEXT: u32 = 1024;

/// The server's limit of output.
pub(crate) const MAX_OUTPUT: u32 = 1000;

/// What the lead does next.
#[derive(Clone, Debug)]
pub(crate) enum Cue {
    Say(Event),
    Fail(Status),
    /// Nothing more, until the front hangs up or the generation is cancelled.
    Hang,
}

/// What the lead plays for a request; an error refuses it at once.
pub(crate) type Script = dyn Fn(&SequenceRecord) -> Result<Vec<Cue>, Status> + Send + Sync;

/// A whole arrangement on ports of its own.
pub(crate) struct Stage {
    pub(crate) front: Front,
    pub(crate) grpc: Channel,
    pub(crate) http: SocketAddr,
    pub(crate) state: watch::Sender<internal::WatchResponse>,
    /// Where each group's lead is.
    pub(crate) leads: watch::Sender<Addresses>,
    hindrance: Hindrance,
    followed: mpsc::UnboundedReceiver<FollowRequest>,
    hung_up: mpsc::UnboundedReceiver<String>,
    settled: mpsc::UnboundedReceiver<String>,
    known: Known,
    loses_forced: Arc<AtomicBool>,
    pub(crate) telemetry: CoordinatorTelemetry,
}

/// A lead that knows what it has played. A repeated request is played again, from where its follower
/// says that it is.
#[derive(Clone)]
struct ScriptedLead {
    script: Arc<Script>,
    state: watch::Receiver<internal::WatchResponse>,
    followed: mpsc::UnboundedSender<FollowRequest>,
    hung_up: mpsc::UnboundedSender<String>,
    settled: mpsc::UnboundedSender<String>,
    known: Known,
    hindrance: Hindrance,
    loses_forced: Arc<AtomicBool>,
}

/// What stands in the way of calls that name a generation.
type Hindrance = Arc<Mutex<Option<Box<dyn Fn() -> Option<Status> + Send>>>>;

type Known = Arc<Mutex<HashMap<String, Played>>>;

/// What was played of a generation.
#[derive(Clone)]
struct Played {
    record: SequenceRecord,
    standing: internal::SequenceStanding,
    /// Tokens that were forced, after so many.
    forced: Option<(usize, Vec<u32>)>,
    cancelled: CancellationToken,
}

struct Play {
    cues: VecDeque<Cue>,
    request_id: String,
    known: Known,
    cancelled: Pin<Box<WaitForCancellationFutureOwned>>,
    hung_up: mpsc::UnboundedSender<String>,
}

impl Play {
    /// Notes what is said, for those who ask how the generation stands.
    fn note(&self, event: &Event) {
        let mut known = self.known.lock().unwrap();
        let Some(played) = known.get_mut(&self.request_id) else {
            return;
        };
        let standing = &mut played.standing;
        match event {
            Event::Running(running) => {
                standing.set_state(SequenceState::Running);
                standing.cached_prompt_tokens = running.cached_prompt_tokens;
            }
            Event::Tokens(said) => {
                standing.set_state(SequenceState::Running);
                let first = said.first_position as usize - played.record.tokens.len();
                standing.tokens.truncate(first);
                standing
                    .tokens
                    .extend(said.tokens.iter().map(|said| said.token));
            }
            Event::PromptLogprobs(said) => {
                standing.prompt_logprobs = said.first_position - 1 + said.logprobs.len() as u32;
            }
            Event::Finished(finished) => {
                standing.set_state(SequenceState::Ended);
                standing.end = finished.reason;
            }
            Event::Accepted(_) => {}
        }
    }
}

impl Stream for Play {
    type Item = Result<FollowResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if !self.cues.is_empty() && self.cancelled.as_mut().poll(context).is_ready() {
            let Cue::Say(end) = finished(internal::SequenceEnd::Cancelled) else {
                unreachable!()
            };
            let accepted = |cue: &Cue| matches!(cue, Cue::Say(Event::Accepted(_)));
            self.cues.retain(accepted);
            self.cues.push_back(Cue::Say(end));
        }
        match self.cues.pop_front() {
            Some(Cue::Say(event)) => {
                self.note(&event);
                Poll::Ready(Some(Ok(FollowResponse { event: Some(event) })))
            }
            Some(Cue::Fail(status)) => Poll::Ready(Some(Err(status))),
            Some(Cue::Hang) => {
                // The stream is dropped when the front hangs up.
                self.cues.push_front(Cue::Hang);
                Poll::Pending
            }
            None => Poll::Ready(None),
        }
    }
}

impl Drop for Play {
    fn drop(&mut self) {
        if !self.cues.is_empty() {
            // A test that is over does not listen.
            drop(self.hung_up.send(self.request_id.clone()));
        }
    }
}

/// Leaves out what a follower has.
fn from_cursor(cue: Cue, request: &FollowRequest, prompt: usize) -> Option<Cue> {
    let seen = prompt + request.tokens_seen as usize;
    let scored = 1 + request.prompt_logprobs_seen;
    match cue {
        Cue::Say(Event::Tokens(mut said)) => {
            let known = seen.saturating_sub(said.first_position as usize);
            said.tokens.drain(..known.min(said.tokens.len()));
            said.first_position += known as u32;
            (!said.tokens.is_empty()).then_some(Cue::Say(Event::Tokens(said)))
        }
        Cue::Say(Event::PromptLogprobs(mut said)) => {
            let known = scored.saturating_sub(said.first_position) as usize;
            said.logprobs.drain(..known.min(said.logprobs.len()));
            said.first_position += known as u32;
            (!said.logprobs.is_empty()).then_some(Cue::Say(Event::PromptLogprobs(said)))
        }
        cue => Some(cue),
    }
}

pub(crate) fn refusal(code: tonic::Code, reason: &str, message: &str) -> Status {
    let details = ErrorDetails::with_error_info(reason, "conclave", HashMap::new());
    Status::with_error_details(code, message, details)
}

fn unknown() -> Status {
    refusal(
        tonic::Code::NotFound,
        "GENERATION_UNKNOWN",
        "no such generation",
    )
}

impl ScriptedLead {
    fn played(&self, id: &str) -> Result<Played, Status> {
        let known = self.known.lock().unwrap();
        known.get(id).cloned().ok_or_else(unknown)
    }

    /// Refuses a call that names a generation, where something is in its way.
    fn hindered(&self) -> Result<(), Status> {
        let hindrance = self.hindrance.lock().unwrap();
        let status = hindrance.as_ref().and_then(|hinders| hinders());
        status.map_or(Ok(()), Err)
    }

    /// Returns the record that is followed, if it may be.
    fn record(&self, request: &FollowRequest) -> Result<SequenceRecord, Status> {
        let record = request.record.clone().unwrap();
        match self.played(&record.request_id) {
            Ok(played) if played.record.fingerprint != record.fingerprint => Err(refusal(
                tonic::Code::AlreadyExists,
                "REQUEST_ID_REUSED",
                "another request has this id",
            )),
            Ok(played) if request.attach_only => Ok(played.record),
            Ok(_) => Ok(record),
            Err(unknown) if request.attach_only => Err(unknown),
            Err(_) => Ok(record),
        }
    }
}

#[tonic::async_trait]
impl LeadService for ScriptedLead {
    type FollowStream = Play;
    type WatchStream = Pin<Box<dyn Stream<Item = Result<internal::WatchResponse, Status>> + Send>>;

    async fn follow(&self, request: Request<FollowRequest>) -> Result<Response<Play>, Status> {
        let request = request.into_inner();
        let record = self.record(&request)?;
        let (request_id, prompt) = (record.request_id.clone(), record.tokens.len());
        let mut cues = (self.script)(&record)?;
        let played = {
            let mut known = self.known.lock().unwrap();
            let played = known.entry(request_id.clone()).or_insert_with(|| {
                let standing = internal::SequenceStanding {
                    state: SequenceState::Queued.into(),
                    front: record.front.clone(),
                    prompt_tokens: prompt as u32,
                    ..Default::default()
                };
                Played {
                    record,
                    standing,
                    forced: None,
                    cancelled: CancellationToken::new(),
                }
            });
            played.clone()
        };
        if let Some((keep, forced)) = &played.forced {
            cues.retain(|cue| !matches!(cue, Cue::Hang));
            for cue in &mut cues {
                if let Cue::Say(Event::Tokens(said)) = cue {
                    let left = (prompt + keep).saturating_sub(said.first_position as usize);
                    said.tokens.truncate(left);
                }
            }
            let answer = [forced.clone(), ids("ok<|return|>")].concat();
            cues.retain(|cue| !matches!(cue, Cue::Say(Event::Finished(_))));
            if self.loses_forced.swap(false, Ordering::Relaxed) {
                cues.push(tokens(prompt + keep, forced));
                let gone = refusal(tonic::Code::Unavailable, "NOT_LEADER", "another one leads");
                cues.push(Cue::Fail(gone));
                let mut known = self.known.lock().unwrap();
                known.get_mut(&request_id).unwrap().forced = None;
            } else {
                cues.push(tokens(prompt + keep, &answer));
                cues.push(finished(internal::SequenceEnd::Stop));
            }
        }
        let cues = cues.into_iter();
        let cues = cues
            .filter_map(|cue| from_cursor(cue, &request, prompt))
            .collect();
        self.followed.send(request).unwrap();
        Ok(Response::new(Play {
            cues,
            request_id,
            known: Arc::clone(&self.known),
            cancelled: Box::pin(played.cancelled.cancelled_owned()),
            hung_up: self.hung_up.clone(),
        }))
    }

    async fn settle(
        &self,
        request: Request<internal::SettleRequest>,
    ) -> Result<Response<internal::SettleResponse>, Status> {
        self.hindered()?;
        let id = request.into_inner().request_id;
        let mut known = self.known.lock().unwrap();
        let standing = &mut known.get_mut(&id).ok_or_else(unknown)?.standing;
        standing.set_state(SequenceState::Ended);
        standing.set_end(internal::SequenceEnd::Settled);
        self.settled.send(id).unwrap();
        Ok(Response::new(internal::SettleResponse {}))
    }

    async fn force(
        &self,
        request: Request<internal::ForceRequest>,
    ) -> Result<Response<internal::ForceResponse>, Status> {
        self.hindered()?;
        let request = request.into_inner();
        let mut known = self.known.lock().unwrap();
        let played = known.get_mut(&request.request_id).ok_or_else(unknown)?;
        let forced = (request.generated.len(), request.tokens);
        played.forced.get_or_insert(forced);
        Ok(Response::new(internal::ForceResponse {}))
    }

    async fn cancel(
        &self,
        request: Request<internal::CancelRequest>,
    ) -> Result<Response<internal::CancelResponse>, Status> {
        self.hindered()?;
        let id = request.into_inner().request_id;
        self.played(&id)?.cancelled.cancel();
        let mut known = self.known.lock().unwrap();
        let standing = &mut known.get_mut(&id).ok_or_else(unknown)?.standing;
        if standing.state() != SequenceState::Ended {
            standing.set_state(SequenceState::Ended);
            standing.set_end(internal::SequenceEnd::Cancelled);
        }
        let standing = Some(standing.clone());
        Ok(Response::new(internal::CancelResponse { standing }))
    }

    async fn get(
        &self,
        request: Request<internal::GetRequest>,
    ) -> Result<Response<internal::GetResponse>, Status> {
        self.hindered()?;
        let standing = Some(self.played(&request.into_inner().request_id)?.standing);
        Ok(Response::new(internal::GetResponse { standing }))
    }

    async fn watch(
        &self,
        _: Request<internal::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let states = tokio_stream::wrappers::WatchStream::new(self.state.clone());
        Ok(Response::new(Box::pin(states.map(Ok))))
    }
}

/// How a front behaves in tests: as in production, but that it does not look for a lost lead for long.
pub(crate) fn patient() -> FrontConfig {
    FrontConfig {
        heartbeat: Duration::from_secs(10),
        client_stall: Duration::from_secs(60),
        body_time: Duration::from_secs(30),
        hold: Duration::from_millis(300),
        ask_hold: Duration::from_millis(300),
        dialer: sockets::Dialer::default(),
    }
}

impl Stage {
    /// Starts everything; the lead plays this script.
    pub(crate) async fn new(
        script: impl Fn(&SequenceRecord) -> Result<Vec<Cue>, Status> + Send + Sync + 'static,
    ) -> Self {
        Self::with_config(patient(), script).await
    }

    /// Starts everything with another configuration.
    pub(crate) async fn with_config(
        config: FrontConfig,
        script: impl Fn(&SequenceRecord) -> Result<Vec<Cue>, Status> + Send + Sync + 'static,
    ) -> Self {
        let (state, states) = watch::channel(serving());
        let (followed, was_followed) = mpsc::unbounded_channel();
        let (hung_up, was_hung_up) = mpsc::unbounded_channel();
        let (settled, was_settled) = mpsc::unbounded_channel();
        let (known, hindrance) = (Known::default(), Hindrance::default());
        let loses_forced = Arc::<AtomicBool>::default();
        let script: Arc<Script> = Arc::new(script);
        let lead = ScriptedLead {
            script,
            state: states,
            followed,
            hung_up,
            settled,
            known: Arc::clone(&known),
            hindrance: Arc::clone(&hindrance),
            loses_forced: Arc::clone(&loses_forced),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let lead_at = listener.local_addr().unwrap();
        let server = Server::builder().add_service(LeadServiceServer::new(lead));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let leads = [("0".to_owned(), format!("http://{lead_at}"))].into();
        let leads = watch::Sender::new(leads);
        let telemetry = Telemetry::coordinator(About::default(), vec!["0".into()], 1);
        let known_leads = leads.subscribe();
        let front = Front::start(config, model(), tokenizer(), known_leads, telemetry.clone());

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let grpc_at = listener.local_addr().unwrap();
        let server = Server::builder().add_routes(front.grpc());
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = listener.local_addr().unwrap();
        tokio::spawn(axum::serve(listener, front.http()).into_future());
        // A small window, so that a client that does not read is felt soon.
        let grpc = Endpoint::from_shared(format!("http://{grpc_at}")).unwrap();
        let grpc = grpc.initial_stream_window_size(1 << 16).connect_lazy();
        Self {
            front,
            grpc,
            http,
            state,
            leads,
            hindrance,
            followed: was_followed,
            hung_up: was_hung_up,
            settled: was_settled,
            known,
            loses_forced,
            telemetry,
        }
    }

    /// Puts something in the way of the calls from now on that name a generation.
    pub(crate) fn hinder(&self, hinders: impl Fn() -> Option<Status> + Send + 'static) {
        *self.hindrance.lock().unwrap() = Some(Box::new(hinders));
    }

    /// Makes the lead forget everything, as another one would know nothing.
    pub(crate) fn forget(&self) {
        self.known.lock().unwrap().clear();
    }

    /// Breaks the next stream that has told forced tokens, and makes the lead forget that they were, as
    /// another one would that the old one has died too soon for.
    pub(crate) fn lose_forced(&self) {
        self.loses_forced.store(true, Ordering::Relaxed);
    }

    /// Returns a client of the generation service.
    pub(crate) fn client(&self) -> GenerationServiceClient<Channel> {
        GenerationServiceClient::new(self.grpc.clone())
    }

    /// Waits for the next request that reaches the lead.
    pub(crate) async fn followed(&mut self) -> SequenceRecord {
        self.asked().await.record.unwrap()
    }

    /// Waits for the next call that reaches the lead.
    pub(crate) async fn asked(&mut self) -> FollowRequest {
        soon(self.followed.recv()).await.unwrap()
    }

    /// Waits until the front says that a text has come to its end; returns its request's id.
    pub(crate) async fn settled(&mut self) -> String {
        soon(self.settled.recv()).await.unwrap()
    }

    /// Waits until the front hangs up on a play that was not over; returns its request's id.
    pub(crate) async fn hung_up(&mut self) -> String {
        soon(self.hung_up.recv()).await.unwrap()
    }
}

/// Waits for what must happen; a test that waits for ever tells nothing.
pub(crate) async fn soon<T>(wait: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), wait)
        .await
        .expect("it happens soon")
}

/// Returns the tokenizer of a small synthetic checkpoint.
pub(crate) fn tokenizer() -> Arc<Tokenizer> {
    static TOKENIZER: LazyLock<Arc<Tokenizer>> = LazyLock::new(|| {
        let files = tokenizer::synthetic::tokenizer_json(2048).unwrap();
        Arc::new(Tokenizer::from_bytes(&files.tokenizer_json).unwrap())
    });
    Arc::clone(&TOKENIZER)
}

/// Returns a special token.
pub(crate) fn special(name: &str) -> u32 {
    tokenizer().special(name).unwrap().0
}

/// Encodes text in which special tokens are written by name.
pub(crate) fn ids(text: &str) -> Vec<u32> {
    tokenizer()
        .encode_with_special(text)
        .into_iter()
        .map(|token| token.0)
        .collect()
}

/// Encodes bytes, one token each.
pub(crate) fn byte_ids(bytes: &[u8]) -> Vec<u32> {
    let tokenizer = tokenizer();
    let id = |byte: u8| (0..VOCAB).find(|id| tokenizer.token_bytes(TokenId(*id)) == Some(&[byte]));
    bytes.iter().map(|byte| id(*byte).unwrap()).collect()
}

fn model() -> Model {
    Model {
        name: "gpt-oss-tiny".into(),
        aliases: vec!["openai/gpt-oss-tiny".into()],
        max_context: CONTEXT,
        max_output: MAX_OUTPUT,
        vocab_size: VOCAB,
        weights_fingerprint: "aa".into(),
        tokenizer_fingerprint: tokenizer().fingerprint().to_owned(),
        numerics: "exact".into(),
        eos_tokens: vec![
            TokenId(special("<|return|>")),
            TokenId(special("<|endoftext|>")),
            TokenId(special("<|call|>")),
        ],
        default_sampling: Sampling::default(),
    }
}

/// The state of a group that serves.
pub(crate) fn serving() -> internal::WatchResponse {
    internal::WatchResponse {
        serving: true,
        ranks_present: 2,
        ranks_needed: 2,
        status: "serving".into(),
        ..Default::default()
    }
}

pub(crate) fn accept() -> Cue {
    Cue::Say(Event::Accepted(internal::Accepted {
        queue_position: 3,
        ..Default::default()
    }))
}

/// Leaves the queue; the cache held one token.
pub(crate) fn running() -> Cue {
    Cue::Say(Event::Running(internal::Running {
        cached_prompt_tokens: 1,
        after_us: 1,
    }))
}

/// Tokens from this position on, in one message.
pub(crate) fn tokens(first_position: usize, ids: &[u32]) -> Cue {
    let tokens = ids.iter().map(|&token| internal::SampledToken {
        token,
        logprob: None,
    });
    Cue::Say(Event::Tokens(internal::Tokens {
        first_position: first_position as u32,
        tokens: tokens.collect(),
        first_after_us: 2,
    }))
}

pub(crate) fn finished(reason: internal::SequenceEnd) -> Cue {
    Cue::Say(Event::Finished(internal::SequenceFinished {
        reason: reason.into(),
        after_us: 3,
    }))
}

/// Accepts, generates these tokens one by one as far as the request lets it, and ends as a lead
/// does: at a stop token or at the limit. Logprobs come where they are asked for.
pub(crate) fn play(request: &SequenceRecord, output: &[u32]) -> Vec<Cue> {
    let mut cues = vec![accept(), running()];
    let sampling = request.sampling.clone().unwrap();
    let stop = request.stop.clone().unwrap();
    let prompt = request.tokens.len();
    if let Some(top) = sampling.prompt_logprobs {
        // In slices, as a lead that computes few rows at a time.
        for (slice, tokens) in request.tokens[1..].chunks(64).enumerate() {
            let logprobs = tokens.iter().map(|&token| logprob(token, top)).collect();
            let first_position = (1 + 64 * slice) as u32;
            let said = internal::PromptLogprobs {
                first_position,
                logprobs,
            };
            cues.push(Cue::Say(Event::PromptLogprobs(said)));
        }
    }
    for (index, &token) in output.iter().take(stop.max_tokens as usize).enumerate() {
        let logprob = sampling.logprobs.map(|top| logprob(token, top));
        let tokens = vec![internal::SampledToken { token, logprob }];
        let first_position = (prompt + index) as u32;
        cues.push(Cue::Say(Event::Tokens(internal::Tokens {
            first_position,
            tokens,
            first_after_us: 2,
        })));
        if stop.stop_tokens.contains(&token) {
            cues.push(finished(internal::SequenceEnd::Stop));
            return cues;
        }
    }
    cues.push(match output.len() >= stop.max_tokens as usize {
        true => finished(internal::SequenceEnd::Length),
        // The script is at its end, the lead is not.
        false => Cue::Hang,
    });
    cues
}

/// A logprob that tells its token: -id/1000, with the next ids as alternatives from -0.5 down.
pub(crate) fn logprob(token: u32, top: u32) -> internal::TokenLogprob {
    let other = |i: u32| internal::Alternative {
        token: token + i,
        logprob: -0.5 * i as f32,
    };
    internal::TokenLogprob {
        token,
        logprob: -(token as f32) / 1000.0,
        rank: 2,
        top: (1..=top).map(other).collect(),
    }
}

/// A script that always generates the same.
pub(crate) fn always(
    output: Vec<u32>,
) -> impl Fn(&SequenceRecord) -> Result<Vec<Cue>, Status> + Send + Sync + 'static {
    move |request| Ok(play(request, &output))
}
