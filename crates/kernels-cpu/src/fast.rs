//! Products with packed matrices, on rounded activations.
//!
//! Rows of a `bf16` matrix are multiplied with `bf16` activations, those of an MXFP4 matrix with whole
//! numbers of 8 bits that share a scale for each 32. Sums are `f32`, one for each output, over the pairs, tiles or
//! blocks of inputs in ascending order: neither the rows of a call nor its tiling or threads enter, nor its
//! instructions but for matrix units, whose sums are told apart by name ([`Tiles::numerics`]).
//!
//! Why so, and what it loses: docs/decisions/0007-fast-ranks-round-activations.md.

mod experts;
mod layout;
mod linear;
mod quantize;
mod tile;
#[cfg(target_arch = "x86_64")]
mod tiled;

pub(crate) use self::experts::run_experts;
pub(crate) use self::layout::STRIPS;
pub(crate) use self::linear::linear;
pub(crate) use self::tile::Tiles;
