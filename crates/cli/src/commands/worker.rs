//! `conclave worker`: one or more ranks that hold experts and compute.

use std::num::NonZeroU32;

use ::telemetry::{Telemetry, WorkerTelemetry, admin};
use sockets::Dialer;
use store::Store;
use tokio_util::sync::CancellationToken;
use worker::{Config, Numerics};

use crate::args::WorkerArgs;
use crate::listen::advertised;
use crate::{Outcome, about, memory, model, signals};
use crate::{host_and_port, in_words};

/// Registers with the coordinator and computes until told to end.
pub(crate) async fn run(args: WorkerArgs) -> Outcome {
    let shutdown = signals::shutdown(args.with_parent)?;
    let listener = args.listen.bind("--listen").await?;
    let port = listener.local_addr().port();
    let telemetry = telemetry(&args)?;
    let (admin, ended) = (args.admin.bind("--admin").await?, CancellationToken::new());
    let (admin_at, _ended) = (admin.local_addr(), ended.clone().drop_guard());
    tokio::spawn(admin::serve(admin, telemetry.clone(), ended));
    let shown = advertised(args.advertise_admin.as_ref(), admin_at);
    tracing::info!(admin = %admin_at, "its state and metrics are shown");
    let opening = tokio::task::spawn_blocking(move || config(args, port, Some(shown)));
    let config = Config {
        telemetry: Some(telemetry),
        ..opening.await.map_err(in_words)??
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

/// Checks the settings as a start does, without the sockets.
pub(crate) fn check(args: &WorkerArgs) -> Outcome {
    let shown = args.advertise_admin.clone();
    let config = config(args.clone(), args.listen.port(), shown)?;
    config.check().map_err(in_words)
}

fn config(args: WorkerArgs, port: u16, admin: Option<String>) -> Result<Config, String> {
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(machine, usize::from);
    let store = store::Config {
        endpoints: args.store,
        cluster: args.cluster.cluster,
        dialer: Dialer::default(),
    };
    Ok(Config {
        name: args.name.unwrap_or_else(|| host_and_port(port)),
        model: model::parse(&args.model)?,
        tokenizer_fingerprint: model::tokenizer_fingerprint(&args.model)?,
        ranks: small(args.ranks.get(), "--ranks")?,
        threads_per_rank: small((threads / args.ranks.get()).max(1), "--threads")?,
        numerics: Numerics::Exact,
        store: Store::new(store).map_err(in_words)?,
        dialer: Dialer::default(),
        group: args.group,
        advertise: args.advertise,
        admin,
        max_kv_bytes: memory::usable()?,
        telemetry: None,
    })
}

fn small(number: usize, flag: &str) -> Result<NonZeroU32, String> {
    let fitting = u32::try_from(number).ok().and_then(NonZeroU32::new);
    fitting.ok_or_else(|| format!("{flag} {number} is out of range"))
}
