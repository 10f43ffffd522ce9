//! `conclave worker`: one or more ranks that hold experts and compute.

use std::num::NonZeroU32;

use store::Store;
use tokio::net::TcpListener;
use worker::{Config, Numerics};

use crate::args::WorkerArgs;
use crate::{Outcome, memory, model, signals};
use crate::{host_and_port, in_words};

/// Registers with the coordinator and computes until told to end.
pub(crate) async fn run(args: WorkerArgs) -> Outcome {
    let shutdown = signals::shutdown(args.with_parent)?;
    let listen = args.listen;
    let listener = TcpListener::bind(listen).await;
    let listener = listener
        .map_err(|error| format!("cannot listen on {listen}: {error}; choose another --listen"))?;
    let port = listener.local_addr().map_err(in_words)?.port();
    let config = config(args, port)?;
    let running = tokio::select! {
        running = worker::start(config, listener, shutdown.clone()) => running.map_err(in_words)?,
        () = shutdown.cancelled() => return Ok(()),
    };
    running.wait().await.map_err(in_words)
}

/// Checks the settings as a start does, without the socket.
pub(crate) fn check(args: &WorkerArgs) -> Outcome {
    let config = config(args.clone(), args.listen.port())?;
    config.check().map_err(in_words)
}

fn config(args: WorkerArgs, port: u16) -> Result<Config, String> {
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(machine, usize::from);
    let store = store::Config {
        endpoints: args.store,
        cluster: args.cluster.cluster,
        connect: None,
    };
    Ok(Config {
        name: args.name.unwrap_or_else(|| host_and_port(port)),
        model: model::parse(&args.model)?,
        ranks: small(args.ranks.get(), "--ranks")?,
        threads_per_rank: small((threads / args.ranks.get()).max(1), "--threads")?,
        numerics: Numerics::Exact,
        store: Store::new(store).map_err(in_words)?,
        group: args.group,
        advertise: args.advertise,
        max_kv_bytes: memory::usable()?,
        telemetry: None,
    })
}

fn small(number: usize, flag: &str) -> Result<NonZeroU32, String> {
    let fitting = u32::try_from(number).ok().and_then(NonZeroU32::new);
    fitting.ok_or_else(|| format!("{flag} {number} is out of range"))
}
