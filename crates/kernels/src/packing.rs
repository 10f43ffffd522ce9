//! Matrices in the order in which a back end reads them.

use std::fmt;

use half::bf16;

/// A layout of matrices: strips of consecutive rows, each strip's bytes in one piece, strip after strip.
///
/// The rows that are missing in a matrix's last strip are zeros.
pub trait Packing: fmt::Debug + Send + Sync {
    /// Names the layout: packed bytes of one name mean the same everywhere.
    fn name(&self) -> &'static str;

    /// Rows of a strip.
    fn strip(&self) -> usize;

    /// Bytes of a strip of a `bf16` matrix.
    fn bf16_bytes(&self, inputs: usize) -> usize;

    /// Bytes of a strip of an MXFP4 matrix.
    fn codes_bytes(&self, inputs: usize) -> usize;

    /// Lays out up to a strip of rows, `[rows, inputs]`.
    fn bf16(&self, rows: &[bf16], inputs: usize, out: &mut [u8]);

    /// Lays out up to a strip of rows, as [`Codes::Rows`](crate::Codes) holds them.
    fn codes(&self, rows: Strip<'_>, out: &mut [u8]);
}

/// Some consecutive rows of an MXFP4 matrix.
#[derive(Clone, Copy, Debug)]
pub struct Strip<'a> {
    /// `[rows, inputs / 32, 16]`.
    pub blocks: &'a [u8],
    /// `[rows, inputs / 32]`.
    pub scales: &'a [u8],
    /// Number of inputs.
    pub inputs: usize,
    /// Whether rows take turns as gates and ups, whose results are needed apart.
    pub pairs: bool,
}
