//! The command line.

mod admin;
mod bench;
mod compute;

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, value_parser};
use worker::Cores;

pub(crate) use self::admin::{AdminArgs, AdminCommand};
pub(crate) use self::bench::{
    BatchArgs, BenchArgs, BenchCommand, BenchModelArgs, DecodeArgs, KernelsArgs, NumericsArgs,
    PassArgs, PrefillArgs, ServeBenchArgs,
};
pub(crate) use self::compute::ComputeArgs;
use crate::listen::ListenAt;
use crate::size::parse_bytes;
use crate::telemetry::LogFormat;

/// Most seconds that requests are held: no client waits for a day, and no clock overflows.
const MAX_HOLD: u64 = 86_400;

const UP_EXAMPLES: &str = "\
Examples:
  conclave up
  conclave up --model /models/gpt-oss-20b --workers 2
  conclave up --model synth:mini,layers=4,seed=1 --workers 3 --ranks-per-worker 2";
const COORDINATOR_EXAMPLES: &str = "\
Examples:
  conclave coordinator --model /models/gpt-oss-20b --ranks 4 --internal 10.0.0.1:7101";
const WORKER_EXAMPLES: &str = "\
Examples:
  conclave worker --model /models/gpt-oss-20b --store 10.0.0.1:7101 --listen 10.0.0.2:7200";
const GENERATE_EXAMPLES: &str = "\
Examples:
  conclave generate 'Once upon a time' --max-tokens 64
  conclave generate - --temperature 0 < prompt.txt";
const CHAT_EXAMPLES: &str = "\
Examples:
  conclave chat --reasoning low
  conclave chat --server http://10.0.0.1:7100 --instructions 'Answer in French.'";
const INSPECT_EXAMPLES: &str = "\
Examples:
  conclave inspect /models/gpt-oss-120b --ranks 8
  conclave inspect /models/gpt-oss-20b --checksum";
const SYNTH_EXAMPLES: &str = "\
Examples:
  conclave synth /tmp/tiny
  conclave synth /tmp/wide --preset 20b --layers 4 --vocab 32768 --seed 1";

const AFTER_HELP: &str = "\
'conclave --dump-metrics' lists all metrics that processes show, one on each line.";

/// Serves OpenAI's open-weight gpt-oss models from a cluster.
///
/// The shortest way in: `conclave up` starts a whole cluster on this machine with a tiny
/// trained model; `conclave chat` and `conclave generate` talk to it. With the published weights:
/// `conclave up --model /models/gpt-oss-20b --workers 2`.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, after_help = AFTER_HELP)]
pub(crate) struct Args {
    /// How log lines look. The variable CONCLAVE_LOG filters them (for instance `debug`).
    #[arg(
        long,
        global = true,
        value_enum,
        default_value = "text",
        env = "CONCLAVE_LOG_FORMAT"
    )]
    pub(crate) log_format: LogFormat,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a whole cluster on this machine: a coordinator and workers, as child processes.
    Up(UpArgs),
    /// Start a coordinator: the API, and the lead that plans every step.
    Coordinator(CoordinatorArgs),
    /// Start a worker: one or more ranks that hold experts and compute.
    Worker(WorkerArgs),
    /// Continue a text, as it streams.
    Generate(GenerateArgs),
    /// Talk to the model; channels are told apart by colour.
    Chat(ChatArgs),
    /// Look at a cluster and its groups, end a process in good order, move a group's lead.
    Admin(AdminArgs),
    /// Print a model's facts and its bytes per rank, and verify its files.
    Inspect(InspectArgs),
    /// Write a model of random weights in the published layout.
    Synth(SynthArgs),
    /// Measure what this machine computes in a second, beside what it could at most.
    Bench(BenchArgs),
}

/// What `up` and `coordinator` both take.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServeArgs {
    /// Where the gRPC API listens.
    #[arg(long, default_value = "127.0.0.1:7100", value_name = "ADDRESS")]
    pub(crate) grpc: ListenAt,
    /// Where the HTTP API listens.
    #[arg(long, default_value = "127.0.0.1:8000", value_name = "ADDRESS")]
    pub(crate) http: ListenAt,
    /// KV memory of each rank, for instance 512MiB or 4GiB.
    #[arg(long, default_value = "512MiB", value_parser = parse_bytes, value_name = "SIZE")]
    pub(crate) kv_memory: u64,
    /// Most sequences a rank works on at a time.
    #[arg(long, default_value = "64", value_name = "N")]
    pub(crate) max_sequences: NonZeroUsize,
    /// Most rows a rank computes in one step; a longer prompt is computed in several.
    #[arg(long, default_value = "128", value_name = "N")]
    pub(crate) max_step_rows: NonZeroUsize,
    /// Steps planned ahead, 1 to 4.
    #[arg(long, default_value = "2", value_name = "N")]
    pub(crate) steps_in_flight: NonZeroUsize,
    /// Most sequences that wait; one more is refused at once.
    #[arg(long, default_value = "1024", value_name = "N")]
    pub(crate) max_waiting: NonZeroUsize,
    /// Most tokens a request may generate, whatever its context leaves.
    #[arg(long, default_value = "131072", value_name = "N")]
    pub(crate) max_output_tokens: NonZeroU32,
    /// Seconds a request waits for the group to be complete before it fails.
    #[arg(long, default_value = "120", value_name = "SECONDS", value_parser = value_parser!(u64).range(..=MAX_HOLD))]
    pub(crate) hold: u64,
    #[command(flatten)]
    pub(crate) drain: DrainArgs,
}

/// How a process ends in good order.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DrainArgs {
    /// Seconds that what runs may go on once the process was told to end, at most a day. Whoever ends
    /// processes by force should wait for 10 s more.
    #[arg(
        long,
        default_value = "10",
        value_parser = clap::value_parser!(u64).range(0..=86_400),
        value_name = "SECONDS"
    )]
    pub(crate) drain: u64,
}

impl DrainArgs {
    /// Returns it as a time.
    pub(crate) fn time(&self) -> Duration {
        Duration::from_secs(self.drain)
    }
}

/// Where the processes of a cluster find each other.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ClusterArgs {
    /// Name of the cluster: clusters of different names may share a membership store.
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub(crate) cluster: String,
}

/// Arguments of `conclave up`.
#[derive(Debug, clap::Args)]
#[command(after_help = UP_EXAMPLES)]
pub(crate) struct UpArgs {
    /// Folder of a checkpoint in the published layout, or `synth:PRESET,layers=4,seed=1` for random
    /// weights in memory. Without it, the tiny trained model in this program, unpacked into the cache
    /// folder.
    #[arg(long, value_name = "DIR|synth:…")]
    pub(crate) model: Option<String>,
    /// Worker processes.
    #[arg(long, default_value = "2", value_name = "N")]
    pub(crate) workers: NonZeroUsize,
    /// Ranks of each worker.
    #[arg(long, default_value = "1", value_name = "N")]
    pub(crate) ranks_per_worker: NonZeroUsize,
    /// Threads of each worker, shared by its ranks. Default: this machine's, divided evenly.
    #[arg(long, value_name = "N")]
    pub(crate) threads_per_worker: Option<NonZeroUsize>,
    /// Cores that the workers share out evenly, in this order, each with a thread of its own that stays
    /// there. Default: threads run where the system puts them or, on a machine with several memory nodes, each
    /// worker's on one of them.
    #[arg(long, value_name = "0-3,8", conflicts_with = "threads_per_worker")]
    pub(crate) cores: Option<Cores>,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
    /// Where the coordinator shows its state and metrics. Default: a port that is free; its log says
    /// which, as those of the workers do.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<ListenAt>,
    /// Asks a question and calls a function, once everything is ready.
    #[arg(long)]
    pub(crate) demo: bool,
}

/// Arguments of `conclave coordinator`.
#[derive(Debug, clap::Args)]
#[command(after_help = COORDINATOR_EXAMPLES)]
pub(crate) struct CoordinatorArgs {
    /// Folder of a checkpoint, or `synth:…`; the same that the workers serve.
    #[arg(long, value_name = "DIR|synth:…")]
    pub(crate) model: String,
    /// Ranks that make a group complete, over all its workers.
    #[arg(long, value_name = "N")]
    pub(crate) ranks: NonZeroUsize,
    /// How workers have to compute, who are told so themselves. A part of each answer's fingerprint.
    #[arg(long, default_value = "fast", value_parser = ["exact", "fast"])]
    pub(crate) numerics: String,
    /// The membership store: `memory`, served by this coordinator where workers reach it, or the
    /// endpoints of an etcd. More than one coordinator needs etcd.
    #[arg(
        long,
        default_value = "memory",
        value_delimiter = ',',
        value_name = "memory|HOST:PORT,…"
    )]
    pub(crate) store: Vec<String>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// Groups that this coordinator may lead.
    #[arg(
        long,
        default_value = "0",
        value_delimiter = ',',
        value_name = "NAME,…"
    )]
    pub(crate) groups: Vec<String>,
    /// Name of this coordinator, kept over restarts. Default: host name and port.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Where workers register. Reachable by whoever is trusted with the cluster, and nobody else.
    #[arg(long, default_value = "127.0.0.1:7101", value_name = "ADDRESS")]
    pub(crate) internal: ListenAt,
    /// The URI of `internal` as others see it, where that differs.
    #[arg(long, value_name = "URI")]
    pub(crate) advertise: Option<String>,
    #[command(flatten)]
    pub(crate) serve: ServeArgs,
    /// The URI of `grpc` as clients see it, where that differs; `conclave admin members` shows it.
    #[arg(long, value_name = "URI")]
    pub(crate) advertise_grpc: Option<String>,
    /// The URI of `http` as clients see it, likewise.
    #[arg(long, value_name = "URI")]
    pub(crate) advertise_http: Option<String>,
    /// Where `/startupz`, `/livez`, `/readyz` and `/metrics` are, for those who run the cluster.
    #[arg(long, default_value = "127.0.0.1:9100", value_name = "ADDRESS")]
    pub(crate) admin: ListenAt,
    /// The URI of `admin` as operators see it, where that differs; `conclave admin members` shows it.
    #[arg(long, value_name = "URI")]
    pub(crate) advertise_admin: Option<String>,
    /// End when the standard input does; `conclave up` sets this for its children.
    #[arg(long, hide = true)]
    pub(crate) with_parent: bool,
}

/// Arguments of `conclave worker`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = WORKER_EXAMPLES)]
pub(crate) struct WorkerArgs {
    /// Folder of a checkpoint, or `synth:…`; the same that the coordinator serves.
    #[arg(long, value_name = "DIR|synth:…")]
    pub(crate) model: String,
    /// The membership store: the endpoints of an etcd or, where that is in the coordinator's memory,
    /// the coordinator's internal address.
    #[arg(
        long,
        default_value = "127.0.0.1:7101",
        value_delimiter = ',',
        value_name = "HOST:PORT,…"
    )]
    pub(crate) store: Vec<String>,
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
    /// The group this worker belongs to.
    #[arg(long, default_value = "0", value_name = "NAME")]
    pub(crate) group: String,
    /// Name of this worker, kept over restarts. Default: host name and port.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Where the coordinator and other workers reach this one.
    #[arg(long, default_value = "127.0.0.1:7200", value_name = "ADDRESS")]
    pub(crate) listen: ListenAt,
    /// The URI of `listen` as others see it, where that differs.
    #[arg(long, value_name = "URI")]
    pub(crate) advertise: Option<String>,
    /// Where `/startupz`, `/livez`, `/readyz` and `/metrics` are, for those who run the cluster.
    #[arg(long, default_value = "127.0.0.1:9100", value_name = "ADDRESS")]
    pub(crate) admin: ListenAt,
    /// The URI of `admin` as operators see it, where that differs; `conclave admin members` shows it.
    #[arg(long, value_name = "URI")]
    pub(crate) advertise_admin: Option<String>,
    /// Ranks of this worker.
    #[arg(long, default_value = "1", value_name = "N")]
    pub(crate) ranks: NonZeroUsize,
    /// Threads of this worker, shared by its ranks. Default: all of this machine's.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Cores that this process keeps to, shared out evenly among its ranks, each with a thread of its own
    /// that stays there. Default: threads run where the system puts them.
    #[arg(long, value_name = "0-3,8", conflicts_with = "threads")]
    pub(crate) cores: Option<Cores>,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// Send rows over TCP also to workers of this machine, not by Unix sockets.
    #[arg(long)]
    pub(crate) tcp_exchange: bool,
    /// Count the rows of every single expert: a series of metrics for each of them.
    #[arg(long)]
    pub(crate) expert_metrics: bool,
    #[command(flatten)]
    pub(crate) drain: DrainArgs,
    /// End when the standard input does; `conclave up` sets this for its children.
    #[arg(long, hide = true)]
    pub(crate) with_parent: bool,
}

/// Where a client finds the cluster.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// The gRPC API: HOST:PORT or a URI.
    #[arg(
        long,
        default_value = "http://127.0.0.1:7100",
        env = "CONCLAVE_SERVER",
        value_name = "URI"
    )]
    pub(crate) server: String,
}

/// How a client wants tokens chosen.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SamplingArgs {
    /// 0 takes the most likely token each time.
    #[arg(long, value_name = "T")]
    pub(crate) temperature: Option<f32>,
    /// Choose among the most likely tokens with this much probability together.
    #[arg(long, value_name = "P")]
    pub(crate) top_p: Option<f32>,
    /// The same seed, prompt and model give the same text.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
    /// Most tokens of an answer.
    #[arg(long, value_name = "N")]
    pub(crate) max_tokens: Option<u32>,
}

/// Arguments of `conclave generate`.
#[derive(Debug, clap::Args)]
#[command(after_help = GENERATE_EXAMPLES)]
pub(crate) struct GenerateArgs {
    /// The text to continue; `-` reads it from the standard input.
    pub(crate) prompt: String,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// Go on after the model's end-of-text tokens.
    #[arg(long)]
    pub(crate) ignore_eos: bool,
}

/// Arguments of `conclave chat`.
#[derive(Debug, clap::Args)]
#[command(after_help = CHAT_EXAMPLES)]
pub(crate) struct ChatArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) sampling: SamplingArgs,
    /// How long the model reasons.
    #[arg(long, value_parser = ["low", "medium", "high"])]
    pub(crate) reasoning: Option<String>,
    /// Instructions to follow in all answers (the developer message).
    #[arg(long, value_name = "TEXT")]
    pub(crate) instructions: Option<String>,
}

/// Arguments of `conclave inspect`.
#[derive(Debug, clap::Args)]
#[command(after_help = INSPECT_EXAMPLES)]
pub(crate) struct InspectArgs {
    /// Folder of a checkpoint, or `synth:…`.
    pub(crate) model: String,
    /// Shows the bytes of each rank for this many ranks, at most 4096.
    #[arg(long, default_value = "1", value_name = "N", value_parser = value_parser!(u32).range(1..=4096))]
    pub(crate) ranks: u32,
    /// Reads every byte: checks values, and prints the SHA-256 of each file.
    #[arg(long)]
    pub(crate) checksum: bool,
}

/// Arguments of `conclave synth`.
#[derive(Debug, clap::Args)]
#[command(after_help = SYNTH_EXAMPLES)]
pub(crate) struct SynthArgs {
    /// Folder to write; must not exist, or be empty, unless it may be overwritten.
    pub(crate) out: PathBuf,
    /// Replace the checkpoint that the folder holds, at once when the new one is whole.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Geometry to start from.
    #[arg(long, default_value = "tiny", value_parser = ["tiny", "mini", "20b", "120b"])]
    pub(crate) preset: String,
    /// Layers, sliding and full attention in turn.
    #[arg(long, value_name = "N")]
    pub(crate) layers: Option<u64>,
    /// Experts of a layer.
    #[arg(long, value_name = "N")]
    pub(crate) experts: Option<u64>,
    /// Width of the residual stream, a multiple of 32.
    #[arg(long, value_name = "N")]
    pub(crate) hidden: Option<u64>,
    /// Width inside an expert, a multiple of 32.
    #[arg(long, value_name = "N")]
    pub(crate) intermediate: Option<u64>,
    /// Tokens; below 200,019 the tokenizer is a cut-down one.
    #[arg(long, value_name = "N")]
    pub(crate) vocab: Option<u64>,
    /// Query heads.
    #[arg(long, value_name = "N")]
    pub(crate) heads: Option<u64>,
    /// Key and value heads.
    #[arg(long, value_name = "N")]
    pub(crate) kv_heads: Option<u64>,
    /// Width of a head.
    #[arg(long, value_name = "N")]
    pub(crate) head_dim: Option<u64>,
    /// The same seed gives the same bytes.
    #[arg(long, value_name = "N")]
    pub(crate) seed: Option<u64>,
}
