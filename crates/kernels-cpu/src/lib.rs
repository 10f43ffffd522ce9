//! The ops on the CPU: threads, SIMD chosen at run time.
//!
//! [`Cpu`] computes exactly: `f32` activations and sums over `bf16` and MXFP4 weights that it reads
//! where the checkpoint has them. The same bits come out of any number of threads and of any
//! instruction path, so that ranks on different processors may work together.

mod attend;
mod experts;
mod linear;
mod math;
mod panel;
mod pool;
mod product;
mod rows;
mod simd;
mod tiles;
mod weights;

use std::fmt;
use std::num::NonZeroUsize;

use kernels::{Attend, Backend, Combine, Embed, Experts, Linear, RmsNorm, Rotate, Route, StoreKv};

use crate::pool::Pool;
use crate::simd::{Path, Scalar};

/// One rank's share of a CPU.
pub struct Cpu {
    pool: Pool,
    path: Path,
}

impl Cpu {
    /// Starts the threads and picks the fastest instructions that the processor has.
    ///
    /// With one thread the caller's own does the work.
    ///
    /// # Panics
    ///
    /// If the system refuses to start a thread.
    #[must_use]
    pub fn new(threads: NonZeroUsize) -> Self {
        Self {
            pool: Pool::new(threads),
            path: Path::detect(),
        }
    }

    /// Like [`Cpu::new`], with the instructions that every processor has. The results are the same
    /// bit by bit, after a far longer time: for tests.
    ///
    /// # Panics
    ///
    /// If the system refuses to start a thread.
    #[must_use]
    pub fn scalar(threads: NonZeroUsize) -> Self {
        Self {
            pool: Pool::new(threads),
            path: Path::Scalar(Scalar),
        }
    }
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cpu").finish_non_exhaustive()
    }
}

impl Backend for Cpu {
    fn numerics(&self) -> &str {
        "exact-1"
    }

    fn embed(&self, args: Embed<'_>) {
        rows::embed(&self.pool, args);
    }

    fn rms_norm(&self, args: RmsNorm<'_>) {
        rows::rms_norm(&self.pool, args);
    }

    fn linear(&self, args: Linear<'_>) {
        linear::linear(&self.pool, self.path, args);
    }

    fn rotate(&self, args: Rotate<'_>) {
        rows::rotate(&self.pool, args);
    }

    fn store_kv(&self, args: StoreKv<'_>) {
        rows::store_kv(args);
    }

    fn attend(&self, args: Attend<'_>) {
        attend::attend(&self.pool, self.path, args);
    }

    fn route(&self, args: Route<'_>) {
        rows::route(args);
    }

    fn run_experts(&self, args: Experts<'_>) {
        experts::run_experts(&self.pool, self.path, args);
    }

    fn combine(&self, args: Combine<'_>) {
        rows::combine(&self.pool, args);
    }
}
