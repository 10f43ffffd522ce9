//! Starts clusters of real processes for the end-to-end tests, and talks to them.

mod cluster;
mod fleet;
mod http;
mod network;
mod process;
mod resuming;
mod tool;

pub use cluster::{Cluster, Setup, free_address};
pub use fleet::{Fleet, Node};
pub use http::{Answer, get, post, post_stream, post_within};
pub use network::{Host, Network};
pub use process::{Killed, binary, children_of, is_alive, signal, wait_until};
pub use resuming::{Received, generate, generate_by};
pub use tool::tool;
