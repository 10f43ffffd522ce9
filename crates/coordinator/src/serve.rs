//! Puts front and lead together on three listeners, and takes them apart in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::serve::ListenerExt as _;
use proto::internal::lead_service_client::LeadServiceClient;
use spec::{Sampling, TokenId};
use tokenizer::Tokenizer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

use crate::front::{Front, FrontConfig, Model};
use crate::lead::{Lead, LeadConfig};
use crate::limits;

/// What a coordinator serves, and how.
#[derive(Debug)]
pub struct Config {
    /// The lead's part.
    pub lead: LeadConfig,
    /// What clients see of the model.
    pub served: Served,
}

/// What clients see of a model.
#[derive(Debug)]
pub struct Served {
    /// Its name.
    pub name: String,
    /// Most tokens of output that a request gets.
    pub max_output_tokens: u32,
    /// Tokens that end the model's turn.
    pub eos_tokens: Vec<TokenId>,
    /// Sampling where a request says nothing.
    pub default_sampling: Sampling,
    /// Its tokenizer.
    pub tokenizer: Arc<Tokenizer>,
}

/// Bound sockets: the caller chose the addresses, and reports what is in use.
#[derive(Debug)]
pub struct Listeners {
    /// The public gRPC API.
    pub grpc: TcpListener,
    /// The public HTTP API.
    pub http: TcpListener,
    /// Workers and fronts.
    pub internal: TcpListener,
}

/// Why a coordinator does not start, or ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot work.
    #[error("{0}")]
    Config(String),
    /// The lead or a server failed.
    #[error("the {server} failed: {why}")]
    Server {
        /// Which.
        server: &'static str,
        /// What it said.
        why: String,
    },
}

/// A running coordinator.
#[derive(Debug)]
pub struct Running {
    front: Front,
    tasks: TaskTracker,
    /// Told to end.
    shutdown: CancellationToken,
    /// The front has drained: its servers close.
    drained: CancellationToken,
    /// The lead takes nothing new and ends.
    lead_shutdown: CancellationToken,
    failures: mpsc::Receiver<Error>,
}

/// How the front treats its clients: a heartbeat keeps proxies from closing a quiet stream, a client
/// that takes nothing for a minute is not coming back, and the largest body comes in half a minute
/// also over 5 Mbit/s.
fn front_config(hold: Duration) -> FrontConfig {
    FrontConfig {
        heartbeat: Duration::from_secs(10),
        client_stall: Duration::from_secs(60),
        body_time: Duration::from_secs(30),
        hold,
    }
}

/// Calls of one client's connection at a time; further ones wait at the client.
const MAX_CALLS: u32 = 1024;

/// How long connections may take to close once every stream has ended.
const CLOSE: Duration = Duration::from_secs(3);

impl Running {
    /// Waits for the end: after shutdown, until the sequences have ended or the drain time is over.
    ///
    /// # Errors
    ///
    /// The first server that failed by itself; the others are then ended in order.
    pub async fn wait(mut self) -> Result<(), Error> {
        let failed = tokio::select! {
            failure = self.failures.recv() => failure,
            () = self.shutdown.cancelled() => None,
        };
        // A client that does not read can hold its generation's end up for longer.
        let drain = self.front.drain(limits::DRAIN);
        if tokio::time::timeout(limits::DRAIN + CLOSE, drain)
            .await
            .is_err()
        {
            tracing::warn!("clients that do not read were left behind");
        }
        self.drained.cancel();
        self.lead_shutdown.cancel();
        self.tasks.close();
        if tokio::time::timeout(CLOSE, self.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("connections were still open at the end");
        }
        failed.map_or(Ok(()), Err)
    }
}

/// Starts the lead, the front, and the three servers.
///
/// # Errors
///
/// If the configuration cannot work.
pub fn start(
    config: Config,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> Result<Running, Error> {
    let tasks = TaskTracker::new();
    let (failing, failures) = mpsc::channel(1);
    let (drained, lead_shutdown) = (CancellationToken::new(), CancellationToken::new());
    // The internal server stays until the last step is done.
    let done = CancellationToken::new();
    let weights_fingerprint = config.lead.weights_fingerprint.clone();
    let vocab_size = config.lead.geometry.vocab_size as u32;
    let hold = config.lead.hold;
    let lead = Lead::start(config.lead, &tasks, lead_shutdown.clone(), done.clone());
    let (lead, lead_ended) = lead.map_err(Error::Config)?;

    let internal = listeners
        .internal
        .local_addr()
        .map_err(|error| Error::Server {
            server: "internal",
            why: error.to_string(),
        })?;
    let channel = to_lead(internal)?;
    let served = config.served;
    let model = Model {
        name: served.name,
        aliases: Vec::new(),
        max_context: lead.max_context() as u32,
        max_output: served.max_output_tokens,
        vocab_size,
        weights_fingerprint,
        tokenizer_fingerprint: served.tokenizer.fingerprint().to_owned(),
        numerics: "exact".into(),
        eos_tokens: served.eos_tokens,
        default_sampling: served.default_sampling,
    };
    let lead_client = LeadServiceClient::new(channel);
    let front = Front::start(front_config(hold), model, served.tokenizer, lead_client);

    let internal = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(limits::KEEPALIVE))
        .http2_keepalive_timeout(Some(limits::KEEPALIVE_TIMEOUT))
        .add_service(lead.cluster_service())
        .add_service(lead.lead_service())
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listeners.internal).with_nodelay(Some(true)),
            done.cancelled_owned(),
        );
    let grpc = Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(limits::CLIENT_KEEPALIVE))
        .http2_keepalive_timeout(Some(limits::CLIENT_KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(MAX_CALLS)
        .add_routes(front.grpc())
        .serve_with_incoming_shutdown(
            TcpIncoming::from(listeners.grpc).with_nodelay(Some(true)),
            drained.clone().cancelled_owned(),
        );
    let http = axum::serve(listeners.http.tap_io(send_at_once), front.http())
        .with_graceful_shutdown(drained.clone().cancelled_owned());

    watch(&tasks, &failing, "lead", async {
        lead_ended.await.map_err(|error| error.to_string())?
    });
    watch(&tasks, &failing, "internal server", async {
        internal.await.map_err(|e| e.to_string())
    });
    watch(&tasks, &failing, "gRPC server", async {
        grpc.await.map_err(|e| e.to_string())
    });
    watch(&tasks, &failing, "HTTP server", async {
        http.await.map_err(|e| e.to_string())
    });
    Ok(Running {
        front,
        tasks,
        shutdown,
        drained,
        lead_shutdown,
        failures,
    })
}

/// Returns the front's way to the lead.
fn to_lead(address: SocketAddr) -> Result<Channel, Error> {
    let lead = Endpoint::from_shared(format!("http://{address}"));
    let lead = lead.map_err(|error| Error::Config(error.to_string()))?;
    Ok(lead
        .tcp_nodelay(true)
        .initial_stream_window_size(limits::FOLLOW_WINDOW)
        .initial_connection_window_size(limits::CONNECTION_WINDOW)
        .http2_keep_alive_interval(limits::KEEPALIVE)
        .keep_alive_timeout(limits::KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
        .connect_lazy())
}

/// Small events must not wait until the client has acknowledged the ones before.
fn send_at_once(connection: &mut TcpStream) {
    if let Err(error) = connection.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
}

/// Runs a server; a failure of its own ends the coordinator.
fn watch(
    tasks: &TaskTracker,
    failing: &mpsc::Sender<Error>,
    server: &'static str,
    run: impl Future<Output = Result<(), String>> + Send + 'static,
) {
    let failing = failing.clone();
    tasks.spawn(async move {
        if let Err(why) = run.await {
            // One failure is enough to end; a second finds the place taken.
            drop(failing.try_send(Error::Server { server, why }));
        }
    });
}
