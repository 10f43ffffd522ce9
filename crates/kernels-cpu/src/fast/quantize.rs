//! Activations, rounded.

use kernels::mxfp4;

/// Most that a whole number of 8 bits is used for; −128 would have no opposite.
const MOST: f32 = 127.0;

/// What is added to a code's value so that it is not negative, twice.
pub(super) const OFFSET: i32 = 12;

/// A block's 32 numbers of 8 bits, four to a word, as they are multiplied.
pub(super) type Whole = [i32; mxfp4::BLOCK / 4];

/// Rows in whole numbers, `scale · value`: block by block, in each the rows side by side.
pub(super) struct Quantized {
    /// Rows that lie side by side.
    pub(super) count: usize,
    pub(super) values: Vec<Whole>,
    /// By block.
    pub(super) scales: Vec<f32>,
    /// By block, what a sum with codes that were moved by [`OFFSET`] begins with.
    pub(super) starts: Vec<i32>,
}

/// Some rows of [`Quantized`], side by side in each block; a block lies `step` behind the one before.
#[derive(Clone, Copy)]
pub(super) struct Rows<'a> {
    pub(super) values: &'a [Whole],
    pub(super) scales: &'a [f32],
    pub(super) starts: &'a [i32],
    pub(super) step: usize,
    pub(super) count: usize,
}

impl<'a> Rows<'a> {
    /// Takes all rows.
    pub(super) fn of(all: &'a Quantized) -> Self {
        Self {
            values: &all.values,
            scales: &all.scales,
            starts: &all.starts,
            step: all.count,
            count: all.count,
        }
    }
}

impl Quantized {
    /// Makes room for blocks of so many rows.
    pub(super) fn zeroed(blocks: usize, count: usize) -> Self {
        Self {
            count,
            values: vec![Whole::default(); blocks * count],
            scales: vec![0.0; blocks * count],
            starts: vec![0; blocks * count],
        }
    }

    /// Brings rows together of these, which lie one after the other.
    pub(super) fn gather(&self, rows: &[u32], blocks: usize) -> Self {
        let mut all = Self::zeroed(blocks, rows.len());
        for (place, row) in rows.iter().enumerate() {
            let first = *row as usize * blocks;
            let to = (place..).step_by(rows.len());
            for (from, to) in (first..first + blocks).zip(to) {
                all.values[to] = self.values[from];
                all.scales[to] = self.scales[from];
                all.starts[to] = self.starts[from];
            }
        }
        all
    }

    /// Lists the blocks.
    pub(super) fn blocks(&mut self) -> impl Iterator<Item = Blocks<'_>> {
        let values = self.values.chunks_exact_mut(self.count);
        let scales = self.scales.chunks_exact_mut(self.count);
        let starts = self.starts.chunks_exact_mut(self.count);
        let all = values.zip(scales).zip(starts);
        all.map(|((values, scales), starts)| Blocks {
            values,
            scales,
            starts,
        })
    }
}

/// A block of each row of [`Quantized`], to be filled.
pub(super) struct Blocks<'a> {
    values: &'a mut [Whole],
    scales: &'a mut [f32],
    starts: &'a mut [i32],
}

impl Blocks<'_> {
    /// Fills in a row's block with what `round` makes, which is as [`quantize`].
    pub(super) fn set(&mut self, row: usize, round: impl FnOnce(&mut Whole) -> (f32, i32)) {
        (self.scales[row], self.starts[row]) = round(&mut self.values[row]);
    }
}

/// Rounds a block to whole numbers; returns their scale, and what sums begin with.
///
/// A block with a number that is not finite has no scale: NaN, so that all sums of it are. To be inlined into
/// what an instruction path runs: there the loops become instructions of that path.
#[inline(always)]
pub(super) fn quantize(x: &[f32; mxfp4::BLOCK], values: &mut Whole) -> (f32, i32) {
    /// With this added, the lowest bits are the nearest whole number, ties to even.
    const WHOLE: f32 = 12_582_912.0;
    let most = folded(x.map(f32::abs), |a, b| if a > b { a } else { b });
    // 0 but for what is not finite.
    let fault = folded(x.map(|x| x * 0.0), |a, b| a + b);
    // Below the smallest normal number the inverse would not exist.
    let inverse = if most >= f32::MIN_POSITIVE * MOST {
        MOST / most
    } else {
        0.0
    };
    let mut sum = 0;
    let values: &mut [i8; mxfp4::BLOCK] = bytemuck::cast_mut(values);
    for (value, x) in values.iter_mut().zip(x) {
        *value = (x * inverse + WHOLE).to_bits() as i8;
        sum += i32::from(*value);
    }
    (most * (1.0 / MOST) + fault, -OFFSET * sum)
}

/// Folds a block half with half, so that each step is one of whole registers.
#[inline(always)]
fn folded(mut x: [f32; mxfp4::BLOCK], with: impl Fn(f32, f32) -> f32) -> f32 {
    let mut half = x.len() / 2;
    while half > 0 {
        let (low, high) = x.split_at_mut(half);
        for (low, high) in low.iter_mut().zip(high) {
            *low = with(*low, *high);
        }
        half /= 2;
    }
    x[0]
}
