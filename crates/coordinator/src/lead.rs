//! The lead: one engine and one step loop for a group. It deals in token ids and positions only.
//!
//! [`attend`] takes workers in, [`follow`] takes sequences in, both as messages to the one task that
//! owns all state ([`step_loop`]); [`ranks`] carries parts to the workers and their answers back. What
//! is known of a generation is in the [`ledger`], its events in a [`log`] that followers read.

mod attend;
mod blame;
mod convert;
mod flight;
mod follow;
mod kv;
mod ledger;
mod log;
mod message;
mod progress;
mod ranks;
mod step_loop;

use std::time::Duration;

use cluster::LeaderConfig;
use engine::{Engine, EngineConfig};
use proto::internal::cluster_service_server::ClusterServiceServer;
use proto::internal::lead_service_server::LeadServiceServer;
use spec::{Fence, Geometry};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::limits;

/// What a lead needs to know; checked when it starts.
#[derive(Clone, Debug)]
pub struct LeadConfig {
    /// The model's shape.
    pub geometry: Geometry,
    /// Fingerprint of the weights that workers must serve.
    pub weights_fingerprint: String,
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

/// A running lead: its two services, to be mounted on the internal server.
#[derive(Debug)]
pub(crate) struct Lead {
    attend: attend::Attend,
    follow: follow::Follow,
    max_context: usize,
}

impl Lead {
    /// Starts the step loop on `tasks` and returns how to wait for its end: after `shutdown` and once
    /// its sequences have ended. It then cancels `done`; workers' streams stay until then.
    ///
    /// # Errors
    ///
    /// In words, if the configuration cannot work.
    pub(crate) fn start(
        config: LeadConfig,
        tasks: &TaskTracker,
        shutdown: CancellationToken,
        done: CancellationToken,
    ) -> Result<(Self, JoinHandle<Result<(), String>>), String> {
        let geometry = &config.geometry;
        check(&config)?;
        let kv = kv::plan_kv(
            geometry,
            config.kv_bytes_per_rank,
            config.max_sequences_per_rank,
            config.max_step_rows,
        )?;
        let max_context = geometry.max_positions.min(kv.full_blocks * kv.block_size);
        let engine = EngineConfig {
            num_ranks: config.num_ranks,
            kv,
            sliding_window: geometry.sliding_window,
            max_step_rows: config.max_step_rows,
            max_in_flight: config.max_in_flight,
            max_waiting: config.max_waiting,
            max_context,
            checkpoint_interval: limits::CHECKPOINT_INTERVAL,
        };
        let engine = Engine::new(engine, Fence::default()).map_err(|error| error.to_string())?;
        let leader = LeaderConfig {
            num_ranks: config.num_ranks,
            num_layers: geometry.num_layers(),
            num_experts: geometry.num_experts,
            weights: config.weights_fingerprint.clone(),
            wire: proto::WIRE_VERSION,
        };
        let (messages, inbox) = mpsc::channel(limits::LOOP_QUEUE);
        // Not bounded by itself: at most one for each follower.
        let (going, gone) = mpsc::unbounded_channel();
        let (state, states) = watch::channel(proto::internal::WatchResponse::default());
        let vocab_size = geometry.vocab_size;
        let step_loop = step_loop::StepLoop::new(step_loop::Setup {
            leader,
            engine,
            max_step_rows: config.max_step_rows,
            vocab_size,
            messages: messages.clone(),
            gone: going,
            hold: config.hold,
            tasks: tasks.clone(),
            state,
            shutdown,
            done: done.clone(),
        });
        let ended = tasks.spawn(step_loop.run(inbox, gone));
        let lead = Self {
            attend: attend::Attend::new(messages.clone(), tasks.clone(), done.clone()),
            follow: follow::Follow {
                messages,
                states,
                vocabulary: convert::Vocabulary {
                    size: vocab_size,
                    max_context,
                },
                tasks: tasks.clone(),
                done,
            },
            max_context,
        };
        Ok((lead, ended))
    }

    /// Returns the most positions a sequence can have: the model's, or what KV memory allows.
    #[must_use]
    pub(crate) fn max_context(&self) -> usize {
        self.max_context
    }

    /// Returns the service that workers attend.
    #[must_use]
    pub(crate) fn cluster_service(&self) -> ClusterServiceServer<attend::Attend> {
        ClusterServiceServer::new(self.attend.clone())
    }

    /// Returns the service that fronts use.
    #[must_use]
    pub(crate) fn lead_service(&self) -> LeadServiceServer<follow::Follow> {
        let service = LeadServiceServer::new(self.follow.clone());
        service
            .max_decoding_message_size(limits::MAX_INTERNAL_MESSAGE)
            .max_encoding_message_size(limits::MAX_INTERNAL_MESSAGE)
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
