//! The lead: one engine and one step loop for a group. It deals in token ids and positions only.
//!
//! [`attend`] takes workers in, [`service`] takes sequences in, both as messages to the one task
//! ([`run`]) that holds all state ([`step_loop`], pure); [`ranks`] carries parts to the [`workers`] and
//! their answers back. What is known of a generation is in the [`ledger`], its events in a [`log`] that followers read
//! ([`follow`]), what operators read of it comes from [`life`]. Which groups are led here is in [`leads`];
//! operators look at them, and move them, by [`admin`].

mod admin;
mod attend;
mod blame;
mod convert;
mod flight;
mod follow;
mod kept;
mod kv;
mod leads;
mod ledger;
mod life;
mod log;
mod message;
mod meter;
mod progress;
mod ranks;
mod run;
mod service;
#[cfg(test)]
mod simulation;
mod step_loop;
mod workers;

use std::time::Duration;

use cluster::{Event, LeaderConfig};
use engine::{Engine, EngineConfig};
use proto::internal as wire;
use sockets::Dialer;
use spec::{Fence, Geometry, KvPlan, Term};
use telemetry::CoordinatorTelemetry;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::message::Message;
use self::meter::LeadMeter;
use self::ranks::Ranks;
use self::run::Run;
use self::step_loop::{Setup, StepLoop};
use crate::limits;

pub(crate) use self::admin::{Admin, HandOver};
pub(crate) use self::attend::Attend;
pub(crate) use self::leads::Leads;

/// What a lead needs to know; checked when it starts.
#[derive(Clone, Debug)]
pub struct LeadConfig {
    /// The model's shape.
    pub geometry: Geometry,
    /// Fingerprint of the weights that workers must serve.
    pub weights_fingerprint: String,
    /// Fingerprint of the tokenizer that workers must have, if they have any.
    pub tokenizer_fingerprint: String,
    /// How workers must compute, such as "exact".
    pub numerics: String,
    /// Ranks that make the group complete, at least 1.
    pub num_ranks: usize,
    /// Bytes of KV memory on each rank.
    pub kv_bytes_per_rank: u64,
    /// Most sequences a rank holds at a time.
    pub max_sequences_per_rank: usize,
    /// Most rows a rank computes in one step.
    pub max_step_rows: usize,
    /// Steps planned ahead, 1 to 4.
    pub max_in_flight: usize,
    /// Most sequences that wait.
    pub max_waiting: usize,
    /// How long a sequence waits for the group to serve before it fails.
    pub hold: Duration,
}

/// A running lead, as those see it that work with it. Clones are the same lead.
#[derive(Clone, Debug)]
pub(crate) struct Lead {
    messages: mpsc::Sender<Message>,
    states: watch::Receiver<wire::WatchResponse>,
    vocabulary: convert::Vocabulary,
    tasks: TaskTracker,
    /// Cancelled when its step loop has ended.
    done: CancellationToken,
}

/// What a lead is started with.
#[derive(Debug)]
pub(crate) struct Start {
    /// The term it was elected in.
    pub(crate) term: Term,
    /// This start of the coordinator.
    pub(crate) incarnation: u64,
    /// The group it leads.
    pub(crate) group: String,
    /// Connects to the workers.
    pub(crate) dialer: Dialer,
    /// What shows operators the lead, and the group's place in it.
    pub(crate) shown: (CoordinatorTelemetry, usize),
    /// Told of the highest term that a worker has obeyed, where that is not below ours.
    pub(crate) outranked: watch::Sender<Term>,
    pub(crate) tasks: TaskTracker,
    /// Ends it.
    pub(crate) end: CancellationToken,
}

impl LeadConfig {
    /// Returns the most positions a sequence can have: the model's, or what KV memory allows.
    ///
    /// # Errors
    ///
    /// In words, if the configuration cannot work.
    pub(crate) fn max_context(&self) -> Result<usize, String> {
        check(self)?;
        let kv = self.kv_plan()?;
        Ok(self
            .geometry
            .max_positions
            .min(kv.full_blocks * kv.block_size))
    }

    fn kv_plan(&self) -> Result<KvPlan, String> {
        kv::plan_kv(
            &self.geometry,
            self.kv_bytes_per_rank,
            self.max_sequences_per_rank,
            self.max_step_rows,
        )
    }
}

impl Lead {
    /// Starts the step loop and returns how to wait for its end: at the token's, with an error if no
    /// cluster can serve with this plan.
    ///
    /// # Errors
    ///
    /// As [`LeadConfig::max_context`].
    pub(crate) fn start(
        config: &LeadConfig,
        start: Start,
    ) -> Result<(Self, JoinHandle<Result<(), String>>), String> {
        let geometry = &config.geometry;
        let max_context = config.max_context()?;
        let engine = EngineConfig {
            num_ranks: config.num_ranks,
            kv: config.kv_plan()?,
            sliding_window: geometry.sliding_window,
            max_step_rows: config.max_step_rows,
            max_in_flight: config.max_in_flight,
            max_waiting: config.max_waiting,
            max_context,
            checkpoint_interval: limits::CHECKPOINT_INTERVAL,
        };
        let engine = Engine::new(engine, Fence::default()).map_err(|error| error.to_string())?;
        let leader = LeaderConfig {
            lead: start.incarnation,
            num_ranks: config.num_ranks,
            num_layers: geometry.num_layers(),
            num_experts: geometry.num_experts,
            weights: config.weights_fingerprint.clone(),
            tokenizer: config.tokenizer_fingerprint.clone(),
            numerics: config.numerics.clone(),
            wire: proto::WIRE_VERSION,
        };
        let (telemetry, group) = start.shown;
        let (messages, inbox) = mpsc::channel(limits::LOOP_QUEUE);
        // Not bounded by itself: at most one for each follower.
        let (going, gone) = mpsc::unbounded_channel();
        let (state, states) = watch::channel(wire::WatchResponse::default());
        let (vocab_size, done) = (geometry.vocab_size, CancellationToken::new());
        let shared = (geometry.num_experts, config.num_ranks);
        let step_loop = StepLoop::new(Setup {
            leader,
            term: start.term,
            outranked: start.outranked,
            engine,
            max_step_rows: config.max_step_rows,
            vocab_size,
            workers: Box::new(Ranks::new(
                messages.clone(),
                start.dialer,
                start.tasks.clone(),
                (start.group, start.incarnation),
            )),
            gone: going,
            hold: config.hold,
            meter: LeadMeter::new(telemetry.clone(), group, shared),
            state,
        });
        let run = Run {
            inbox,
            gone,
            end: start.end,
            done: done.clone(),
            pulse: telemetry.vitals().pulse("step loop", limits::LIVENESS),
        };
        let ended = start.tasks.spawn(run.drive(step_loop));
        let lead = Self {
            messages,
            states,
            vocabulary: convert::Vocabulary {
                size: vocab_size,
                max_context,
            },
            tasks: start.tasks,
            done,
        };
        Ok((lead, ended))
    }

    /// Goes on in a higher term.
    pub(crate) async fn raise(&self, term: Term) {
        let raised = Message::Group(Event::Raised(term));
        // One that has ended needs no term.
        self.messages.send(raised).await.ok();
    }
}

/// Finds early what every worker would refuse.
fn check(config: &LeadConfig) -> Result<(), String> {
    let (ranks, most) = (config.num_ranks, limits::MAX_RANKS);
    if !(1..=most).contains(&ranks) {
        return Err(format!("--ranks {ranks}: a group has 1 to {most} ranks"));
    }
    let geometry = &config.geometry;
    let rows = config.max_step_rows;
    let fitting = exchange::max_rows(geometry.hidden, geometry.experts_per_token);
    if ranks > 1 && rows > fitting {
        return Err(format!(
            "--max-step-rows {rows}: a frame of the exchange holds at most {fitting} rows of this \
             model"
        ));
    }
    Ok(())
}
