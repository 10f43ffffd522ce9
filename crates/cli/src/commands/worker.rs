//! `conclave worker`: one or more ranks that hold experts and compute.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use ::telemetry::{Telemetry, WorkerTelemetry, admin};
use sockets::Dialer;
use store::Store;
use tokio_util::sync::CancellationToken;
use worker::{Config, Cores, Numerics, Threads};

use crate::args::WorkerArgs;
use crate::listen::shown;
use crate::{Outcome, about, cache, cores, memory, model, signals};
use crate::{host_and_port, in_words};

/// Registers with the coordinator and computes until told to end.
pub(crate) async fn run(args: WorkerArgs) -> Outcome {
    let shutdown = signals::shutdown(args.with_parent)?;
    if let Err(error) = sockets::raise_files() {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
    let listener = args.listen.bind("--listen").await?;
    let local = listener.local_addr();
    let telemetry = telemetry(&args)?;
    let (admin, ended) = (args.admin.bind("--admin").await?, CancellationToken::new());
    let (admin_at, _ended) = (admin.local_addr(), ended.clone().drop_guard());
    tokio::spawn(admin::serve(admin, telemetry.clone(), ended));
    let shown = shown(args.advertise_admin.as_ref(), &args.admin, admin_at);
    let (advertise, model) = (args.advertise.clone(), args.model.clone());
    let advertise = advertise.or_else(|| args.listen.named(local));
    tracing::info!(admin = %admin_at, "its state and metrics are shown");
    let ranks = args.ranks.get();
    let config = config(args, local.port(), shown)?;
    let threads = config.threads.parts(ranks).unwrap_or_default();
    let crowding = cores::crowding(threads.iter().map(Threads::count).sum());
    let straddling = cores::straddling(&cores::nodes(), &threads);
    for why in crowding.iter().chain(&straddling) {
        tracing::warn!("{why}");
    }
    let opening = tokio::task::spawn_blocking(move || model::tokenizer_fingerprint(&model));
    let config = Config {
        telemetry: Some(telemetry),
        advertise,
        tokenizer_fingerprint: opening.await.map_err(in_words)??,
        ..config
    };
    let running = tokio::select! {
        running = worker::start(config, listener, shutdown.clone()) => running.map_err(in_words)?,
        () = shutdown.cancelled() => return Ok(()),
    };
    running.wait().await.map_err(in_words)
}

/// Makes what operators see of the process.
fn telemetry(args: &WorkerArgs) -> Result<WorkerTelemetry, String> {
    let telemetry = Telemetry::worker(about(&args.model)?, &args.group, args.ranks.get());
    let counted = telemetry.clone();
    crate::telemetry::count(move |level| counted.process().log_events.add(level, 1));
    Ok(telemetry)
}

/// Checks the settings as a start does, without the sockets and the model.
pub(crate) fn check(args: &WorkerArgs) -> Outcome {
    let shown = args.advertise_admin.clone();
    let config = config(args.clone(), args.listen.port(), shown)?;
    config.check().map_err(in_words)
}

/// Makes a configuration of the settings, without what is read from the model.
fn config(args: WorkerArgs, port: u16, admin: Option<String>) -> Result<Config, String> {
    let store = store::Config {
        endpoints: args.store,
        cluster: args.cluster.cluster,
        dialer: Dialer::default(),
    };
    Ok(Config {
        name: args.name.unwrap_or_else(|| host_and_port(port)),
        model: model::parse(&args.model)?,
        tokenizer_fingerprint: String::new(),
        ranks: small(args.ranks.get(), "--ranks")?,
        threads: threads(args.threads, args.cores),
        numerics: numerics(&args.compute.numerics)?,
        packed_cache: packed_cache(&args.compute.packed_cache),
        store: Store::new(store).map_err(in_words)?,
        dialer: Dialer::default(),
        group: args.group,
        advertise: args.advertise,
        admin,
        max_kv_bytes: memory::usable()?,
        drain: args.drain.time(),
        tcp_exchange: args.tcp_exchange,
        expert_metrics: args.expert_metrics,
        telemetry: None,
    })
}

/// Chooses threads: as many as `--threads` says, where `--cores` says, or all of this machine's.
pub(super) fn threads(count: Option<NonZeroUsize>, cores: Option<Cores>) -> Threads {
    let machine = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    match cores {
        Some(cores) => Threads::On(cores),
        None => Threads::Any(count.unwrap_or_else(machine)),
    }
}

/// Reads what `--numerics` says.
pub(super) fn numerics(name: &str) -> Result<Numerics, String> {
    match name {
        "exact" => Ok(Numerics::Exact),
        "fast" => Ok(Numerics::Fast),
        other => Err(format!("--numerics {other}: exact or fast")),
    }
}

/// Reads what `--packed-cache` says.
pub(super) fn packed_cache(place: &str) -> Option<PathBuf> {
    match place {
        "off" => None,
        "auto" => match cache::folder() {
            Some(folder) => Some(folder.join("packed")),
            None => {
                tracing::info!(
                    "neither XDG_CACHE_HOME nor HOME says where packed weights could be kept"
                );
                None
            }
        },
        dir => Some(dir.into()),
    }
}

fn small(number: usize, flag: &str) -> Result<NonZeroU32, String> {
    let fitting = u32::try_from(number).ok().and_then(NonZeroU32::new);
    fitting.ok_or_else(|| format!("{flag} {number} is out of range"))
}
