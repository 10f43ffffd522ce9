//! Tests against fixtures made by the reference implementations (`tests/oracle/make_cases.py`)
//! and against the vocabulary that tiktoken-rs carries.

mod decoding;
mod encoding;
mod files;
mod fixtures;
mod malformed;
mod parsing;
mod properties;
mod rendering;
