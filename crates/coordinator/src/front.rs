//! The front: the public API, checks, rendering, tokens to text, and streams.
//!
//! A request goes one way: `intake` reads it, `service` or `http` takes it, `convert` checks it once,
//! `groups` chooses who serves it, `generation` follows it at that lead, `output` turns its tokens into what the client sees,
//! `transcript` numbers that, `stream` joins the two, and `replies` carries it to the client. A front
//! knows the lead only as a `LeadService`; it holds no state that a request did not bring: a
//! generation is the lead's, and any front can follow it.

mod calls;
mod chat;
mod convert;
mod deadline;
mod error;
mod fields;
mod fingerprint;
mod generate;
mod generation;
mod groups;
mod health;
mod held;
mod http;
mod intake;
mod limits;
mod meter;
mod model;
mod output;
mod reflection;
mod replies;
mod request;
mod service;
mod standing;
mod stop;
mod stream;
mod text;
mod transcript;
mod unreadable;

#[cfg(test)]
mod documented;
#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn_with_state;
use proto::v1;
use proto::v1::generation_service_server::GenerationServiceServer;
use proto::v1::model_service_server::ModelServiceServer;
use proto::v1::tokenizer_service_server::TokenizerServiceServer;
use sockets::Dialer;
use spec::TokenId;
use telemetry::labels::TextWork;
use telemetry::{CoordinatorTelemetry, Phase};
use tokenizer::Tokenizer;
use tokenizer::harmony::Harmony;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;

pub use groups::Addresses;
pub use model::Model;

use error::Error;
use groups::Groups;
use health::Health;
use intake::Intake;
use request::Request;

/// How a front behaves towards its clients.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// A gRPC stream on which nothing was sent for this long gets a heartbeat.
    pub heartbeat: Duration,
    /// A client that reads nothing for this long while something waits for it is let go.
    pub client_stall: Duration,
    /// How long a client may take to send a request.
    pub body_time: Duration,
    /// How long a generation is looked for when the lead is gone, before its stream ends.
    pub hold: Duration,
    /// How long a call that names a generation is held while no lead can tell of it.
    pub ask_hold: Duration,
    /// Connects to leads.
    pub dialer: Dialer,
}

impl FrontConfig {
    /// Returns how a front behaves that looks for a lost generation for so long, and connects so.
    #[must_use]
    pub fn new(hold: Duration, dialer: Dialer) -> Self {
        Self {
            heartbeat: limits::HEARTBEAT,
            client_stall: limits::CLIENT_STALL,
            body_time: limits::BODY_TIME,
            hold,
            ask_hold: limits::ASK_HOLD,
            dialer,
        }
    }
}

/// What every request of a front uses.
#[derive(Debug)]
struct Shared {
    config: FrontConfig,
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    /// Bytes of the longest token.
    longest_token: usize,
    /// Room for requests that are being read and checked.
    intake: Intake,
    /// Permits to compute on long texts.
    long_texts: Arc<Semaphore>,
    /// Permits to hold one of those for a text above [`limits::LONG_REQUEST`].
    longest_texts: Arc<Semaphore>,
    /// The chat format; a vocabulary without its control tokens has none.
    harmony: Option<Harmony>,
    groups: Groups,
    /// Permits to follow generations.
    live: Arc<Semaphore>,
    /// Permits to hold calls that name one.
    held: Semaphore,
    health: Health,
    telemetry: CoordinatorTelemetry,
    /// Seconds since 1970 when the front started.
    started_at: u64,
    /// Every task that answers a client, and every live generation.
    tasks: TaskTracker,
    /// Every task that follows the leads; needed by the others to their ends.
    watching: TaskTracker,
    /// Nothing new is taken.
    draining: CancellationToken,
    /// Everything ends.
    stopping: CancellationToken,
}

/// A running front.
#[derive(Debug)]
pub struct Front {
    shared: Arc<Shared>,
}

impl Front {
    /// Starts a front on the current tokio runtime: it watches the leads from now on.
    #[must_use]
    pub fn start(
        config: FrontConfig,
        model: Model,
        tokenizer: Arc<Tokenizer>,
        leads: watch::Receiver<Addresses>,
        telemetry: CoordinatorTelemetry,
    ) -> Self {
        let shared = Arc::new(Shared {
            config,
            model: Arc::new(model),
            harmony: harmony(&tokenizer),
            longest_token: tokenizer.longest_token().max(1),
            intake: Intake::new(),
            long_texts: Arc::new(Semaphore::new(limits::MAX_LONG_TEXTS)),
            longest_texts: Arc::new(Semaphore::new(limits::MAX_LONG_TEXTS - 1)),
            tokenizer,
            groups: Groups::default(),
            live: Arc::new(Semaphore::new(limits::MAX_LIVE)),
            held: Semaphore::new(limits::MAX_HELD),
            health: Health::new(telemetry.clone()),
            telemetry,
            started_at: http::unix_time(),
            tasks: TaskTracker::new(),
            watching: TaskTracker::new(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
        });
        let keep = groups::keep(Arc::clone(&shared), leads);
        shared.watching.spawn(keep);
        Self { shared }
    }

    /// Returns the public gRPC services, with health and reflection.
    #[must_use]
    pub fn grpc(&self) -> Routes {
        let generations = service::Generations(Arc::clone(&self.shared));
        let text = text::Text(Arc::clone(&self.shared));
        let models = model::Models(Arc::clone(&self.shared.model));
        let (reflection, reflection_alpha) = reflection::services();
        let routes = Routes::new(
            GenerationServiceServer::new(generations)
                .max_decoding_message_size(limits::MAX_REQUEST),
        )
        .add_service(
            TokenizerServiceServer::new(text).max_decoding_message_size(limits::MAX_REQUEST),
        )
        .add_service(ModelServiceServer::new(models))
        .add_service(self.shared.health.service())
        .add_service(reflection)
        .add_service(reflection_alpha);
        let pass = from_fn_with_state(Arc::clone(&self.shared), calls::pass);
        routes.into_axum_router().layer(pass).into()
    }

    /// Returns the HTTP API.
    pub fn http(&self) -> axum::Router {
        http::router(Arc::clone(&self.shared))
    }

    /// Takes nothing new, waits for what runs, and ends it after `limit`.
    ///
    /// Requests that come meanwhile, and those that no lead has accepted yet, are refused as UNAVAILABLE
    /// with a delay. What runs goes on, at another lead where its own hands it over. Returns when every
    /// generation and every task of the front has ended.
    pub async fn drain(&self, limit: Duration) {
        self.shared.telemetry.vitals().enter(Phase::Draining, "");
        self.shared.health.drain();
        self.shared.draining.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(limit, self.shared.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(?limit, "ending generations that outlasted the drain");
            self.shared.stopping.cancel();
            self.shared.tasks.wait().await;
        }
        self.shared.stopping.cancel();
        self.shared.watching.close();
        self.shared.watching.wait().await;
    }
}

/// Looks the control tokens of the chat format up.
fn harmony(tokenizer: &Arc<Tokenizer>) -> Option<Harmony> {
    let found = Harmony::new(Arc::clone(tokenizer));
    found
        .inspect_err(|error| tracing::warn!(%error, "chats are refused"))
        .ok()
}

impl Shared {
    /// Encodes the text of a prompt.
    ///
    /// # Errors
    ///
    /// [`Error::Field`] for a text that cannot fit into the context, before it is encoded.
    async fn encode_prompt(&self, text: String) -> Result<Vec<TokenId>, Error> {
        let bytes = text.len();
        convert::prompt_room(bytes.div_ceil(self.longest_token), &self.model)?;
        let tokenizer = Arc::clone(&self.tokenizer);
        let encode = move || tokenizer.encode(&text);
        self.timed(TextWork::Encode, bytes, encode).await
    }

    /// Joins the bytes of tokens.
    ///
    /// # Errors
    ///
    /// As [`Shared::compute`].
    async fn decode(&self, tokens: Arc<[TokenId]>) -> Result<Vec<u8>, Error> {
        let tokenizer = Arc::clone(&self.tokenizer);
        let bytes = limits::TOKEN_BYTES * tokens.len();
        let decode = move || tokenizer.decode(&tokens);
        self.timed(TextWork::Decode, bytes, decode).await
    }

    /// Like [`Shared::compute`], and counts how long it took.
    async fn timed<T: Send + 'static>(
        &self,
        op: TextWork,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        let began = tokio::time::Instant::now();
        let done = self.compute(bytes, work).await;
        let times = &self.telemetry.metrics().tokenizer;
        times.observe_time(op, began.elapsed());
        done
    }

    /// Runs a computation over `bytes` bytes of text; where they are many, on a thread of its own
    /// and at the same time as few others. One of the threads is never taken by the longest texts,
    /// which take seconds each.
    ///
    /// # Errors
    ///
    /// [`Error::Broken`] if it panics.
    async fn compute<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Error> {
        if bytes <= limits::INLINE_BYTES {
            return Ok(work());
        }
        let acquire = async |permits: &Arc<Semaphore>| {
            let permit = Arc::clone(permits).acquire_owned().await;
            permit.expect("the semaphore is never closed")
        };
        let among_longest = match bytes > limits::LONG_REQUEST {
            true => Some(acquire(&self.longest_texts).await),
            false => None,
        };
        let permits = (among_longest, acquire(&self.long_texts).await);
        let done = self.tasks.spawn_blocking(move || {
            // Kept by the work, not by who waits for it: a client may leave, the thread goes on.
            let _permits = permits;
            work()
        });
        done.await.map_err(|_| Error::Broken)
    }

    /// Returns the opening message of a stream, but for what only its lead knows.
    fn started(&self, request: &Request) -> v1::GenerationStarted {
        v1::GenerationStarted {
            generation_id: request.id.clone(),
            model: self.model.name.clone(),
            system_fingerprint: self.model.system_fingerprint(),
            seed: request.sampling.seed,
            prompt_tokens: u32::try_from(request.prompt.len())
                .expect("a prompt is shorter than the context"),
            cached_prompt_tokens: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use proto::v1::{self, generate_request::Prompt};

    use super::testing::shared;
    use super::{Error, chat, generate, limits};

    /// One thread for long texts, so that they run in the order in which they are handed over.
    fn on_one_thread(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .max_blocking_threads(1)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(test);
    }

    #[test]
    fn few_long_texts_are_computed_on_at_once() {
        on_one_thread(async {
            let shared = shared();
            let all = limits::MAX_LONG_TEXTS as u32;
            let others = Arc::clone(&shared.long_texts).acquire_many_owned(all).await;
            let ran = Arc::new(AtomicBool::new(false));
            let work = {
                let ran = Arc::clone(&ran);
                move || ran.store(true, Ordering::SeqCst)
            };
            let mut waits = pin!(shared.compute(limits::INLINE_BYTES + 1, work));
            let after = async { tokio::task::spawn_blocking(|| {}).await.unwrap() };
            tokio::select! {
                biased;
                _ = &mut waits => panic!("it was not its turn"),
                () = after => {}
            }
            assert!(!ran.load(Ordering::SeqCst));
            drop(others);
            waits.await.unwrap();
            assert!(ran.load(Ordering::SeqCst));
        });
    }

    #[tokio::test]
    async fn the_longest_texts_leave_a_thread_to_others() {
        let shared = shared();
        let (hold_first, first_held) = std::sync::mpsc::channel::<()>();
        let (hold_second, second_held) = std::sync::mpsc::channel::<()>();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let first = shared.compute(limits::LONG_REQUEST + 1, move || {
            begun.send(()).unwrap();
            first_held.recv().unwrap();
        });
        let second = shared.compute(limits::LONG_REQUEST + 1, move || {
            second_held.recv().unwrap();
        });
        let others = async {
            // The second one waits, too, by then.
            has_begun.await.unwrap();
            let short = shared.compute(limits::LONG_REQUEST, || ());
            let short = tokio::time::timeout(Duration::from_secs(20), short).await;
            hold_first.send(()).unwrap();
            hold_second.send(()).unwrap();
            short
        };
        let (first, second, short) = tokio::join!(first, second, others);
        first.and(second).unwrap();
        short.expect("it did not wait for the longest").unwrap();
    }

    #[tokio::test]
    async fn a_computation_that_panics_is_an_error() {
        let work = || panic!("a mistake of ours");
        let done = shared().compute(limits::INLINE_BYTES + 1, work).await;
        let done: Result<(), Error> = done;
        assert!(matches!(done, Err(Error::Broken)));
    }

    /// Checks a request while no long text is computed on: what is refused was not encoded.
    async fn refused(request: v1::GenerateRequest, text: &str, times: usize) -> Error {
        let shared = shared();
        let all = limits::MAX_LONG_TEXTS as u32;
        let _others = shared.long_texts.acquire_many(all).await.unwrap();
        let prompt = Some(Prompt::Text(text.repeat(times)));
        let request = v1::GenerateRequest { prompt, ..request };
        tokio::select! {
            biased;
            checked = generate::check(&shared, request, generate::Origin::Grpc) => checked.unwrap_err(),
            () = tokio::task::yield_now() => panic!("the text was encoded"),
        }
    }

    #[tokio::test]
    async fn a_text_that_cannot_fit_is_refused_unread() {
        let shared = shared();
        let most = shared.model.max_context as usize * shared.longest_token;
        let error = refused(v1::GenerateRequest::default(), "a", most).await;
        assert_eq!(error.at_field(), Some("prompt"));
        assert!(error.to_string().contains("leave no room"), "{error}");
    }

    #[tokio::test]
    async fn a_conversation_that_cannot_fit_is_refused_unread() {
        let shared = shared();
        let all = limits::MAX_LONG_TEXTS as u32;
        let _others = shared.long_texts.acquire_many(all).await.unwrap();
        let most = shared.model.max_context as usize * shared.longest_token;
        let message = v1::Message {
            role: v1::Role::User.into(),
            text: "a".repeat(most),
            ..Default::default()
        };
        let request = v1::ChatRequest {
            messages: vec![message],
            ..Default::default()
        };
        let error = tokio::select! {
            biased;
            checked = chat::check(&shared, request) => checked.unwrap_err(),
            () = tokio::task::yield_now() => panic!("the text was encoded"),
        };
        assert_eq!(error.at_field(), Some("messages"));
        assert!(error.to_string().contains("leave no room"), "{error}");
    }

    #[tokio::test]
    async fn a_prompt_is_read_once_nothing_else_is_at_fault() {
        let unknown = v1::GenerateRequest {
            model: "gpt-7".into(),
            ..Default::default()
        };
        let error = refused(unknown, "a", 2 * limits::INLINE_BYTES).await;
        assert!(matches!(error, Error::UnknownModel { .. }), "{error}");
        let stop = v1::StopParams {
            stop_sequences: vec![String::new()],
            ..Default::default()
        };
        let stop = v1::GenerateRequest {
            stop: Some(stop),
            ..Default::default()
        };
        let error = refused(stop, "a", 2 * limits::INLINE_BYTES).await;
        assert_eq!(error.at_field(), Some("stop.stop_sequences[0]"));
    }
}
