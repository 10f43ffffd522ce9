//! Ranks as a process: load, join, execute steps, serve the exchange.
//!
//! A worker opens and checks its checkpoint, registers with the coordinator (`membership`) and
//! then does what a lead tells it through `StepService` (`service`): prepare an epoch (`prepare`),
//! run its steps (`run`). Each rank is a plain thread (`compute`, kept by `crew`); `epoch` knows
//! which lead and epoch are obeyed, `convert` lets nothing in that was not checked.

mod error;
pub mod limits;

mod address;
mod config;

mod convert;
mod effort;
mod epoch;

mod chosen;
mod compute;
mod crew;
mod left;
mod load;
mod meter;
mod names;
mod prepare;
mod run;
mod service;

mod leads;
mod membership;
mod running;
mod standing;

#[cfg(test)]
mod testing;

pub use config::Config;
pub use error::{Error, Result};
pub use kernels_cpu::{Cores, Numerics, Threads, memory_nodes, share_nodes};
pub use running::{Running, start};

/// The pure part of a worker: which epochs it obeys, and what it keeps of sequences for another lead. For
/// simulations of whole clusters.
pub mod member {
    pub use crate::epoch::{Epochs, NotReady, Stale};
    pub use crate::left::Left;
}
