//! Why something could not be measured.

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The weights could not be loaded.
    #[error("loading weights")]
    Load(#[from] checkpoint::Error),
    /// A rank could not be made, or could not compute.
    #[error(transparent)]
    Model(#[from] model::ModelError),
    /// The model has no such positions.
    #[error("a sequence of {wanted} tokens: the model takes {most}")]
    TooLong {
        /// Tokens of prompt and output.
        wanted: usize,
        /// Positions that the model accepts.
        most: usize,
    },
    /// There is no memory to read for comparison, or for keys and values.
    #[error("no memory to measure with")]
    Memory(#[from] std::io::Error),
    /// Cores cannot be shared out evenly.
    #[error("the cores are not as many for each of {ranks} ranks")]
    Uneven {
        /// Ranks that share them.
        ranks: usize,
    },
    /// The system refuses to bind a thread to its core.
    #[error("a thread cannot be bound to its core")]
    Bind(#[source] std::io::Error),
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}
