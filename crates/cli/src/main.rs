//! The `conclave` binary: reads arguments and environment, and starts what they ask for.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the program for people"
)]

mod args;
mod client;
mod commands;
mod memory;
mod model;
mod signals;
mod size;
mod telemetry;

use std::process::ExitCode;

use clap::Parser;

use crate::args::{Args, Command};

/// Buffers are made and dropped at each layer of each step, which glibc is slow at: it gives their
/// pages back to the system and asks for them again.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Failure, in words for a person; the causes are in the text.
type Outcome = Result<(), String>;

/// Joins an error and its causes, innermost last; a cause that its effect has told already is left
/// out.
fn in_words(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = error.source();
    }
    text
}

/// Names a process by host name and port: the same after a restart on the same port.
fn host_and_port(port: u16) -> String {
    let uname = rustix::system::uname();
    let host = uname.nodename().to_string_lossy();
    format!("{host}:{port}")
}

fn main() -> ExitCode {
    let args = Args::parse();
    telemetry::install(args.log_format);
    match run(args.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Outcome {
    match command {
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Synth(args) => commands::synth::run(&args),
        Command::Up(args) => block_on(commands::up::run(args)),
        Command::Coordinator(args) => block_on(commands::coordinator::run(args)),
        Command::Worker(args) => block_on(commands::worker::run(args)),
        Command::Generate(args) => block_on(commands::generate::run(args)),
        Command::Chat(args) => block_on(commands::chat::run(args)),
    }
}

/// Runs a future on a runtime of its own. Compute has its own threads, so two are enough.
fn block_on(future: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = runtime.map_err(|error| format!("cannot start the runtime: {error}"))?;
    let outcome = runtime.block_on(future);
    // A thread that waits for the terminal would keep the process for ever.
    runtime.shutdown_background();
    outcome
}
