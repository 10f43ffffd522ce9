//! The front: the public API, checks, rendering, tokens to text, and streams.
//!
//! A request goes one way: `service` or `http` takes it, `convert` checks it once,
//! `generation` follows it at the lead, `output` turns its tokens into what the client sees,
//! `stream` numbers that, and `replies` carries it to the client. A front knows the lead only as
//! a `LeadService`; it holds no state that a request did not bring.

mod chat;
mod convert;
mod deadline;
mod error;
mod generate;
mod generation;
mod health;
mod http;
mod limits;
mod model;
mod output;
mod reflection;
mod registry;
mod replies;
mod request;
mod service;
mod stop;
mod stream;
mod text;

#[cfg(test)]
mod testing;

use std::sync::Arc;
use std::time::Duration;

use proto::internal::lead_service_client::LeadServiceClient;
use proto::v1;
use proto::v1::generation_service_server::GenerationServiceServer;
use proto::v1::model_service_server::ModelServiceServer;
use proto::v1::tokenizer_service_server::TokenizerServiceServer;
use spec::TokenId;
use tokenizer::Tokenizer;
use tokenizer::harmony::Harmony;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::service::Routes;
use tonic::transport::Channel;

pub use model::Model;

use health::Health;
use registry::Registry;
use request::Request;

/// How a front behaves towards its clients.
#[derive(Clone, Debug)]
pub struct FrontConfig {
    /// A gRPC stream on which nothing was sent for this long gets a heartbeat.
    pub heartbeat: Duration,
    /// A client that reads nothing for this long while something waits for it is let go.
    pub client_stall: Duration,
}

/// What every request of a front uses.
#[derive(Debug)]
struct Shared {
    config: FrontConfig,
    model: Arc<Model>,
    tokenizer: Arc<Tokenizer>,
    /// The chat format; a vocabulary without its control tokens has none.
    harmony: Option<Harmony>,
    lead: LeadServiceClient<Channel>,
    registry: Arc<Registry>,
    health: Health,
    /// Seconds since 1970 when the front started.
    started_at: u64,
    /// Every task of the front, and every live generation.
    tasks: TaskTracker,
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
    /// Starts a front on the current tokio runtime: it watches the lead from now on.
    #[must_use]
    pub fn start(
        config: FrontConfig,
        model: Model,
        tokenizer: Arc<Tokenizer>,
        lead: LeadServiceClient<Channel>,
    ) -> Self {
        let lead = lead.max_decoding_message_size(limits::MAX_LEAD_MESSAGE);
        let shared = Arc::new(Shared {
            config,
            model: Arc::new(model),
            harmony: harmony(&tokenizer),
            tokenizer,
            lead,
            registry: Registry::new(limits::MAX_LIVE, limits::MAX_ENDED),
            health: Health::new(),
            started_at: http::unix_time(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            stopping: CancellationToken::new(),
        });
        shared.tasks.spawn(health::watch_lead(Arc::clone(&shared)));
        Self { shared }
    }

    /// Returns the public gRPC services, with health and reflection.
    #[must_use]
    pub fn grpc(&self) -> Routes {
        let generations = service::Generations(Arc::clone(&self.shared));
        let text = text::Text(Arc::clone(&self.shared));
        let models = model::Models(Arc::clone(&self.shared.model));
        let (reflection, reflection_alpha) = reflection::services();
        Routes::new(
            GenerationServiceServer::new(generations)
                .max_decoding_message_size(limits::MAX_REQUEST),
        )
        .add_service(
            TokenizerServiceServer::new(text).max_decoding_message_size(limits::MAX_REQUEST),
        )
        .add_service(ModelServiceServer::new(models))
        .add_service(self.shared.health.service())
        .add_service(reflection)
        .add_service(reflection_alpha)
    }

    /// Returns the HTTP API.
    pub fn http(&self) -> axum::Router {
        http::router(Arc::clone(&self.shared))
    }

    /// Takes nothing new, waits for what runs, and ends it after `limit`.
    ///
    /// Requests that come meanwhile are refused as UNAVAILABLE with a delay. Returns when every
    /// generation and every task of the front has ended.
    pub async fn drain(&self, limit: Duration) {
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
    /// Encodes an ordinary text, on a thread of its own where it is long.
    async fn encode(&self, text: String) -> Vec<TokenId> {
        let tokenizer = Arc::clone(&self.tokenizer);
        self.compute(text.len(), move || tokenizer.encode(&text))
            .await
    }

    /// Runs a computation over `bytes` bytes of text, on a thread of its own where it is long.
    async fn compute<T: Send + 'static>(
        &self,
        bytes: usize,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        if bytes <= limits::ENCODE_INLINE {
            return work();
        }
        let done = self.tasks.spawn_blocking(work).await;
        done.expect("a computation is only cancelled when the runtime ends, and never panics")
    }

    /// Returns the opening message of a stream.
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
