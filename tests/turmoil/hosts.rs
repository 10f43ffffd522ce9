//! What runs on the simulated hosts: the membership store, coordinators and workers as they are.

use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use checkpoint::synth::{Preset, Spec, SpecialIds};
use checkpoint::{Checkpoint, ModelName};
use coordinator::{LeadConfig, Listeners, Served, StoreAt};
use records::{coordinator_key, lead_key, member_key};
use spec::{Geometry, Sampling};
use store::{MemoryStore, Store};
use tokenizer::Tokenizer;
use tokenizer::synthetic::tokenizer_json;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use worker::{Numerics, Threads};

use crate::network::{dialer, listen};

/// The host of the membership store.
pub(crate) const STORE: &str = "store";

/// The hosts of the coordinators, each of which may lead.
pub(crate) const COORDINATORS: [&str; 2] = ["coordinator-0", "coordinator-1"];

/// The hosts of the workers: one more than the group needs.
pub(crate) const WORKERS: [&str; 3] = ["worker-0", "worker-1", "worker-2"];

/// The only group.
const GROUP: &str = "0";

/// Ranks that make the group complete.
const RANKS: usize = 2;

/// Where everybody serves; hosts have addresses of their own.
const API: u16 = 7100;
const HTTP: u16 = 7180;
const INTERNAL: u16 = 7200;
const STORE_PORT: u16 = 2379;

/// Where clients reach the coordinators.
pub(crate) fn fronts() -> Vec<String> {
    let at = |host: &&str| format!("http://{host}:{API}");
    COORDINATORS.iter().map(at).collect()
}

/// Where a worker serves.
pub(crate) fn internal(host: &str) -> String {
    format!("http://{host}:{INTERNAL}")
}

/// Returns a client of the store.
pub(crate) fn client_of_store() -> Store {
    let config = store::Config {
        endpoints: vec![format!("{STORE}:{STORE_PORT}")],
        cluster: "simulated".into(),
        dialer: dialer(),
    };
    Store::new(config).unwrap()
}

/// Whether everybody's record lies in the store, and somebody leads there.
pub(crate) async fn all_present(store: &Store) -> bool {
    let coordinators = COORDINATORS.iter().map(|name| coordinator_key(name));
    let workers = WORKERS.iter().map(|name| member_key(name));
    for key in coordinators.chain(workers).chain([lead_key(GROUP)]) {
        if !matches!(store.get(&key).await, Ok(Some(_))) {
            return false;
        }
    }
    true
}

/// The model of all processes, and what a coordinator has to know of it.
pub(crate) struct Model {
    name: ModelName,
    weights: String,
    geometry: Geometry,
    tokenizer: Arc<Tokenizer>,
}

impl Model {
    /// Makes the smallest one there is.
    pub(crate) fn tiny() -> Self {
        let mut spec = Spec::new(Preset::Tiny);
        let files = tokenizer_json(spec.vocab).unwrap();
        spec.special = Some(SpecialIds {
            bos: files.bos,
            pad: files.pad,
            eos: files.eos,
            call: files.call,
        });
        let checkpoint = Checkpoint::synth(&spec).unwrap();
        Self {
            weights: checkpoint.fingerprint().unwrap().to_string(),
            geometry: checkpoint.geometry().clone(),
            tokenizer: Arc::new(Tokenizer::from_bytes(&files.tokenizer_json).unwrap()),
            name: ModelName::Synth(spec),
        }
    }
}

/// Serves an empty store: one that starts again has lost everything.
pub(crate) async fn store() -> turmoil::Result {
    let store = MemoryStore::new();
    let server = Server::builder().add_routes(store.routes());
    let listener = listen(STORE_PORT).await?;
    tokio::spawn(async move { store.run(CancellationToken::new()).await });
    server.serve_with_incoming(listener).await?;
    Err("the store ended".into())
}

/// Runs a coordinator, which must not end by itself.
pub(crate) async fn coordinator(name: &str, model: &Model) -> turmoil::Result {
    let lead = LeadConfig {
        geometry: model.geometry.clone(),
        weights_fingerprint: model.weights.clone(),
        tokenizer_fingerprint: model.tokenizer.fingerprint().to_owned(),
        numerics: "exact".into(),
        num_ranks: RANKS,
        kv_bytes_per_rank: 16 << 20,
        max_sequences_per_rank: 8,
        max_step_rows: 128,
        max_in_flight: 2,
        max_waiting: 64,
        hold: Duration::from_secs(120),
    };
    let served = Served {
        name: "tiny".into(),
        max_output_tokens: 1024,
        eos_tokens: Vec::new(),
        default_sampling: Sampling::default(),
        tokenizer: Arc::clone(&model.tokenizer),
    };
    let config = coordinator::Config {
        name: name.into(),
        advertise: coordinator::Advertised {
            internal: internal(name),
            grpc: format!("http://{name}:{API}"),
            http: format!("http://{name}:{HTTP}"),
            admin: None,
        },
        store: StoreAt::Endpoints(vec![format!("{STORE}:{STORE_PORT}")]),
        dialer: dialer(),
        cluster: "simulated".into(),
        groups: vec![GROUP.into()],
        lead,
        served,
        drain: Duration::from_secs(10),
        telemetry: None,
    };
    let listeners = Listeners {
        grpc: listen(API).await?,
        http: listen(HTTP).await?,
        internal: listen(INTERNAL).await?,
    };
    let running = coordinator::start(config, listeners, CancellationToken::new())?;
    running.wait().await?;
    Err("the coordinator ended".into())
}

/// Runs a worker of one rank, which must not end by itself.
pub(crate) async fn worker(name: &str, model: &Model) -> turmoil::Result {
    let config = worker::Config {
        name: name.into(),
        model: model.name.clone(),
        tokenizer_fingerprint: model.tokenizer.fingerprint().to_owned(),
        ranks: NonZeroU32::MIN,
        threads: Threads::Any(NonZeroUsize::MIN),
        numerics: Numerics::Exact,
        packed_cache: None,
        store: client_of_store(),
        dialer: dialer(),
        group: GROUP.into(),
        advertise: Some(internal(name)),
        admin: None,
        max_kv_bytes: NonZeroU64::new(1 << 30).unwrap(),
        drain: Duration::from_secs(10),
        // Hosts of a simulation are no machines.
        tcp_exchange: true,
        expert_metrics: false,
        telemetry: None,
    };
    let listener = listen(INTERNAL).await?;
    let running = worker::start(config, listener, CancellationToken::new()).await?;
    running.wait().await?;
    Err("the worker ended".into())
}
