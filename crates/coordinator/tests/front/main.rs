//! The front against a scripted lead, over real gRPC and HTTP connections.

mod chat;
mod completions;
mod ends;
mod generate;
mod http;
mod probes;
mod refusals;
mod stage;
