//! One tile of keys and values, and what a query head has summed so far.

use std::ops::Range;

use super::registers;
use crate::math;
use crate::simd::{LANES, Lanes, Simd};

/// Positions of a tile: keys and values of a head of 64 are 16 KiB, half a first-level cache.
pub(super) const TILE: usize = 4 * LANES;

/// Keys and values of one head at the positions of a tile, heads padded with zeros to registers.
pub(super) struct Tile {
    /// `[position / 8][register][position % 8]`: eight keys side by side.
    keys: Vec<[Lanes; LANES]>,
    /// `[position][register]`.
    values: Vec<Lanes>,
    registers: usize,
}

/// One query head of one row.
pub(super) struct State {
    /// The query.
    q: Vec<Lanes>,
    /// Largest score so far, the sink's included.
    most: f32,
    /// Sum of `exp(score − most)`, the sink's included.
    total: f32,
    /// Sum of `exp(score − most) · value`.
    sums: Vec<Lanes>,
}

impl State {
    pub(super) fn new(query: &[f32], sink: f32) -> Self {
        let mut q = vec![[0.0; LANES]; registers(query.len())];
        q.as_flattened_mut()[..query.len()].copy_from_slice(query);
        Self {
            sums: vec![[0.0; LANES]; q.len()],
            q,
            most: sink,
            total: 1.0,
        }
    }

    pub(super) fn finish(&self, out: &mut [f32]) {
        for (out, sum) in out.iter_mut().zip(self.sums.as_flattened()) {
            *out = sum / self.total;
        }
    }
}

impl Tile {
    pub(super) fn new(head_dim: usize) -> Self {
        let registers = registers(head_dim);
        Self {
            keys: vec![[[0.0; LANES]; LANES]; TILE / LANES * registers],
            values: vec![[0.0; LANES]; TILE * registers],
            registers,
        }
    }

    pub(super) fn set(&mut self, place: usize, key: &[f32], value: &[f32]) {
        let keys = &mut self.keys[place / LANES * self.registers..][..self.registers];
        let (whole, rest) = key.as_chunks();
        let mut steps = keys.iter_mut().map(|eight| &mut eight[place % LANES]);
        for (from, to) in whole.iter().zip(&mut steps) {
            *to = *from;
        }
        if let Some(to) = steps.next() {
            to[..rest.len()].copy_from_slice(rest);
        }
        let values = &mut self.values[place * self.registers..][..self.registers];
        values.as_flattened_mut()[..value.len()].copy_from_slice(value);
    }

    /// Adds the visible places of the tile.
    #[inline(always)]
    pub(super) fn add_to<S: Simd>(
        &self,
        simd: S,
        state: &mut State,
        visible: Range<usize>,
        scale: f32,
    ) {
        let (shares, rescale) = self.shares(simd, state, visible.clone(), scale);
        let rescale = simd.splat(rescale);
        let shares = &shares.as_flattened()[visible.clone()];
        let values = &self.values[visible.start * self.registers..visible.end * self.registers];
        let mut first = 0;
        for width in [8, 4, 2, 1] {
            while self.registers - first >= width {
                let sums = &mut state.sums[first..first + width];
                match width {
                    8 => self.add_values::<S, 8>(simd, shares, &values[first..], rescale, sums),
                    4 => self.add_values::<S, 4>(simd, shares, &values[first..], rescale, sums),
                    2 => self.add_values::<S, 2>(simd, shares, &values[first..], rescale, sums),
                    _ => self.add_values::<S, 1>(simd, shares, &values[first..], rescale, sums),
                }
                first += width;
            }
        }
    }

    /// Returns `exp(score − most)` of each place, zero where not visible, with the new maximum, and
    /// the factor that the sums so far need.
    #[inline(always)]
    fn shares<S: Simd>(
        &self,
        simd: S,
        state: &mut State,
        visible: Range<usize>,
        scale: f32,
    ) -> ([Lanes; TILE / LANES], f32) {
        let mut scores = [[f32::NEG_INFINITY; LANES]; TILE / LANES];
        let eights = self.keys.chunks_exact(self.registers);
        let seen = visible.start / LANES..visible.end.div_ceil(LANES);
        for (keys, scores) in eights.zip(&mut scores).take(seen.end).skip(seen.start) {
            *scores = products(simd, &state.q, keys, scale);
        }
        scores.as_flattened_mut()[..visible.start].fill(f32::NEG_INFINITY);
        scores.as_flattened_mut()[visible.end..].fill(f32::NEG_INFINITY);

        let mut registers = [simd.splat(0.0); TILE / LANES];
        let mut largest = simd.splat(state.most);
        for (register, scores) in registers.iter_mut().zip(&scores) {
            *register = simd.load(scores);
            largest = simd.max(*register, largest);
        }
        let mut lanes = [0.0; LANES];
        simd.store(largest, &mut lanes);
        let largest = lanes.into_iter().fold(state.most, f32::max);
        let most = simd.splat(largest);
        for (register, scores) in registers.iter_mut().zip(&mut scores) {
            *register = math::exp(simd, simd.sub(*register, most));
            simd.store(*register, scores);
        }
        let [a, b, c, d] = simd.sums(registers);
        let mut rescale = [0.0; LANES];
        let factor = math::exp(simd, simd.sub(simd.splat(state.most), most));
        simd.store(factor, &mut rescale);
        let [rescale, ..] = rescale;
        state.most = largest;
        state.total = state.total * rescale + ((a + b) + (c + d));
        (scores, rescale)
    }

    /// Adds the weighted values of `R` registers of the head.
    #[inline(always)]
    fn add_values<S: Simd, const R: usize>(
        &self,
        simd: S,
        shares: &[f32],
        values: &[Lanes],
        rescale: S::F32,
        sums: &mut [Lanes],
    ) {
        let mut tile = [simd.splat(0.0); R];
        for (share, values) in shares.iter().zip(values.chunks(self.registers)) {
            let share = simd.splat(*share);
            for (sum, value) in tile.iter_mut().zip(&values[..R]) {
                *sum = simd.fma(share, simd.load(value), *sum);
            }
        }
        for (sum, tile) in sums.iter_mut().zip(tile) {
            simd.store(simd.fma(simd.load(sum), rescale, tile), sum);
        }
    }
}

/// Scaled products of a query with eight keys.
#[inline(always)]
fn products<S: Simd>(simd: S, q: &[Lanes], keys: &[[Lanes; LANES]], scale: f32) -> Lanes {
    let mut sums = [simd.splat(0.0); LANES];
    for (q, keys) in q.iter().zip(keys) {
        let q = simd.load(q);
        for (sum, key) in sums.iter_mut().zip(keys) {
            *sum = simd.fma(q, simd.load(key), *sum);
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    let (low, high) = (simd.sums([a, b, c, d]), simd.sums([e, f, g, h]));
    let mut scores = [0.0; LANES];
    scores[..4].copy_from_slice(&low);
    scores[4..].copy_from_slice(&high);
    let scaled = simd.mul(simd.load(&scores), simd.splat(scale));
    simd.store(scaled, &mut scores);
    scores
}
