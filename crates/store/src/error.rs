//! What can go wrong with an operation, in words for an operator.

use std::time::Duration;

/// Why an operation has no result.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No endpoint took the request in time; nothing was changed.
    #[error(
        "cannot {what}: no endpoint of the membership store answers ({endpoints}), last {why}: check \
         that it runs and that --store names it"
    )]
    Unreachable {
        /// The operation, in words.
        what: String,
        /// All endpoints.
        endpoints: String,
        /// What the last attempt ended with.
        why: String,
    },

    /// The request was sent and no answer came: it may or may not have been carried out. Whoever
    /// needs to know reads what it wrote.
    #[error(
        "cannot tell whether the membership store at {endpoint} was able to {what}, {why}: read the \
         key before you try again"
    )]
    Unknown {
        /// The operation, in words.
        what: String,
        /// The endpoint that was asked.
        endpoint: String,
        /// What happened to the answer.
        why: String,
    },

    /// The store answered, and the answer is no.
    #[error("the membership store at {endpoint} refuses to {what}: {why} ({code:?})")]
    Refused {
        /// The operation, in words.
        what: String,
        /// The endpoint that answered.
        endpoint: String,
        /// The gRPC status.
        code: tonic::Code,
        /// Its message.
        why: String,
    },

    /// A key that is not one.
    #[error(
        "{key:?} is no key: it has to have 1 to {limit} bytes with the cluster's prefix, and not to \
         start with '.' or '/'"
    )]
    Key {
        /// What was given.
        key: String,
        /// The most bytes it may have.
        limit: usize,
    },

    /// A value or transaction that the store would not take.
    #[error("{what} has {size} {unit}, more than the {limit} that the membership store takes")]
    TooLarge {
        /// The key of the value, or the transaction.
        what: String,
        /// How large it is.
        size: usize,
        /// Of what.
        unit: &'static str,
        /// The limit.
        limit: usize,
    },

    /// A lease that is too short or too long.
    #[error("a lease of {ttl:?} cannot be had: ask for 1 s to {limit:?}")]
    Ttl {
        /// What was asked for.
        ttl: Duration,
        /// The longest one.
        limit: Duration,
    },
}

impl Error {
    /// Whether the same may succeed later without anybody changing anything but the store's health.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Unknown { .. } => true,
            Self::Refused { code, .. } => *code == tonic::Code::ResourceExhausted,
            Self::Key { .. } | Self::TooLarge { .. } | Self::Ttl { .. } => false,
        }
    }
}
