//! The ops on the CPU: threads, SIMD chosen at run time.
//!
//! [`Cpu`] computes exactly: `f32` activations and sums over `bf16` and MXFP4 weights that it reads
//! where the checkpoint has them. The same bits come out of any number of threads and of any
//! instruction path, so that ranks on different processors may work together. [`Cpu::fast`] rounds
//! the activations and wants its weights packed.

mod attend;
mod cores;
mod experts;
mod fast;
mod linear;
mod math;
mod nodes;
mod panel;
mod pool;
mod product;
mod rows;
mod simd;
mod threads;
mod tiles;
mod weights;

use std::num::NonZeroUsize;
use std::{fmt, io};

use kernels::{
    Attend, Backend, Bf16, Codes, Combine, Embed, Experts, Linear, Packing, RmsNorm, Rotate, Route,
    StoreKv,
};

pub use crate::cores::{Cores, CoresFault};
pub use crate::nodes::{memory_nodes, share_nodes};
pub use crate::simd::peak::Unit;
pub use crate::simd::read::read;
pub use crate::threads::Threads;

use crate::fast::{STRIPS, Tiles};
use crate::pool::Pool;
use crate::simd::{Path, Scalar};

/// How ranks compute; ranks of one group must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numerics {
    /// `f32` activations, accumulation and KV over the published weights.
    Exact,
    /// `f32` accumulation and KV; activations rounded to `bf16`, and for the experts to 8 bits.
    Fast,
}

/// One rank's share of a CPU.
pub struct Cpu {
    pool: Pool,
    path: Path,
    /// Computes products with packed matrices; `None` if all are read as checkpoints hold them.
    fast: Option<Tiles>,
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
            fast: None,
        }
    }

    /// Starts a back end that rounds activations: to `bf16`, and for the experts to 8 bits, where
    /// matrices are packed as [`Backend::packing`] says. A matrix that is not is multiplied exactly.
    ///
    /// # Panics
    ///
    /// If the system refuses to start a thread.
    #[must_use]
    pub fn fast(threads: NonZeroUsize) -> Self {
        Self {
            fast: Some(Tiles::detect()),
            ..Self::new(threads)
        }
    }

    /// Starts a back end that computes so, as [`Cpu::new`] or [`Cpu::fast`], on these threads.
    ///
    /// # Errors
    ///
    /// If the system refuses to bind a thread to its core.
    ///
    /// # Panics
    ///
    /// If the system refuses to start a thread.
    pub fn with(numerics: Numerics, threads: &Threads) -> io::Result<Self> {
        let pool = match threads {
            Threads::Any(count) => Pool::new(*count),
            Threads::On(cores) => Pool::bound(cores)?,
        };
        Ok(Self {
            pool,
            path: Path::detect(),
            fast: (numerics == Numerics::Fast).then(Tiles::detect),
        })
    }

    /// Like [`Cpu::new`] on each instruction path of this processor, slowest first, for tests.
    ///
    /// # Panics
    ///
    /// If the system refuses to start a thread.
    #[must_use]
    pub fn on_every_path(threads: NonZeroUsize) -> Vec<Self> {
        let each = Path::all().into_iter().map(|path| Self {
            pool: Pool::new(threads),
            path,
            fast: None,
        });
        each.collect()
    }

    /// Like [`Cpu::fast`] on each instruction path of this processor, for tests.
    ///
    /// # Panics
    ///
    /// If the system refuses to start a thread.
    #[must_use]
    pub fn fast_on_every_path(threads: NonZeroUsize) -> Vec<Self> {
        let each = Tiles::all().into_iter().map(|tiles| Self {
            pool: Pool::new(threads),
            path: Path::Scalar(Scalar),
            fast: Some(tiles),
        });
        each.collect()
    }
}

impl fmt::Debug for Cpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cpu").finish_non_exhaustive()
    }
}

impl Backend for Cpu {
    fn numerics(&self) -> &str {
        self.fast.map_or("exact-2", Tiles::numerics)
    }

    fn packing(&self) -> Option<&'static dyn Packing> {
        self.fast.map(|_| &STRIPS as &dyn Packing)
    }

    fn host(&self, work: Box<dyn FnOnce() + Send + '_>) {
        self.pool.host(work);
    }

    fn embed(&self, args: Embed<'_>) {
        rows::embed(&self.pool, args);
    }

    fn rms_norm(&self, args: RmsNorm<'_>) {
        rows::rms_norm(&self.pool, args);
    }

    fn linear(&self, args: Linear<'_>) {
        match (args.weight, self.fast) {
            (Bf16::Rows(matrix), _) => linear::linear(&self.pool, self.path, args, matrix),
            (Bf16::Packed(matrix), Some(fast)) => fast::linear(&self.pool, fast, args, matrix),
            (Bf16::Packed(_), None) => panic!("linear: this back end has no layout"),
        }
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
        let mut work = args.work.iter();
        let is_packed = work.any(|work| matches!(work.down.codes, Codes::Packed(_)));
        match self.fast {
            Some(fast) if is_packed => fast::run_experts(&self.pool, (fast, self.path), args),
            _ => experts::run_experts(&self.pool, self.path, args),
        }
    }

    fn combine(&self, args: Combine<'_>) {
        rows::combine(&self.pool, args);
    }
}
