//! The `conclave` binary: reads arguments, environment and file, and starts what they ask for.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the program for people"
)]

mod args;
mod cache;
mod client;
mod commands;
mod config;
mod cores;
mod listen;
mod memory;
mod mini;
mod model;
mod signals;
mod size;
mod telemetry;

use std::process::ExitCode;

use ::telemetry::About;

use crate::args::{Args, Command};
use crate::config::Told;

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

/// Names program and model, as metrics do.
fn about(model: &str) -> Result<About, String> {
    Ok(About {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        model: model::short_name(model)?,
    })
}

/// The exit status where settings are wrong, as clap has it for flags.
const WRONG_SETTINGS: u8 = 2;

/// Prints the table of metrics; of no command, so that it stands alone.
const DUMP_METRICS: &str = "--dump-metrics";

fn main() -> ExitCode {
    if std::env::args_os().skip(1).eq([DUMP_METRICS]) {
        print!("{}", ::telemetry::dump());
        return ExitCode::SUCCESS;
    }
    let Told {
        args,
        effective,
        check_only,
    } = match config::read() {
        Ok(told) => told,
        Err(error) => {
            // A closed output has no reader to tell.
            error.print().ok();
            return ExitCode::from(error.exit_code());
        }
    };
    if let Err(why) = check(&args.command) {
        eprintln!("error: {why}");
        return ExitCode::from(WRONG_SETTINGS);
    }
    if let (Some(effective), true) = (&effective, check_only) {
        println!("{effective}# the model was not opened");
        return ExitCode::SUCCESS;
    }
    // Who asks for a table gets the table, and no more than a warning beside it.
    let level = match args.command {
        Command::Admin(_) | Command::Bench(_) => "warn",
        _ => "info",
    };
    telemetry::install(args.log_format, level);
    if let Some(effective) = effective {
        tracing::info!(given = effective.given(), "settings");
    }
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

/// Finds what is wrong with the settings of a service together, without a look at the world: no
/// socket is opened, and no file of a model.
fn check(command: &Command) -> Outcome {
    match command {
        Command::Up(args) => commands::up::check(args),
        Command::Coordinator(args) => commands::coordinator::check(args),
        Command::Worker(args) => commands::worker::check(args),
        _ => Ok(()),
    }
}

fn run(args: Args) -> Outcome {
    match args.command {
        Command::Inspect(args) => commands::inspect::run(&args),
        Command::Synth(args) => commands::synth::run(&args),
        Command::Up(up) => block_on(commands::up::run(up, args.log_format)),
        Command::Coordinator(args) => block_on(commands::coordinator::run(args)),
        Command::Worker(args) => {
            cores::keep_to(args.cores.as_ref())?;
            block_on(commands::worker::run(args))
        }
        Command::Generate(args) => block_on(commands::generate::run(args)),
        Command::Chat(args) => block_on(commands::chat::run(args)),
        Command::Admin(args) => block_on(commands::admin::run(args)),
        Command::Bench(args) => commands::bench::run(args),
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
