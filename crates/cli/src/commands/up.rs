//! `conclave up`: a whole cluster on this machine, as child processes.
//!
//! The coordinator is started first and says where it listens; workers find it by that. A child that
//! dies is started again ([`keeper`]); Ctrl-C ends the coordinator first, so that its streams end
//! while the workers still compute, and then the workers.
//!
//! The children get their settings as flags, all of them from here, and none of our variables and
//! files: a name that is meant for one process would else become the name of every one.

mod demo;
mod keeper;

use std::time::Duration;

use clap::Parser as _;
use sockets::Dialer;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use self::keeper::{Child, keep};
use super::{coordinator, worker};
use crate::args::{Args, Command, ServeArgs, UpArgs};
use crate::listen::ListenAt;
use crate::telemetry::LogFormat;
use crate::{Outcome, cores, in_words, mini, signals};

/// Time between two looks at a coordinator that does not answer yet.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A port of this machine that is free.
const ANY_PORT: &str = "127.0.0.1:0";

/// How long a coordinator may take to say where it listens.
const START: Duration = Duration::from_secs(60);

/// Runs until Ctrl-C, SIGTERM, or a child that cannot be kept alive.
pub(crate) async fn run(args: UpArgs, log_format: LogFormat) -> Outcome {
    let shutdown = signals::shutdown(false)?;
    let name = match &args.model {
        Some(name) => name.clone(),
        None => mini::folder()?.display().to_string(),
    };
    match &args.cores {
        // No worker could be started.
        Some(cores) => cores::check(cores)?,
        None => {
            let of_worker = threads_per_worker(&args).max(args.ranks_per_worker.get());
            if let Some(why) = cores::crowding(args.workers.get() * of_worker) {
                eprintln!("{why}");
            }
        }
    }
    // Free now, and soon taken by the coordinator.
    drop(args.serve.grpc.bind("--grpc").await?);
    drop(args.serve.http.bind("--http").await?);

    let (end_coordinator, end_workers) = (CancellationToken::new(), CancellationToken::new());
    let mut coordinators = JoinSet::new();
    let (listens, listening) = oneshot::channel();
    let coordinator = coordinator_child(&args, &name, log_format)?;
    coordinators.spawn(keep(coordinator, end_coordinator.clone(), Some(listens)));
    let said = async {
        match listening.await {
            Ok(internal) => internal,
            // It has ended, and how is told below.
            Err(_) => std::future::pending().await,
        }
    };
    let internal = tokio::select! {
        internal = tokio::time::timeout(START, said) => internal,
        Some(ended) = coordinators.join_next() => return joined(ended),
        () = shutdown.cancelled() => {
            end_coordinator.cancel();
            return drain(&mut coordinators).await;
        }
    };
    let internal = internal.map_err(|_| format!("the coordinator said nothing for {START:?}"))?;

    let mut workers = JoinSet::new();
    for index in 0..args.workers.get() {
        let worker = worker_child(&args, &name, &internal, index, log_format)?;
        workers.spawn(keep(worker, end_workers.clone(), None));
    }
    let outcome = tokio::select! {
        () = serve(&args, &name) => Ok(()),
        () = shutdown.cancelled() => Ok(()),
        Some(ended) = coordinators.join_next() => joined(ended),
        Some(ended) = workers.join_next() => joined(ended),
    };
    eprintln!("ending ...");
    end_coordinator.cancel();
    let coordinator_ended = drain(&mut coordinators).await;
    end_workers.cancel();
    let workers_ended = drain(&mut workers).await;
    outcome.and(coordinator_ended).and(workers_ended)
}

/// Says when the cluster is ready, shows the demo if asked to, and then waits for ever.
async fn serve(args: &UpArgs, name: &str) {
    until_serving(&args.serve.grpc).await;
    let (grpc, http) = (&args.serve.grpc, &args.serve.http);
    let (workers, ranks) = (
        args.workers,
        args.workers.get() * args.ranks_per_worker.get(),
    );
    let name = if args.model.is_none() {
        mini::NAME
    } else {
        name
    };
    println!("ready: gRPC {grpc}, HTTP http://{http} ({name}; {workers} workers, {ranks} ranks)");
    if args.demo {
        demo::show(args).await;
    }
    std::future::pending::<()>().await;
}

/// Waits until the coordinator's health service says SERVING.
async fn until_serving(grpc: &ListenAt) {
    let Ok(endpoint) = Endpoint::from_shared(format!("http://{grpc}")) else {
        return;
    };
    let mut client = HealthClient::new(Dialer::default().connect_lazy(&endpoint));
    loop {
        let answer = client
            .check(HealthCheckRequest {
                service: String::new(),
            })
            .await;
        let status = answer.map(|answer| answer.into_inner().status());
        if matches!(status, Ok(ServingStatus::Serving)) {
            return;
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Checks the settings as its children will get them.
pub(crate) fn check(args: &UpArgs) -> Outcome {
    check_port(&args.serve.grpc, "--grpc")?;
    check_port(&args.serve.http, "--http")?;
    // The model that is served where none is named is made when it is needed.
    let name = args.model.as_deref().unwrap_or("synth:tiny");
    let format = LogFormat::Text;
    let children = [
        coordinator_child(args, name, format)?,
        worker_child(args, name, "127.0.0.1:7101", 0, format)?,
    ];
    for child in children {
        let told = Args::try_parse_from(child.command_line()).map_err(in_words)?;
        match told.command {
            Command::Coordinator(args) => coordinator::check(&args)?,
            Command::Worker(args) => worker::check(&args)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_port(address: &ListenAt, flag: &str) -> Outcome {
    match address.port() {
        0 => Err(format!(
            "{flag} {address}: choose a port, so that clients can be told of it"
        )),
        _ => Ok(()),
    }
}

fn coordinator_child(args: &UpArgs, name: &str, format: LogFormat) -> Result<Child, String> {
    let ServeArgs {
        grpc,
        http,
        kv_memory,
        ..
    } = &args.serve;
    let ranks = args.workers.get() * args.ranks_per_worker.get();
    let admin = args.admin.as_ref().map(ToString::to_string);
    let arguments = [
        ("--model", name.to_owned()),
        ("--ranks", ranks.to_string()),
        ("--numerics", args.compute.numerics.clone()),
        ("--internal", ANY_PORT.to_owned()),
        ("--grpc", grpc.to_string()),
        ("--http", http.to_string()),
        ("--kv-memory", kv_memory.to_string()),
        ("--max-sequences", args.serve.max_sequences.to_string()),
        ("--max-step-rows", args.serve.max_step_rows.to_string()),
        ("--steps-in-flight", args.serve.steps_in_flight.to_string()),
        ("--max-waiting", args.serve.max_waiting.to_string()),
        (
            "--max-output-tokens",
            args.serve.max_output_tokens.to_string(),
        ),
        ("--hold", args.serve.hold.to_string()),
        ("--drain", args.serve.drain.drain.to_string()),
        ("--admin", admin.unwrap_or_else(|| ANY_PORT.to_owned())),
    ];
    let command = ("coordinator", "coordinator");
    Child::new(command, args.serve.drain.time(), format, &arguments)
}

fn worker_child(
    args: &UpArgs,
    name: &str,
    internal: &str,
    index: usize,
    format: LogFormat,
) -> Result<Child, String> {
    let threads = threads(args, index)?;
    let own = format!("worker-{index}");
    let arguments = [
        ("--model", name.to_owned()),
        ("--store", internal.to_owned()),
        ("--name", own.clone()),
        ("--ranks", args.ranks_per_worker.to_string()),
        threads,
        ("--numerics", args.compute.numerics.clone()),
        ("--packed-cache", args.compute.packed_cache.clone()),
        ("--drain", args.serve.drain.drain.to_string()),
        ("--listen", ANY_PORT.to_owned()),
        ("--admin", ANY_PORT.to_string()),
    ];
    let command = (own.as_str(), "worker");
    Child::new(command, args.serve.drain.time(), format, &arguments)
}

/// Returns the flag that says which threads a worker has.
fn threads(args: &UpArgs, index: usize) -> Result<(&'static str, String), String> {
    let workers = args.workers.get();
    if let Some(cores) = &args.cores {
        let parts = cores
            .parts(workers)
            .ok_or_else(|| format!("--cores {cores}: not as many for each of {workers} workers"))?;
        return Ok(("--cores", parts[index].to_string()));
    }
    let ranks = args.ranks_per_worker.get();
    let by_node = match args.threads_per_worker {
        Some(_) => None,
        None => cores::by_node(&cores::nodes(), workers, ranks),
    };
    Ok(match by_node {
        Some(parts) => ("--cores", parts[index].to_string()),
        None => ("--threads", threads_per_worker(args).to_string()),
    })
}

/// Counts the threads of a worker that may run on any core.
fn threads_per_worker(args: &UpArgs) -> usize {
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    let share = (machine / args.workers.get()).max(1);
    args.threads_per_worker.map_or(share, usize::from)
}

fn joined(ended: Result<Outcome, tokio::task::JoinError>) -> Outcome {
    ended.map_err(|error| format!("a keeper of a child failed: {error}"))?
}

/// Waits for all keepers; the first failure is the outcome.
async fn drain(keepers: &mut JoinSet<Outcome>) -> Outcome {
    let mut outcome = Ok(());
    while let Some(ended) = keepers.join_next().await {
        outcome = outcome.and(joined(ended));
    }
    outcome
}
