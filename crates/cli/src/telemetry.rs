//! Logs, through tracing, to the standard error; and what of them is counted.

use std::fmt;
use std::io::IsTerminal;
use std::sync::OnceLock;

use ::telemetry::labels;
use clap::ValueEnum;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, fmt as lines};

/// Told of each line that is written.
type Sink = Box<dyn Fn(labels::Level) + Send + Sync>;

/// The process's metrics, once it has any; the subscriber is there before.
static SINK: OnceLock<Sink> = OnceLock::new();

/// Counts lines.
struct Counting;

impl<S: Subscriber> Layer<S> for Counting {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let level = match *event.metadata().level() {
            Level::ERROR => labels::Level::Error,
            Level::WARN => labels::Level::Warn,
            Level::INFO => labels::Level::Info,
            Level::DEBUG => labels::Level::Debug,
            Level::TRACE => labels::Level::Trace,
        };
        if let Some(sink) = SINK.get() {
            sink(level);
        }
    }
}

/// Counts lines of the log from now on.
pub(crate) fn count(sink: impl Fn(labels::Level) + Send + Sync + 'static) {
    // A process has one set of metrics.
    drop(SINK.set(Box::new(sink)));
}

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

/// Installs the subscriber. `CONCLAVE_LOG` filters, for instance `debug` or `coordinator=debug`; where it
/// says nothing, `level` does.
pub(crate) fn install(format: LogFormat, level: &str) {
    let wanted = std::env::var_os("CONCLAVE_LOG").map(|value| value.to_string_lossy().into_owned());
    let filter = match wanted.as_deref().map(EnvFilter::try_new) {
        None => EnvFilter::new(level),
        Some(Ok(filter)) => filter,
        Some(Err(error)) => {
            eprintln!("CONCLAVE_LOG is not understood ({error}); logging at {level}");
            EnvFilter::new(level)
        }
    };
    let ansi = std::io::stderr().is_terminal();
    let counted = tracing_subscriber::registry().with(filter).with(Counting);
    let lines = lines::layer().with_writer(std::io::stderr);
    match format {
        LogFormat::Text => counted
            .with(lines.with_ansi(ansi).with_target(false))
            .init(),
        LogFormat::Json => counted.with(lines.json()).init(),
    }
}
