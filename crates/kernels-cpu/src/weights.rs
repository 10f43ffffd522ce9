//! Matrices as the checkpoint holds them, read 32 values of a row at a time.

use half::bf16;
use kernels::mxfp4;

use crate::simd::{LANES, ORDERED, Quad, SPLIT, Simd};

/// Values of a chunk.
pub(crate) const CHUNK: usize = 4 * LANES;

/// Bytes that come from memory together.
const LINE: usize = 64;

/// A matrix `[outputs, inputs]`.
pub(crate) trait Weights: Copy + Sync {
    /// Which of a chunk's inputs each lane holds.
    const ORDER: Quad<[usize; LANES]>;

    /// One output's inputs.
    type Row: Copy;

    fn row(self, output: usize) -> Self::Row;

    /// Returns the values `CHUNK · chunk ..` of a row, in [`Weights::ORDER`]; beyond its end zeros.
    fn chunk<S: Simd>(simd: S, row: Self::Row, chunk: usize) -> Quad<S::F32>;

    /// Hints that `count` chunks are read soon, from a chunk counted over all rows.
    fn prefetch<S: Simd>(self, simd: S, chunk: usize, count: usize);
}

/// A matrix in `bf16`.
#[derive(Clone, Copy)]
pub(crate) struct Bf16<'a> {
    /// `[outputs, inputs]`.
    pub(crate) values: &'a [bf16],
    pub(crate) inputs: usize,
}

impl<'a> Weights for Bf16<'a> {
    const ORDER: Quad<[usize; LANES]> = ORDERED;

    type Row = (&'a [Quad<[bf16; LANES]>], &'a [bf16]);

    #[inline(always)]
    fn row(self, output: usize) -> Self::Row {
        let row = &self.values[output * self.inputs..][..self.inputs];
        let (whole, rest) = row.split_at(self.inputs / CHUNK * CHUNK);
        (whole.as_chunks().0.as_chunks().0, rest)
    }

    #[inline(always)]
    fn chunk<S: Simd>(simd: S, (whole, rest): Self::Row, chunk: usize) -> Quad<S::F32> {
        let mut padded = [[bf16::ZERO; LANES]; 4];
        let values = whole.get(chunk).unwrap_or_else(|| {
            padded.as_flattened_mut()[..rest.len()].copy_from_slice(rest);
            &padded
        });
        let [a, b, c, d] = values;
        [simd.widen(a), simd.widen(b), simd.widen(c), simd.widen(d)]
    }

    #[inline(always)]
    fn prefetch<S: Simd>(self, simd: S, chunk: usize, count: usize) {
        let line = LINE / size_of::<bf16>();
        for place in (chunk * CHUNK..(chunk + count) * CHUNK).step_by(line) {
            simd.prefetch(self.values, place);
        }
    }
}

/// A matrix in MXFP4: a block is a chunk.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a> {
    /// `[outputs, chunks]`.
    blocks: &'a [[u8; mxfp4::BLOCK_BYTES]],
    /// `[outputs, chunks]`.
    scales: &'a [u8],
    /// Of a row.
    chunks: usize,
}

impl<'a> Blocks<'a> {
    pub(crate) fn new(blocks: &'a [u8], scales: &'a [u8], inputs: usize) -> Self {
        Self {
            blocks: blocks.as_chunks().0,
            scales,
            chunks: inputs / mxfp4::BLOCK,
        }
    }
}

impl<'a> Weights for Blocks<'a> {
    const ORDER: Quad<[usize; LANES]> = SPLIT;

    type Row = (&'a [[u8; mxfp4::BLOCK_BYTES]], &'a [u8]);

    #[inline(always)]
    fn row(self, output: usize) -> Self::Row {
        let first = output * self.chunks;
        (
            &self.blocks[first..][..self.chunks],
            &self.scales[first..][..self.chunks],
        )
    }

    #[inline(always)]
    fn chunk<S: Simd>(simd: S, (blocks, scales): Self::Row, chunk: usize) -> Quad<S::F32> {
        simd.unpack(&blocks[chunk], scales[chunk])
    }

    #[inline(always)]
    fn prefetch<S: Simd>(self, simd: S, chunk: usize, count: usize) {
        for block in (chunk..chunk + count).step_by(LINE / mxfp4::BLOCK_BYTES) {
            simd.prefetch(self.blocks, block);
        }
    }
}
