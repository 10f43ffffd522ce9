//! Measures what this machine can do and how near Conclave comes to it.
//!
//! In this process: [`limits`] are those of the machine, [`ops`] single ops on the
//! weights of a model, and [`passes`] whole passes of a group of ranks, driven by the engine that drives
//! clusters. [`Agreement`] is how far rounding changes what a model says. [`serving`] sums up what clients of a
//! cluster have seen. Rates have the names and definitions of `llama-bench` and `llama-batched-bench`
//! (<https://github.com/ggml-org/llama.cpp/tree/master/tools>), so that they can stand beside those.

mod agreement;
mod error;
mod group;
pub mod limits;
pub mod ops;
pub mod passes;
pub mod samples;
pub mod serving;

pub use agreement::Agreement;
pub use error::Error;
pub use group::{Group, Shape};
pub use kernels_cpu::{Cores, Numerics, Threads};
