//! What keeps a worker from running.

use std::time::Duration;

use spec::Rank;

/// Result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a worker did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A configured value cannot be used.
    #[error("worker configuration: {field}: {why}")]
    Config {
        /// Name of the field in [`Config`](crate::Config).
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The model's files cannot be served; the source lists all faults found.
    #[error("the model {model} cannot be served")]
    Checkpoint {
        /// Name of the model as configured.
        model: String,
        /// The faults.
        #[source]
        source: checkpoint::Error,
    },
    /// The listener or a thread could not be set up.
    #[error("{what}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The gRPC server ended.
    #[error("serving gRPC")]
    Serve(#[source] tonic::transport::Error),
    /// The group's lead does not want this worker.
    #[error("the lead at {lead} refuses worker {name:?}: {reason}")]
    Refused {
        /// Address of the lead.
        lead: String,
        /// Name of this worker.
        name: String,
        /// What the lead said.
        reason: String,
    },
    /// Another live worker has this worker's name.
    #[error(transparent)]
    NameTaken(#[from] presence::Taken),
    /// A compute thread panicked. Its KV cannot be trusted, so the process must end.
    #[error("the thread of rank {rank} panicked: {message}")]
    RankPanicked {
        /// The rank.
        rank: Rank,
        /// The panic's message.
        message: String,
    },
    /// A compute thread does not put its step down. Nobody can end a thread, so the process must end.
    #[error(
        "the thread of rank {rank} has taken no order for {waited:?} after its epoch ended: it hangs \
         in a step"
    )]
    RankHung {
        /// The rank.
        rank: Rank,
        /// How long it was waited for.
        waited: Duration,
    },
    /// A task of the worker panicked.
    #[error("a task of the worker ended")]
    Task(#[source] tokio::task::JoinError),
}

/// Returns an error and its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
