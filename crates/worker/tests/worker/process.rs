//! A worker that can be killed like a process: it has a runtime of its own.

use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::Duration;

use checkpoint::ModelName;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use worker::{Config, Error, Numerics, Threads};

use crate::coordinator::store_at;

/// The model that all tests serve.
pub(crate) const MODEL: &str = "synth:tiny,layers=2,seed=7";

/// Bytes that the KV of a worker may take.
pub(crate) const MAX_KV_BYTES: u64 = 16 << 20;

pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) ranks: u32,
    pub(crate) address: String,
    pub(crate) shutdown: CancellationToken,
    runtime: Option<Runtime>,
    ended: oneshot::Receiver<Result<(), Error>>,
}

/// Configures a worker that finds the membership store at its coordinator's.
pub(crate) fn config(name: &str, ranks: u32, coordinator: SocketAddr) -> Config {
    Config {
        name: name.into(),
        model: ModelName::parse(MODEL).unwrap(),
        tokenizer_fingerprint: String::new(),
        ranks: NonZeroU32::new(ranks).unwrap(),
        threads: Threads::Any(NonZeroUsize::MIN),
        numerics: Numerics::Exact,
        packed_cache: None,
        store: store_at(coordinator),
        dialer: sockets::Dialer::default(),
        group: crate::lead::GROUP.into(),
        advertise: None,
        admin: None,
        max_kv_bytes: NonZeroU64::new(MAX_KV_BYTES).unwrap(),
        drain: Duration::from_secs(10),
        // A worker that dies in a test leaves its threads, and so its sockets, to the process.
        tcp_exchange: true,
        expert_metrics: false,
        telemetry: None,
    }
}

/// Port 1 has no listener on a test machine; dialling it fails at once.
pub(crate) fn nowhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 1))
}

impl Process {
    /// Starts a worker whose coordinator never answers.
    pub(crate) async fn alone(name: &str, ranks: u32) -> Self {
        Self::start(config(name, ranks, nowhere())).await
    }

    pub(crate) async fn start(config: Config) -> Self {
        let (name, ranks) = (config.name.clone(), config.ranks.get());
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let shutdown = CancellationToken::new();
        let (address_sender, address) = oneshot::channel();
        let (ended_sender, ended) = oneshot::channel();
        let token = shutdown.clone();
        runtime.spawn(async move {
            let listener = sockets::Listener::bind("127.0.0.1:0").await.unwrap();
            let running = worker::start(config, listener, token).await.unwrap();
            address_sender.send(running.address().to_owned()).unwrap();
            ended_sender.send(running.wait().await).ok();
        });
        let address = address.await.unwrap();
        Self {
            name,
            ranks,
            address,
            shutdown,
            runtime: Some(runtime),
            ended,
        }
    }

    /// Waits until the worker has ended by itself.
    pub(crate) async fn ended(mut self) -> Result<(), Error> {
        let ended = (&mut self.ended).await.unwrap();
        self.kill();
        ended
    }

    /// Takes everything away from the worker at once: its sockets are reset, nothing is said.
    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
