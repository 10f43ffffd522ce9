//! Starts clusters of real processes for the end-to-end tests, and talks to them.

mod cluster;
mod http;
mod process;

pub use cluster::{Cluster, Setup, free_address};
pub use http::{Answer, get, post, post_stream, post_within};
pub use process::{Killed, binary, children_of, is_alive, signal, wait_until};
