//! The pure scheduler: sequences, KV blocks, batching. Plans steps and takes their results.
//!
//! An [`Engine`] has no clock, no thread, no I/O and no randomness: the same calls give the same
//! steps. A caller submits sequences, then goes round `next_step` → run on all ranks → `complete`.
//! Several steps may be in flight; results are taken in order.
//!
//! What a sequence has *committed* (its tokens, and the positions whose KV is computed) changes in
//! [`Engine::complete`] alone (and by [`Engine::rewrite`], which is asked for), so a token is emitted once whatever happens to a step. Everything
//! else about a running sequence is a *plan* that [`Engine::void`] throws away.
//!
//! Three rules keep KV right while steps are in flight or run again:
//!
//! - a row writes only into blocks that its sequence alone holds and the prefix cache does not know;
//! - a block comes back to its pool only once no step in flight has a line of the sequence that
//!   held it;
//! - the prefix cache learns a block only after all its positions are committed.

mod config;
mod engine;
mod kv;
mod outcome;
mod queue;
mod rank;
mod sequence;
mod sequences;
#[cfg(any(test, feature = "stub"))]
pub mod stub;
mod submit;

pub use config::{ConfigError, EngineConfig, MAX_IN_FLIGHT};
pub use engine::Engine;
pub use outcome::{
    Admitted, BadResult, Completed, Event, Finish, Load, PoolLoad, RankLoad, Report, Shortage,
};
pub use submit::{MAX_PRIORITY, PRIORITY_TURNS, Refused, Stop, Submit};
