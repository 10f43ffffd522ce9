//! The front against a scripted lead, over real gRPC and HTTP connections.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests; clippy excuses only the tests themselves"
)]

mod chat;
mod completions;
mod counted;
mod ends;
mod generate;
mod groups;
mod http;
mod probes;
mod refusals;
mod repeats;
mod stage;
mod waits;
