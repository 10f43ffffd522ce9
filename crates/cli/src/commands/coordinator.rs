//! `conclave coordinator`: the API, and the lead that plans every step.

use std::time::Duration;

use ::telemetry::{CoordinatorTelemetry, Telemetry, admin};
use coordinator::{Advertised, Config, LeadConfig, Listeners, Served, StoreAt};
use sockets::Dialer;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::args::CoordinatorArgs;
use crate::listen::{advertised, shown};
use crate::{Outcome, about, model, signals};
use crate::{host_and_port, in_words};

/// Most ranks of a group; the lead refuses more, too.
const MAX_RANKS: usize = 1024;

/// Most steps planned ahead; the engine refuses more, too.
const MAX_STEPS_IN_FLIGHT: usize = 4;

/// Listens, says where in one line on the standard output, and serves until told to end.
pub(crate) async fn run(args: CoordinatorArgs) -> Outcome {
    let shutdown = signals::shutdown(args.with_parent)?;
    if let Err(error) = sockets::raise_files() {
        tracing::warn!(%error, "few clients may connect: the limit of open files stays as it is");
    }
    let listeners = Listeners {
        grpc: args.serve.grpc.bind("--grpc").await?,
        http: args.serve.http.bind("--http").await?,
        internal: args.internal.bind("--internal").await?,
    };
    let telemetry = telemetry(&args)?;
    let (admin, ended) = (args.admin.bind("--admin").await?, CancellationToken::new());
    let (admin_at, _ended) = (admin.local_addr(), ended.clone().drop_guard());
    tokio::spawn(admin::serve(admin, telemetry.clone(), ended));
    let model_name = args.model.clone();
    let opening = tokio::task::spawn_blocking(move || model::open(&model_name));
    let opened = tokio::select! {
        opened = opening => opened.map_err(|error| format!("opening the model failed: {error}"))??,
        // The thread that opens it is left behind; it changes nothing.
        () = shutdown.cancelled() => return Ok(()),
    };
    let (grpc, http) = (listeners.grpc.local_addr(), listeners.http.local_addr());
    let internal = listeners.internal.local_addr();
    let serve = &args.serve;
    let advertise = Advertised {
        internal: advertised(args.advertise.as_ref(), &args.internal, internal),
        grpc: shown(args.advertise_grpc.as_ref(), &serve.grpc, grpc).unwrap_or_default(),
        http: shown(args.advertise_http.as_ref(), &serve.http, http).unwrap_or_default(),
        admin: shown(args.advertise_admin.as_ref(), &args.admin, admin_at),
    };
    let config = Config {
        telemetry: Some(telemetry),
        ..config(&args, &opened, (internal.port(), advertise))?
    };
    let running = coordinator::start(config, listeners, shutdown).map_err(in_words)?;
    println!("listening grpc={grpc} http={http} internal={internal} admin={admin_at}");
    running.wait().await.map_err(in_words)
}

/// Checks the settings as far as they can be without the model; what depends on its shape, a start
/// finds.
pub(crate) fn check(args: &CoordinatorArgs) -> Outcome {
    model::parse(&args.model)?;
    let (ranks, steps) = (args.ranks, args.serve.steps_in_flight);
    if ranks.get() > MAX_RANKS {
        return Err(format!(
            "--ranks {ranks}: a group has 1 to {MAX_RANKS} ranks"
        ));
    }
    if steps.get() > MAX_STEPS_IN_FLIGHT {
        return Err(format!(
            "--steps-in-flight {steps}: 1 to {MAX_STEPS_IN_FLIGHT} steps are planned ahead"
        ));
    }
    let endpoints = match store(&args.store)? {
        StoreAt::Memory => vec![args.internal.to_string()],
        StoreAt::Endpoints(list) => list,
    };
    let store = store::Config {
        endpoints,
        cluster: args.cluster.cluster.clone(),
        dialer: Dialer::default(),
    };
    Store::new(store).map_err(in_words)?;
    let groups = args.groups.iter().map(|name| ("--groups", name));
    let names = groups.chain(args.name.iter().map(|name| ("--name", name)));
    for (flag, name) in names {
        if let Some(why) = records::name_fault(name) {
            return Err(format!("{flag}: {why}"));
        }
    }
    if let Some(why) = args.advertise.as_deref().and_then(records::address_fault) {
        return Err(format!("--advertise: {why}"));
    }
    let shown = [
        ("--advertise-grpc", &args.advertise_grpc),
        ("--advertise-http", &args.advertise_http),
        ("--advertise-admin", &args.advertise_admin),
    ];
    for (flag, uri) in shown {
        if let Some(why) = uri.as_deref().and_then(records::shown_fault) {
            return Err(format!("{flag}: {why}"));
        }
    }
    Ok(())
}

/// Makes what operators see of the process.
fn telemetry(args: &CoordinatorArgs) -> Result<CoordinatorTelemetry, String> {
    let telemetry =
        Telemetry::coordinator(about(&args.model)?, args.groups.clone(), args.ranks.get());
    let counted = telemetry.clone();
    crate::telemetry::count(move |level| counted.process().log_events.add(level, 1));
    Ok(telemetry)
}

fn config(
    args: &CoordinatorArgs,
    model: &model::Model,
    (internal, advertise): (u16, Advertised),
) -> Result<Config, String> {
    let fingerprint = model.checkpoint.fingerprint().map_err(in_words)?;
    let serve = &args.serve;
    let lead = LeadConfig {
        geometry: model.checkpoint.geometry().clone(),
        weights_fingerprint: fingerprint.to_string(),
        tokenizer_fingerprint: model.tokenizer.fingerprint().to_owned(),
        numerics: args.numerics.clone(),
        num_ranks: args.ranks.get(),
        kv_bytes_per_rank: serve.kv_memory,
        max_sequences_per_rank: serve.max_sequences.get(),
        max_step_rows: serve.max_step_rows.get(),
        max_in_flight: serve.steps_in_flight.get(),
        max_waiting: serve.max_waiting.get(),
        hold: Duration::from_secs(serve.hold),
    };
    let config = model.checkpoint.config();
    let mut default_sampling = spec::Sampling::default();
    let published = config.sampling;
    if let Some(temperature) = published.temperature {
        default_sampling.temperature = temperature;
    }
    if let Some(top_p) = published.top_p {
        default_sampling.top_p = top_p;
    }
    if let Some(top_k) = published.top_k {
        default_sampling.top_k = top_k;
    }
    let served = Served {
        name: model.name.clone(),
        max_output_tokens: serve.max_output_tokens.get(),
        eos_tokens: config.eos.clone(),
        default_sampling,
        tokenizer: model.tokenizer.clone(),
    };
    let name = args.name.clone();
    Ok(Config {
        name: name.unwrap_or_else(|| host_and_port(internal)),
        advertise,
        store: store(&args.store)?,
        dialer: Dialer::default(),
        cluster: args.cluster.cluster.clone(),
        groups: args.groups.clone(),
        lead,
        served,
        drain: serve.drain.time(),
        telemetry: None,
    })
}

fn store(endpoints: &[String]) -> Result<StoreAt, String> {
    match endpoints {
        [only] if only == "memory" => Ok(StoreAt::Memory),
        list if list.iter().any(|endpoint| endpoint == "memory") => {
            Err("--store: memory stands alone; name either it or the endpoints of an etcd".into())
        }
        list => Ok(StoreAt::Endpoints(list.to_vec())),
    }
}
