//! What can be wrong with a tokenizer file or a vocabulary.

use std::io;
use std::path::PathBuf;

/// Why a tokenizer could not be loaded or made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file could not be read.
    #[error("{}: cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file could be read, but not used.
    #[error("{}: not a tokenizer that can be used", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A value is not JSON, or not of the type that belongs there.
    #[error("tokenizer.json: {key} is malformed")]
    Malformed {
        /// Path of the key, as `model.vocab`.
        key: &'static str,
        /// What the parser said; its line and column count from where the value begins.
        source: serde_json::Error,
    },
    /// A key holds something this crate does not implement.
    #[error("tokenizer.json: {key}: expected {expected}, found {found}")]
    Unexpected {
        /// Path of the key, as `model.type`.
        key: String,
        /// What is understood there.
        expected: String,
        /// What stands there, shortened.
        found: String,
    },
    /// The split pattern is not a regular expression the engine takes.
    #[error("tokenizer.json: {pattern} is not a usable split pattern: {reason}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What the engine said.
        reason: String,
    },
    /// The vocabulary lacks a token that the Harmony format needs.
    #[error("the tokenizer has no special token {name}, which the Harmony format needs")]
    MissingSpecial {
        /// The token's name, as `<|start|>`.
        name: &'static str,
    },
    /// A synthetic vocabulary cannot be so small.
    #[error(
        "a vocabulary of {found} tokens is too small: 256 bytes and 10 special tokens need {minimum}"
    )]
    VocabularyTooSmall {
        /// The size asked for.
        found: usize,
        /// The smallest size there is.
        minimum: usize,
    },
}
