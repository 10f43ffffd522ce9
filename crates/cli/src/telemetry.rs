//! Logs, through tracing, to the standard error.

use std::fmt;
use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line, for machines.
    Json,
}

impl fmt::Display for LogFormat {
    /// Writes what the flag takes.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// Installs the subscriber. `CONCLAVE_LOG` filters, for instance `debug` or `coordinator=debug`.
pub(crate) fn install(format: LogFormat) {
    let wanted = std::env::var_os("CONCLAVE_LOG").map(|value| value.to_string_lossy().into_owned());
    let filter = match wanted.as_deref().map(EnvFilter::try_new) {
        None => EnvFilter::new("info"),
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            eprintln!("CONCLAVE_LOG is not understood ({error}); logging at info");
            EnvFilter::new("info")
        }
    };
    let ansi = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(ansi).with_target(false).init(),
        LogFormat::Json => builder.json().init(),
    }
}
