//! The vocabulary, incremental decoding and the Harmony format.

mod byte_chars;
mod error;
mod file;
pub mod harmony;
mod ranks;
mod specials;
pub mod synthetic;
mod tokenizer;
mod utf8;

pub use error::Error;
pub use tokenizer::Tokenizer;
pub use utf8::Utf8Stream;
