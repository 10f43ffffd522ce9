//! Puts front, leads and elections together on three listeners; [`Running`] takes them apart.

mod build;
mod grpc;
mod http;
mod phases;
mod running;

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use cluster::LeadRecord;
use proto::internal::CoordinatorRecord;
use sockets::{Dialer, Listener};
use spec::{Sampling, Term, TokenId};
use telemetry::{CoordinatorTelemetry, Telemetry};
use tokenizer::Tokenizer;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::build::{Builder, Orders, Place};
use crate::directory;
use crate::front::{Front, FrontConfig, Model};
use crate::lead::{LeadConfig, Leads};
use crate::quarantine;

pub use self::running::Running;

/// What a coordinator serves, and how.
#[derive(Debug)]
pub struct Config {
    /// Its name among the cluster's coordinators.
    pub name: String,
    /// Where others reach its listeners.
    pub advertise: Advertised,
    /// The membership store.
    pub store: StoreAt,
    /// Connects to the store, workers and other coordinators.
    pub dialer: Dialer,
    /// The cluster: whose keys in the store are meant.
    pub cluster: String,
    /// Groups that it may lead, at least one.
    pub groups: Vec<String>,
    /// The leads' part, the same for every group.
    pub lead: LeadConfig,
    /// What clients see of the model.
    pub served: Served,
    /// How long streams may go on after the coordinator was told to end.
    pub drain: Duration,
    /// What shows operators the coordinator; absent, nobody looks.
    pub telemetry: Option<CoordinatorTelemetry>,
}

/// Where others reach a coordinator's listeners: `http://HOST:PORT`. What is only shown may also be
/// `https://HOST:PORT`, and is empty where nobody knows.
#[derive(Clone, Debug)]
pub struct Advertised {
    /// Workers and fronts, the internal services.
    pub internal: String,
    /// Clients, the gRPC API.
    pub grpc: String,
    /// Clients, the HTTP API.
    pub http: String,
    /// Operators, probes and metrics; absent where there are none.
    pub admin: Option<String>,
}

/// Where the membership store is.
#[derive(Clone, Debug)]
pub enum StoreAt {
    /// In this coordinator, served on its internal listener.
    Memory,
    /// At these endpoints, `HOST:PORT`.
    Endpoints(Vec<String>),
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

/// Bound sockets: the caller chose the addresses, and reports what is in use. The public ones get a
/// share of the files that the process may open.
#[derive(Debug)]
pub struct Listeners {
    /// The public gRPC API.
    pub grpc: Listener,
    /// The public HTTP API.
    pub http: Listener,
    /// Workers and fronts.
    pub internal: Listener,
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

/// Starts the front, the elections, and the three servers.
///
/// # Errors
///
/// If the configuration cannot work.
pub fn start(
    config: Config,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> Result<Running, Error> {
    let max_context = config.lead.max_context().map_err(Error::Config)?;
    check(&config)?;
    let incarnation = RandomState::new().build_hasher().finish();
    let record = record(&config, incarnation);
    let (failing, failures) = mpsc::channel(1);
    let builder = Builder::new(failing);
    let (end, leads) = (builder.end.clone(), Leads::default());
    let orders = Orders::new(&config.groups);
    // Its own token: an operator ends the coordinator, and not what else the caller runs.
    let shutdown = shutdown.child_token();
    let orders_to = (orders.to, shutdown.clone());
    let store = builder.internal(&config, incarnation, listeners.internal, &leads, orders_to)?;

    let telemetry = telemetry(&config);
    telemetry.layers(config.lead.geometry.num_layers());
    let seeing = telemetry.clone();
    store.observe(move |event| seeing.store_sees(event));
    let (addresses, known) = watch::channel(crate::front::Addresses::default());
    let follow = phases::follow(telemetry.clone(), store.clone(), known.clone(), end.clone());
    builder.tasks.spawn(follow);
    let (peers, others) = watch::channel(directory::Peers::default());
    let follow = directory::follow_leads(store.clone(), config.lead.hold, addresses, end.clone());
    builder.tasks.spawn(follow);
    let follow = directory::follow_peers(store.clone(), peers, end.clone());
    builder.tasks.spawn(follow);
    let keep = quarantine::keep(store.clone(), end.clone());
    builder.tasks.spawn(keep);
    let strangers = no_strangers(record.clone(), others.clone(), end.clone());
    builder.watch("membership", strangers);

    let lease = watch::Sender::new(None);
    let place = Place {
        store: &store,
        dialer: &config.dialer,
        lease: &lease,
        lead: &config.lead,
        leads: &leads,
        me: LeadRecord {
            name: record.name.clone(),
            incarnation,
            address: record.address.clone(),
            term: Term(0),
        },
        groups: &config.groups,
        telemetry: &telemetry,
    };
    let groups = orders.from.into_iter();
    let groups = groups.map(|(group, orders)| builder.group(&group, orders, &place));
    let groups = groups.collect();
    let present = builder.present((store, config.dialer.clone()), record, lease);

    let model = model(&config, max_context as u32);
    let front = FrontConfig::new(config.lead.hold, config.dialer);
    let front = Front::start(front, model, config.served.tokenizer, known, telemetry);
    let drained = builder.public(&front, listeners.grpc, listeners.http);
    Ok(Running {
        front,
        tasks: builder.tasks,
        shutdown,
        drained,
        groups,
        name: config.name,
        drain: config.drain,
        peers: others,
        present,
        end,
        failures,
    })
}

/// Finds early what others would refuse.
fn check(config: &Config) -> Result<(), Error> {
    let fault = |what: &str, why: String| Err(Error::Config(format!("{what}: {why}")));
    if let Some(why) = records::name_fault(&config.name) {
        return fault("--name", why);
    }
    if config.groups.is_empty() {
        return fault("--groups", "name at least one".into());
    }
    let mut groups = config.groups.iter();
    if let Some(why) = groups.find_map(|group| records::name_fault(group)) {
        return fault("--groups", why);
    }
    config.advertise.check().map_err(Error::Config)
}

impl Advertised {
    /// Checks every address.
    ///
    /// # Errors
    ///
    /// In words, naming the first that is none.
    fn check(&self) -> Result<(), String> {
        if let Some(why) = records::address_fault(&self.internal) {
            return Err(format!("--advertise: {why}"));
        }
        let shown = [
            ("--advertise-grpc", Some(&self.grpc)),
            ("--advertise-http", Some(&self.http)),
            ("--advertise-admin", self.admin.as_ref()),
        ];
        for (flag, address) in shown {
            let given = address.filter(|address| !address.is_empty());
            if let Some(why) = given.and_then(|address| records::shown_fault(address)) {
                return Err(format!("{flag}: {why}"));
            }
        }
        Ok(())
    }
}

/// Returns what shows operators the coordinator.
fn telemetry(config: &Config) -> CoordinatorTelemetry {
    let unseen = || {
        let (groups, ranks) = (config.groups.clone(), config.lead.num_ranks);
        Telemetry::unseen_coordinator(groups, ranks)
    };
    config.telemetry.clone().unwrap_or_else(unseen)
}

/// Returns what the coordinator says of itself in the store.
fn record(config: &Config, incarnation: u64) -> CoordinatorRecord {
    CoordinatorRecord {
        name: config.name.clone(),
        incarnation,
        address: config.advertise.internal.clone(),
        grpc: config.advertise.grpc.clone(),
        http: config.advertise.http.clone(),
        admin: config.advertise.admin.clone().unwrap_or_default(),
        build: env!("CARGO_PKG_VERSION").to_owned(),
        weights_fingerprint: config.lead.weights_fingerprint.clone(),
        tokenizer_fingerprint: config.lead.tokenizer_fingerprint.clone(),
        groups: config.groups.clone(),
        ranks: config.lead.num_ranks as u32,
        draining: false,
    }
}

fn model(config: &Config, max_context: u32) -> Model {
    let served = &config.served;
    Model {
        name: served.name.clone(),
        aliases: Vec::new(),
        max_context,
        max_output: served.max_output_tokens,
        vocab_size: config.lead.geometry.vocab_size as u32,
        weights_fingerprint: config.lead.weights_fingerprint.clone(),
        tokenizer_fingerprint: config.lead.tokenizer_fingerprint.clone(),
        numerics: config.lead.numerics.clone(),
        eos_tokens: served.eos_tokens.clone(),
        default_sampling: served.default_sampling.clone(),
    }
}

/// Ends with an error where another coordinator was in this cluster first and serves something else.
async fn no_strangers(
    me: CoordinatorRecord,
    mut peers: watch::Receiver<directory::Peers>,
    end: CancellationToken,
) -> Result<(), String> {
    let met = tokio::select! {
        met = peers.wait_for(|peers| peers.stranger(&me).is_some()) => met,
        () = end.cancelled() => return Ok(()),
    };
    let met = met.ok().and_then(|peers| peers.stranger(&me).cloned());
    met.map_or(Ok(()), |other| {
        Err(format!(
            "coordinator '{}' at {} serves {} in this cluster: give each cluster a --cluster of its \
             own",
            other.name,
            other.address,
            directory::difference(&other, &me).unwrap_or_default()
        ))
    })
}
