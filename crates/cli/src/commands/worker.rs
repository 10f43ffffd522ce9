//! `conclave worker`: one or more ranks that hold experts and compute.

use std::num::NonZeroU32;

use tokio::net::TcpListener;
use worker::{Config, Numerics};

use crate::args::WorkerArgs;
use crate::in_words;
use crate::{Outcome, memory, model, signals};

/// Registers with the coordinator and computes until told to end.
pub(crate) async fn run(args: WorkerArgs) -> Outcome {
    let shutdown = signals::shutdown(args.with_parent)?;
    let listen = args.listen;
    let listener = TcpListener::bind(listen).await;
    let listener = listener
        .map_err(|error| format!("cannot listen on {listen}: {error}; choose another --listen"))?;
    let port = listener.local_addr().map_err(in_words)?.port();
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = args.threads.map_or(machine, usize::from);
    let config = Config {
        name: args.name.unwrap_or_else(|| default_name(port)),
        model: model::parse(&args.model)?,
        ranks: small(args.ranks.get(), "--ranks")?,
        threads_per_rank: small((threads / args.ranks.get()).max(1), "--threads")?,
        numerics: Numerics::Exact,
        coordinator: args.coordinator,
        advertise: args.advertise,
        max_kv_bytes: memory::usable()?,
    };
    let running = tokio::select! {
        running = worker::start(config, listener, shutdown.clone()) => running.map_err(in_words)?,
        () = shutdown.cancelled() => return Ok(()),
    };
    running.wait().await.map_err(in_words)
}

fn small(number: usize, flag: &str) -> Result<NonZeroU32, String> {
    let fitting = u32::try_from(number).ok().and_then(NonZeroU32::new);
    fitting.ok_or_else(|| format!("{flag} {number} is out of range"))
}

/// Host name and port: the same after a restart on the same port.
fn default_name(port: u16) -> String {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    format!("{host}:{port}")
}
