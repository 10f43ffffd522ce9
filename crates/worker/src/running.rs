//! Starts a worker and ends it in order.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use checkpoint::{Checkpoint, PackedCache};
use exchange_grpc::Hub;
use kernels::Backend;
use kernels_cpu::{Cpu, Numerics, Threads};
use presence::{Presence, Record};
use proto::internal as wire;
use sockets::Listener;
use store::Store;
use telemetry::Telemetry;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;

use crate::address::advertised;
use crate::config::Config;
use crate::convert::Bounds;
use crate::crew::Crew;
use crate::error::{Error, Result};
use crate::leads;
use crate::limits::SHUTDOWN_GRACE;
use crate::load::{self, Layout};
use crate::membership::Membership;
use crate::prepare::Workshop;
use crate::service::Worker;
use crate::standing::Standing;

/// A worker that runs. Dropping it ends its tasks without order; [`Running::wait`] is the orderly
/// way.
pub struct Running {
    address: String,
    tasks: JoinSet<Result<()>>,
    /// Ends it, in order but at once.
    end: CancellationToken,
}

/// Starts a worker: checks configuration and checkpoint, serves on `listener`, puts its record into
/// the membership store and stays registered with whoever leads its group, until `shutdown`. Then it
/// drains: it ends once its lead needs it no more, or after [`Config::drain`].
///
/// # Errors
///
/// [`Error::Config`], or [`Error::Checkpoint`] with all faults found; nobody else is asked
/// here, see [`Running::wait`].
pub async fn start(
    config: Config,
    listener: Listener,
    shutdown: CancellationToken,
) -> Result<Running> {
    config.check()?;
    let standing = standing(&config);
    let seeing = standing.telemetry().clone();
    config.store.observe(move |event| seeing.store_sees(event));
    let address = match &config.advertise {
        Some(address) => address.clone(),
        None => advertised(listener.local_addr())?,
    };
    let (checkpoint, fingerprint) = open(&config).await?;
    standing.show_experts(&config, checkpoint.geometry());
    // The worker's own token: a fatal error ends its tasks, but not what else the caller runs.
    let (shutdown, end) = (shutdown.child_token(), CancellationToken::new());
    let (needed, is_needed) = watch::channel(false);
    let (fatal, fatalities) = mpsc::unbounded_channel();
    let threads = config.threads_of_ranks()?;
    let backends = backends(config.numerics, &threads)?;
    let numerics = backends[0].numerics().to_owned();
    let hub = hub(&config, &address);
    let layout = layout(&config, &*backends[0], &threads);
    let bounds = Bounds {
        name: config.name.clone(),
        group: config.group.clone(),
        num_ranks: backends.len(),
        geometry: checkpoint.geometry().clone(),
        max_kv_bytes: config.max_kv_bytes.get(),
    };
    let crew = Crew::new(backends, fatal);
    let shown = Arc::clone(&standing);
    let workshop = Workshop::new(checkpoint, crew, hub.clone(), layout, shown);
    let (health, health_service) = tonic_health::server::health_reporter();
    let incarnation = incarnation();
    let shown = (Arc::clone(&standing), &end);
    let worker = Worker::new(bounds, workshop, hub.clone(), health, shown);
    let service = worker.service();
    // Not ready before the first epoch is; the process itself serves from the start.
    worker.show_ready().await;

    let router = exchange_grpc::server()
        .add_service(service)
        .add_service(hub.service())
        .add_service(standing.chosen().service())
        .add_service(presence::identity(&config.name, incarnation))
        .add_service(health_service);
    let obeying = worker.clone();
    let registration = registration(&config, &address, incarnation, (numerics, fingerprint));
    let (lead, leads) = watch::channel(None);
    let presence = Presence {
        store: config.store.clone(),
        dialer: config.dialer.clone(),
        record: Record::Worker(registration.clone()),
        lease: watch::Sender::new(None),
        draining: shutdown.clone(),
    };
    let membership = Membership {
        leads,
        dialer: config.dialer.clone(),
        registration,
        obeyed: Arc::new(move |registration| obeying.sign(registration)),
        standing: Arc::clone(&standing),
        draining: shutdown.clone(),
        needed,
    };
    let mut tasks = JoinSet::new();
    tasks.spawn(follow_store(
        standing,
        config.store.clone(),
        (shutdown.clone(), end.clone()),
    ));
    tasks.spawn(drain(config.drain, shutdown, is_needed, end.clone()));
    tasks.spawn(serve(router, listener, worker, end.clone()));
    tasks.spawn(fatal_end(fatalities, end.clone()));
    let keeping = presence.keep(end.clone());
    tasks.spawn(async move { Ok(keeping.await?) });
    tasks.spawn(membership.attend(end.clone()));
    tasks.spawn(follow_leads(&config, lead, end.clone()));
    tracing::info!(name = config.name, address, model = %config.model, "worker started");
    Ok(Running {
        address,
        tasks,
        end,
    })
}

impl Running {
    /// Returns where other members reach the worker.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Waits until the worker has ended: in order after `shutdown`, or by an error.
    ///
    /// # Errors
    ///
    /// What ended it: a refusal of the coordinator, a rank that panicked or hangs, a server that
    /// failed.
    pub async fn wait(mut self) -> Result<()> {
        let mut outcome = Ok(());
        while let Some(ended) = self.tasks.join_next().await {
            let ended = ended.unwrap_or_else(|error| Err(Error::Task(error)));
            if outcome.is_ok() {
                outcome = ended;
            }
            // No part of a worker is of use without the others.
            self.end.cancel();
        }
        outcome
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end.cancel();
    }
}

/// Shows whether the store is there, until the worker drains.
async fn follow_store(
    standing: Arc<Standing>,
    store: Store,
    (shutdown, end): (CancellationToken, CancellationToken),
) -> Result<()> {
    tokio::select! {
        () = end.cancelled() => {
            standing.drains();
            return Ok(());
        }
        followed = Arc::clone(&standing).follow(store, shutdown) => followed?,
    }
    end.cancelled().await;
    Ok(())
}

/// Follows who leads the worker's group.
fn follow_leads(
    config: &Config,
    lead: watch::Sender<Option<wire::LeadRecord>>,
    end: CancellationToken,
) -> impl Future<Output = Result<()>> + use<> {
    let follow = leads::follow(config.store.clone(), config.group.clone(), lead, end);
    async move {
        follow.await;
        Ok(())
    }
}

/// Ends the worker some time after `shutdown`: when its lead has released it, or there is none.
async fn drain(
    grace: Duration,
    shutdown: CancellationToken,
    mut needed: watch::Receiver<bool>,
    end: CancellationToken,
) -> Result<()> {
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = end.cancelled() => return Ok(()),
    }
    tracing::info!(?grace, "draining");
    tokio::select! {
        () = end.cancelled() => {}
        released = timeout(grace, needed.wait_for(|needed| !needed)) => {
            if released.is_err() {
                tracing::warn!("the lead still needs this worker, which ends all the same");
            }
        }
    }
    end.cancel();
    Ok(())
}

/// Returns what shows operators the worker.
fn standing(config: &Config) -> Arc<Standing> {
    let telemetry = config.telemetry.clone();
    let unseen = || Telemetry::unseen_worker(config.ranks.get() as usize);
    Arc::new(Standing::new(telemetry.unwrap_or_else(unseen)))
}

/// Opens and checks the checkpoint, on a thread that may wait for the disk.
async fn open(config: &Config) -> Result<(Checkpoint, String)> {
    let model = config.model.clone();
    let opened = tokio::task::spawn_blocking(move || {
        let checkpoint = Checkpoint::named(&model)?;
        let fingerprint = checkpoint.fingerprint()?;
        Ok((checkpoint, fingerprint.to_string()))
    });
    let opened = opened.await.map_err(Error::Task)?;
    opened.map_err(|source| Error::Checkpoint {
        model: config.model.to_string(),
        source,
    })
}

/// Returns a back end for each rank.
fn backends(numerics: Numerics, ranks: &[Threads]) -> Result<Vec<Arc<dyn Backend>>> {
    let backend = |threads: &Threads| -> Result<Arc<dyn Backend>> {
        let cpu = Cpu::with(numerics, threads);
        Ok(Arc::new(cpu.map_err(|source| Error::Io {
            what: format!("binding threads to {threads}"),
            source,
        })?))
    };
    ranks.iter().map(backend).collect()
}

/// Says how weights have to lie for a back end.
fn layout(config: &Config, backend: &dyn Backend, ranks: &[Threads]) -> Layout {
    Layout {
        threads: ranks.iter().map(Threads::count).sum(),
        packing: backend.packing(),
        cache: (config.packed_cache.clone()).map(|dir| PackedCache::new(dir).telling(load::log)),
    }
}

/// Makes the worker's exchange. Without a door, its rows for workers of this machine go over TCP.
fn hub(config: &Config, address: &str) -> Hub {
    let hub = Hub::new(config.dialer.clone(), &config.group);
    if !config.tcp_exchange
        && let Err(error) = hub.open_door(address)
    {
        tracing::warn!(%error, "rows for workers of this machine go over TCP");
    }
    hub
}

/// Returns a number for this start of the process.
fn incarnation() -> u64 {
    // The hasher's keys are random and differ from process to process.
    RandomState::new().build_hasher().finish()
}

fn registration(
    config: &Config,
    address: &str,
    incarnation: u64,
    (numerics, weights_fingerprint): (String, String),
) -> wire::Registration {
    wire::Registration {
        name: config.name.clone(),
        incarnation,
        address: address.to_owned(),
        wire_min: proto::WIRE_VERSION,
        wire_max: proto::WIRE_VERSION,
        build: env!("CARGO_PKG_VERSION").to_owned(),
        weights_fingerprint,
        tokenizer_fingerprint: config.tokenizer_fingerprint.clone(),
        numerics,
        num_ranks: config.ranks.get(),
        // Filled in at every try.
        term: 0,
        lead: 0,
        stepped: None,
        group: config.group.clone(),
        // Filled in at every try, too.
        draining: false,
        admin: config.admin.clone().unwrap_or_default(),
    }
}

/// Serves until `shutdown`, then ends the ranks and the open streams in order.
async fn serve(
    router: Router,
    listener: Listener,
    worker: Worker,
    shutdown: CancellationToken,
) -> Result<()> {
    let ended = shutdown.clone().cancelled_owned();
    let serving = router.serve_with_incoming_shutdown(listener, ended);
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => return served.map_err(Error::Serve),
        () = shutdown.cancelled() => {}
    }
    let ending = async {
        worker.close().await;
        serving.await
    };
    match timeout(SHUTDOWN_GRACE, ending).await {
        Ok(served) => served.map_err(Error::Serve),
        Err(_) => {
            tracing::warn!(grace = ?SHUTDOWN_GRACE, "cut connections that did not end");
            Ok(())
        }
    }
}

/// Ends with the first rank that panics or hangs.
async fn fatal_end(
    mut fatalities: mpsc::UnboundedReceiver<Error>,
    shutdown: CancellationToken,
) -> Result<()> {
    tokio::select! {
        Some(error) = fatalities.recv() => Err(error),
        () = shutdown.cancelled() => Ok(()),
    }
}
