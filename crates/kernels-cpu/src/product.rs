//! The one matrix product: rows of activations by rows of a weight matrix.
//!
//! Each sum has eight lanes: lane `i` adds the products of inputs `8j + i` for ascending `j`, fused,
//! and the lanes are added at the end as [`Simd::sums`] says. Neither the number of rows nor the
//! tiling enters, so that a row's result is the same in any company.

use std::ops::Range;

use crate::panel::Panel;
use crate::simd::{Kernel, LANES, Lanes, Simd};
use crate::weights::{CHUNK, Weights};

/// Outputs side by side in the inner kernel: with [`GROUP`](crate::panel::GROUP) rows twelve sums,
/// which together with what they read fill sixteen registers.
const WIDE: usize = 4;
/// Outputs whose weights are held widened: with [`DEEP`] chunks 18 KiB, which leaves room for the
/// rows in a 32 KiB cache.
const TILE: usize = 3 * WIDE;
/// Chunks that are widened at once.
const DEEP: usize = 12;
/// Registers of a chunk.
const STEPS: usize = CHUNK / LANES;

/// Outputs of one item of work: a multiple of [`TILE`], large against what an item costs.
pub(crate) const OUTPUTS: usize = 4 * TILE;

/// Computes `z[row][output] = Σ x[row] · weights[output]` for some outputs.
pub(crate) struct Product<'a, W> {
    pub(crate) x: &'a Panel,
    pub(crate) weights: W,
    pub(crate) outputs: Range<usize>,
    /// `[rows, outputs.len()]`.
    pub(crate) z: &'a mut [f32],
}

impl<W: Weights> Kernel for Product<'_, W> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        if self.x.rows() == 1 {
            self.one_row(simd);
        } else {
            self.many_rows(simd);
        }
    }
}

impl<W: Weights> Product<'_, W> {
    /// Reads the weights once, straight from where they lie.
    #[inline(always)]
    fn one_row<S: Simd>(self, simd: S) {
        let last = self.outputs.end - 1;
        let (_, x) = self.x.groups().next().expect("one row is one group");
        let x = x.as_chunks::<STEPS>().0;
        for (first, z) in self.outputs.step_by(WIDE).zip(self.z.chunks_mut(WIDE)) {
            // At the end the last output is computed again rather than treated differently.
            let mut rows = [self.weights.row(first); WIDE];
            for (output, row) in (first..).zip(&mut rows) {
                *row = self.weights.row(output.min(last));
            }
            let mut sums = [simd.splat(0.0); WIDE];
            for (chunk, x) in x.iter().enumerate() {
                let ahead = (first + 2 * WIDE) * self.x.chunks() + chunk * WIDE;
                self.weights.prefetch(simd, ahead, WIDE);
                for (sum, row) in sums.iter_mut().zip(rows) {
                    let weights = W::chunk(simd, row, chunk);
                    for (weight, x) in weights.into_iter().zip(x) {
                        *sum = simd.fma(simd.load(x), weight, *sum);
                    }
                }
            }
            z.copy_from_slice(&simd.sums(sums)[..z.len()]);
        }
    }

    /// Widens a tile of weights once for all rows.
    #[inline(always)]
    fn many_rows<S: Simd>(self, simd: S) {
        let width = self.outputs.len();
        let mut weights = vec![[[0.0; LANES]; WIDE]; TILE / WIDE * DEEP * STEPS];
        let mut sums = vec![[[0.0; LANES]; WIDE]; self.x.rows() * (TILE / WIDE)];
        for first in self.outputs.clone().step_by(TILE) {
            let end = self.outputs.end.min(first + TILE);
            sums.fill([[0.0; LANES]; WIDE]);
            for from in (0..self.x.chunks()).step_by(DEEP) {
                let chunks = from..self.x.chunks().min(from + DEEP);
                self.widen_tile(simd, first..end, chunks.clone(), &mut weights);
                add_tile(simd, self.x, chunks, &weights, &mut sums);
            }
            let place = first - self.outputs.start..end - self.outputs.start;
            for (row, sums) in sums.chunks_exact(TILE / WIDE).enumerate() {
                let z = &mut self.z[row * width..][place.clone()];
                for (z, sums) in z.chunks_mut(WIDE).zip(sums) {
                    let mut lanes = [simd.splat(0.0); WIDE];
                    for (lanes, sums) in lanes.iter_mut().zip(sums) {
                        *lanes = simd.load(sums);
                    }
                    z.copy_from_slice(&simd.sums(lanes)[..z.len()]);
                }
            }
        }
    }

    /// Widens chunks of up to [`TILE`] outputs to `[output / WIDE][step][output % WIDE][lane]`.
    #[inline(always)]
    fn widen_tile<S: Simd>(
        &self,
        simd: S,
        outputs: Range<usize>,
        chunks: Range<usize>,
        to: &mut [Wide],
    ) {
        for (output, place) in outputs.zip(0..) {
            let next = if chunks.end < self.x.chunks() {
                output * self.x.chunks() + chunks.end
            } else {
                (output + TILE) * self.x.chunks()
            };
            self.weights.prefetch(simd, next, DEEP);
            let row = self.weights.row(output);
            let to = &mut to[place / WIDE * DEEP * STEPS..][..chunks.len() * STEPS];
            for (chunk, to) in chunks.clone().zip(to.as_chunks_mut::<STEPS>().0) {
                for (value, to) in W::chunk(simd, row, chunk).into_iter().zip(to) {
                    simd.store(value, &mut to[place % WIDE]);
                }
            }
        }
    }
}

/// Eight inputs of [`WIDE`] outputs.
type Wide = [Lanes; WIDE];

/// Adds the products of some chunks to the sums of all rows, `[row][output / WIDE]`.
#[inline(always)]
fn add_tile<S: Simd>(
    simd: S,
    x: &Panel,
    chunks: Range<usize>,
    weights: &[Wide],
    sums: &mut [Wide],
) {
    for (rows, lanes) in x.groups() {
        let len = rows.len();
        let x = &lanes[chunks.start * STEPS * len..chunks.end * STEPS * len];
        let sums = &mut sums[rows.start * (TILE / WIDE)..rows.end * (TILE / WIDE)];
        for (wide, weights) in weights.chunks_exact(DEEP * STEPS).enumerate() {
            match len {
                1 => add_group::<S, 1>(simd, x, weights, sums, wide),
                2 => add_group::<S, 2>(simd, x, weights, sums, wide),
                _ => add_group::<S, 3>(simd, x, weights, sums, wide),
            }
        }
    }
}

/// The inner kernel: `R` rows by [`WIDE`] outputs, whose sums stay in registers.
#[inline(always)]
fn add_group<S: Simd, const R: usize>(
    simd: S,
    x: &[Lanes],
    weights: &[Wide],
    sums: &mut [Wide],
    wide: usize,
) {
    let mut registers = [[simd.splat(0.0); WIDE]; R];
    for (row, registers) in registers.iter_mut().enumerate() {
        for (register, sum) in registers.iter_mut().zip(&sums[row * (TILE / WIDE) + wide]) {
            *register = simd.load(sum);
        }
    }
    for (from, weights) in x.as_chunks::<R>().0.iter().zip(weights) {
        // The rows stay in registers and the weights pass: the other way round needs one more
        // register than there are.
        let mut x = [simd.splat(0.0); R];
        for (x, from) in x.iter_mut().zip(from) {
            *x = simd.load(from);
        }
        for (output, weight) in weights.iter().enumerate() {
            let weight = simd.load(weight);
            for (registers, x) in registers.iter_mut().zip(x) {
                registers[output] = simd.fma(x, weight, registers[output]);
            }
        }
    }
    for (row, registers) in registers.iter().enumerate() {
        for (register, sum) in registers.iter().zip(&mut sums[row * (TILE / WIDE) + wide]) {
            simd.store(*register, sum);
        }
    }
}
