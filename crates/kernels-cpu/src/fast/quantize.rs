//! Activations, rounded.

use half::bf16;
use kernels::mxfp4;

/// Most that a whole number of 8 bits is used for; −128 would have no opposite.
const MOST: f32 = 127.0;

/// What is added to a code's value so that it is not negative, twice.
pub(super) const OFFSET: i32 = 12;

/// A block's 32 numbers of 8 bits, eight to a word, so that any eight are one load.
pub(super) type Whole = [u64; mxfp4::BLOCK / 8];

/// Rows in whole numbers: block by block, `scale · value`.
pub(super) struct Quantized {
    pub(super) values: Vec<Whole>,
    /// By block.
    pub(super) scales: Vec<f32>,
    /// By block, what a sum with codes that were moved by [`OFFSET`] begins with.
    pub(super) starts: Vec<i32>,
}

/// One row of [`Quantized`]; block `b` lies `b · step` blocks behind the first.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) values: &'a [Whole],
    pub(super) scales: &'a [f32],
    pub(super) starts: &'a [i32],
    pub(super) step: usize,
}

impl<'a> Row<'a> {
    /// Takes the row whose first block is the block numbered `first`.
    pub(super) fn of(all: &'a Quantized, first: usize, step: usize) -> Self {
        Self {
            values: &all.values[first..],
            scales: &all.scales[first..],
            starts: &all.starts[first..],
            step,
        }
    }

    /// Returns it if it has so many blocks.
    ///
    /// # Panics
    ///
    /// If it has fewer.
    pub(super) fn checked(self, blocks: usize) -> Self {
        let needed = blocks.checked_sub(1).map_or(0, |last| last * self.step + 1);
        let there = self.values.len().min(self.scales.len());
        let there = there.min(self.starts.len());
        assert!(needed <= there, "a row of {there} blocks, {needed} needed");
        self
    }
}

impl Quantized {
    /// Makes room for blocks.
    pub(super) fn zeroed(blocks: usize) -> Self {
        Self {
            values: vec![Whole::default(); blocks],
            scales: vec![0.0; blocks],
            starts: vec![0; blocks],
        }
    }
}

/// Rounds a block to whole numbers; returns their scale, and what sums begin with.
///
/// A block with a number that is not finite has no scale: NaN, so that all sums of it are.
pub(super) fn quantize(x: &[f32; mxfp4::BLOCK], values: &mut Whole) -> (f32, i32) {
    /// The nearest whole number, ties to even: what is added and taken away leaves no fraction.
    const WHOLE: f32 = 12_582_912.0;
    let most = x.iter().fold(0f32, |most, x| most.max(x.abs()));
    // 0 but for what is not finite.
    let fault: f32 = x.iter().map(|x| x * 0.0).sum();
    // Below the smallest normal number the inverse would not exist.
    let inverse = if most >= f32::MIN_POSITIVE * MOST {
        MOST / most
    } else {
        0.0
    };
    let mut sum = 0;
    let values: &mut [i8; mxfp4::BLOCK] = bytemuck::cast_mut(values);
    for (value, x) in values.iter_mut().zip(x) {
        let whole = (x * inverse + WHOLE) - WHOLE;
        *value = whole as i8;
        sum += i32::from(*value);
    }
    (most * (1.0 / MOST) + fault, -OFFSET * sum)
}

/// Rounds a row to `bf16`, with a zero behind it where its length is odd.
pub(super) fn round(x: &[f32], out: &mut [bf16]) {
    for (out, x) in out.iter_mut().zip(x) {
        *out = bf16::from_f32(*x);
    }
}
