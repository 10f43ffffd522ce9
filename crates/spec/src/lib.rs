//! The model's numbers and the vocabulary of ids, shared by every crate.
//!
//! Knows no file, no network and no arithmetic: [`Geometry`] says what a model looks like,
//! [`Placement`] which rank holds which expert, and [`Step`] what all ranks do together next.

mod address;
mod geometry;
mod ids;
mod placement;
mod sampling;
mod step;

pub use address::is_address;
pub use geometry::{Attention, Geometry, GeometryError, Rope};
pub use ids::{BlockId, Epoch, ExpertId, Fence, Rank, SequenceId, Slot, StepNumber, Term, TokenId};
pub use placement::{Placement, PlacementError};
pub use sampling::{MAX_TOP_LOGPROBS, Sampling, SamplingError};
pub use step::{
    BlockRun, KvPlan, Line, LineResult, Open, Part, PartResult, SampledToken, Step, TokenLogprob,
};
