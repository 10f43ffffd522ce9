//! Reads, checks and writes checkpoints in the published layout.
//!
//! [`Checkpoint::open`] takes a folder, reads configuration, index and headers and lists every
//! fault at once; [`RankWeights::load`] brings one rank's share into memory. A model can also be
//! described instead of read ([`ModelName`]): [`synth`] makes the same bytes in memory that it
//! would write to a folder. Knows nothing of arithmetic beyond the MXFP4 format, nor of networks.

mod error;
mod fault;
mod json;
mod tensors;

mod config;
mod header;
mod index;

mod checkpoint;
mod name;
mod open;

mod map;
mod pages;
mod parallel;
mod weights;

mod fingerprint;
mod inspect;
pub mod mxfp4;
pub mod synth;
mod verify;

pub use checkpoint::Checkpoint;
pub use config::{ModelConfig, SamplingDefaults};
pub use error::Error;
pub use fault::{Fault, Faults, What};
pub use fingerprint::Fingerprint;
pub use inspect::{GroupShare, Report, Warning};
pub use map::Tensor;
pub use name::ModelName;
pub use pages::Pages;
pub use parallel::{Progress, Watch};
pub use tensors::{Dtype, Key, TensorSpec, Weight, expected};
pub use verify::{FileSum, Verified, verify};
pub use weights::{
    ExpertSet, ExpertWeights, LayerWeights, LoadOptions, Matrix, PackedCache, PackedNews,
    RankWeights,
};
