//! The command line of `conclave bench`.

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;

use clap::Subcommand;
use worker::Cores;

use super::ServerArgs;

const EXAMPLES: &str = "\
Examples:
  conclave bench decode
  conclave bench prefill --model /models/gpt-oss-20b --tokens 512,2048 --rounds 7
  conclave bench batch --model synth:20b,layers=4,vocab=32768 --sequences 4,16,32 --json batch.json
  conclave bench serve --rate 4 --requests 200 --chart times.svg
  conclave bench kernels --model synth:20b,layers=2,vocab=32768 --rows 1,4,32";

/// Arguments of `conclave bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: BenchCommand,
}

/// What is measured.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Single ops: bytes and operations a second beside what this machine can do at most.
    Kernels(KernelsArgs),
    /// Tokens that one sequence generates in a second (`tg` of llama-bench).
    Decode(DecodeArgs),
    /// Tokens of a prompt that are computed in a second (`pp` of llama-bench).
    Prefill(PrefillArgs),
    /// Several sequences at a time (llama-batched-bench).
    Batch(BatchArgs),
    /// How far rounding changes what the model says, against `exact` (llama-perplexity --kl-divergence).
    Numerics(NumericsArgs),
    /// A running cluster as its clients see it: times to tokens, and throughput (vllm bench serve).
    Serve(ServeBenchArgs),
}

/// What all benchmarks within this process take.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BenchModelArgs {
    /// Folder of a checkpoint, or `synth:…`. Without it, the tiny trained model in this program.
    #[arg(long, value_name = "DIR|synth:…")]
    pub(crate) model: Option<String>,
    /// Threads, those of all ranks together. Default: all of this machine's.
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<NonZeroUsize>,
    /// Cores that this process keeps to, shared out evenly among its ranks, as for workers.
    #[arg(long, value_name = "0-3,8", conflicts_with = "threads")]
    pub(crate) cores: Option<Cores>,
    /// How the arithmetic is done, as for workers.
    #[arg(long, default_value = "fast", value_parser = ["exact", "fast"])]
    pub(crate) numerics: String,
    /// Where packed weights are kept, as for workers.
    #[arg(long, default_value = "auto", value_name = "DIR|auto|off")]
    pub(crate) packed_cache: String,
    /// Write all figures, those of each round too, to a file as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// How whole passes are measured.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct PassArgs {
    #[command(flatten)]
    pub(crate) model: BenchModelArgs,
    /// Ranks, each a part of this process, that share the experts.
    #[arg(long, default_value = "1", value_name = "N")]
    pub(crate) ranks: NonZeroUsize,
    /// Rounds, each of which measures everything once; medians are told.
    #[arg(long, default_value = "5", value_name = "N")]
    pub(crate) rounds: NonZeroUsize,
    /// Most rows a rank computes in one step; a longer prompt is computed in several.
    #[arg(long, default_value = "512", value_name = "N")]
    pub(crate) max_step_rows: NonZeroUsize,
}

/// Arguments of `conclave bench kernels`.
#[derive(Debug, clap::Args)]
pub(crate) struct KernelsArgs {
    #[command(flatten)]
    pub(crate) model: BenchModelArgs,
    /// Rows computed at once.
    #[arg(
        long,
        default_value = "1,4,16,32,512",
        value_delimiter = ',',
        value_name = "N,…"
    )]
    pub(crate) rows: Vec<NonZeroUsize>,
    /// Positions that attention looks back on.
    #[arg(long, default_value = "4096", value_name = "N")]
    pub(crate) context: NonZeroUsize,
}

/// Arguments of `conclave bench decode`.
#[derive(Debug, clap::Args)]
pub(crate) struct DecodeArgs {
    #[command(flatten)]
    pub(crate) pass: PassArgs,
    /// Tokens to generate.
    #[arg(long, default_value = "64", value_name = "N")]
    pub(crate) tokens: NonZeroUsize,
    /// Tokens of context before them.
    #[arg(long, default_value = "1", value_delimiter = ',', value_name = "N,…")]
    pub(crate) depth: Vec<NonZeroUsize>,
}

/// Arguments of `conclave bench prefill`.
#[derive(Debug, clap::Args)]
pub(crate) struct PrefillArgs {
    #[command(flatten)]
    pub(crate) pass: PassArgs,
    /// Tokens of the prompt.
    #[arg(long, default_value = "512", value_delimiter = ',', value_name = "N,…")]
    pub(crate) tokens: Vec<NonZeroUsize>,
}

/// Arguments of `conclave bench batch`.
#[derive(Debug, clap::Args)]
pub(crate) struct BatchArgs {
    #[command(flatten)]
    pub(crate) pass: PassArgs,
    /// Sequences at a time.
    #[arg(
        long,
        default_value = "1,4,16,32",
        value_delimiter = ',',
        value_name = "N,…"
    )]
    pub(crate) sequences: Vec<NonZeroUsize>,
    /// Tokens of each prompt.
    #[arg(long, default_value = "32", value_name = "N")]
    pub(crate) prompt: NonZeroUsize,
    /// Tokens that each generates.
    #[arg(long, default_value = "16", value_name = "N")]
    pub(crate) tokens: NonZeroUsize,
}

/// Arguments of `conclave bench numerics`.
#[derive(Debug, clap::Args)]
pub(crate) struct NumericsArgs {
    #[command(flatten)]
    pub(crate) model: BenchModelArgs,
    /// A text, of which each token is looked at. Default: tokens drawn at random.
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<PathBuf>,
    /// Most tokens.
    #[arg(long, default_value = "512", value_name = "N")]
    pub(crate) tokens: NonZeroUsize,
}

/// Arguments of `conclave bench serve`.
#[derive(Debug, clap::Args)]
pub(crate) struct ServeBenchArgs {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    /// Requests a second, sent at the times of a Poisson process whatever becomes of those before; `inf`
    /// sends all at once.
    #[arg(long, default_value = "inf", value_parser = rate, value_name = "N")]
    pub(crate) rate: f64,
    /// Requests to send.
    #[arg(long, default_value = "64", value_name = "N")]
    pub(crate) requests: NonZeroUsize,
    /// Tokens of each prompt, drawn at random.
    #[arg(long, default_value = "128", value_name = "N")]
    pub(crate) prompt: NonZeroUsize,
    /// Tokens that each generates.
    #[arg(long, default_value = "64", value_name = "N")]
    pub(crate) tokens: NonZeroU32,
    /// Prompts and times are drawn from it.
    #[arg(long, default_value = "0", value_name = "N")]
    pub(crate) seed: u64,
    /// Write all figures to a file as JSON, named as `vllm bench serve` names them.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw the times to a file as SVG.
    #[arg(long, value_name = "FILE")]
    pub(crate) chart: Option<PathBuf>,
}

/// Reads a number of requests a second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate >= 0.001 => Ok(rate),
        _ => Err("write a number of at least 0.001, or inf".into()),
    }
}
