//! The forward pass of one rank: from its [`spec::Part`] of a step to a [`spec::PartResult`].
//!
//! [`RankModel`] holds the rank's weights, its KV memory and what it knows of its sequences. A part
//! goes through check → apply → embedding → per layer attention, router, dispatch, experts,
//! combine → logits → sampler. Every op is a call of a [`kernels::Backend`], and rows reach other
//! ranks through a [`kernels::Exchange`]; this crate knows no process, thread or network.

mod error;
mod progress;
mod transformer;

mod check;
mod slots;
mod table;

mod attention;
mod batch;
mod head;
mod kv;
mod moe;
mod pass;
mod rope;
mod scratch;

mod random;
mod sampler;

pub use error::{LineFault, ModelError, OpenFault, PartFault};
pub use head::{Capture, MAX_LOGIT_ROWS};
pub use progress::{Progress, Stage};
pub use random::{DrawKey, Purpose};
pub use rope::Rotary;
pub use sampler::{Choice, Penalized, Sampler, log_sum_exp, token_logprob};
pub use transformer::RankModel;
