//! One tile of keys and values.

use std::ops::Range;

use kernels::{Attend, Span};

use super::states::{Heads, registers};
use crate::math;
use crate::simd::{LANES, Simd, WIDE, WideLanes};

/// Positions of a tile: keys and values of a head of 64 are 16 KiB, half a first-level cache.
pub(super) const TILE: usize = 2 * WIDE;

/// A number for each position of a tile.
type Places = [f32; TILE];

/// Query heads that share each load of keys.
const HEADS: usize = 4;

/// Query heads that share each load of values.
const VALUE_HEADS: usize = 2;

/// Keys and values of one head at the positions of a tile.
pub(super) struct Tile {
    /// By number of the head: that of each key.
    keys: Vec<Places>,
    /// `[position][register]`, padded with zeros to registers.
    values: Vec<WideLanes>,
    registers: usize,
}

impl Tile {
    pub(super) fn new(head_dim: usize) -> Self {
        let registers = registers(head_dim);
        Self {
            keys: vec![[0.0; TILE]; head_dim],
            values: vec![[0.0; WIDE]; TILE * registers],
            registers,
        }
    }

    /// Takes positions of one tile; what it holds of others means nothing.
    pub(super) fn load(
        &mut self,
        args: &Attend<'_>,
        span: &Span<'_>,
        kv_head: usize,
        positions: Range<usize>,
    ) {
        let layout = args.layout;
        // Where a block holds whole registers of positions, they are copied together.
        let run = match layout.block_size.is_multiple_of(WIDE) {
            true => WIDE,
            false => 1,
        };
        for position in (positions.start / run * run..positions.end).step_by(run) {
            let place = position % TILE;
            let keys = &args.keys[layout.key(span.table, kv_head, position)..];
            let from = keys.chunks(layout.block_size);
            for (to, from) in self.keys.iter_mut().zip(from) {
                let to = &mut to[place..place + run];
                match (to.as_chunks_mut::<WIDE>().0, from.as_chunks::<WIDE>().0) {
                    ([to], [from, ..]) => *to = *from,
                    _ => to.copy_from_slice(&from[..run]),
                }
            }
            let values = &args.values[layout.value(span.table, kv_head, position)..];
            let from = values.chunks_exact(layout.head_dim).take(run);
            let to = self.values[place * self.registers..].chunks_exact_mut(self.registers);
            for (to, from) in to.zip(from) {
                to.as_flattened_mut()[..from.len()].copy_from_slice(from);
            }
        }
    }

    /// Adds the visible places of the tile to the heads of a row.
    #[inline(always)]
    pub(super) fn add_to<S: Simd>(
        &self,
        simd: S,
        heads: Heads<'_>,
        queries: &[f32],
        visible: Range<usize>,
        scale: f32,
    ) {
        let (width, registers) = (HEADS * self.keys.len(), HEADS * self.registers);
        let heads = heads
            .most
            .chunks_mut(HEADS)
            .zip(heads.total.chunks_mut(HEADS))
            .zip(heads.sums.chunks_mut(registers));
        for (((most, total), sums), queries) in heads.zip(queries.chunks(width)) {
            let mut shares = [[0.0; TILE]; HEADS];
            let mut rescales = [0.0; HEADS];
            self.scores(simd, queries, &mut shares[..most.len()], scale);
            let states = most.iter_mut().zip(total).zip(&mut rescales);
            for (shares, ((most, total), rescale)) in shares.iter_mut().zip(states) {
                *rescale = to_shares(simd, shares, most, total, visible.clone());
            }
            let factors = shares.chunks(VALUE_HEADS).zip(rescales.chunks(VALUE_HEADS));
            let sums = sums.chunks_mut(VALUE_HEADS * self.registers);
            for (sums, (shares, rescales)) in sums.zip(factors) {
                match sums.len() / self.registers {
                    VALUE_HEADS => {
                        self.add::<S, VALUE_HEADS>(simd, shares, rescales, visible.clone(), sums);
                    }
                    _ => self.add::<S, 1>(simd, shares, rescales, visible.clone(), sums),
                }
            }
        }
    }

    /// Computes the scores of up to [`HEADS`] heads with all places.
    #[inline(always)]
    fn scores<S: Simd>(&self, simd: S, queries: &[f32], scores: &mut [Places], scale: f32) {
        match (scores.len(), S::WIDES) {
            (HEADS, 2) => self.products::<S, HEADS, 2>(simd, queries, scores, scale),
            (HEADS, _) => self.products::<S, HEADS, 1>(simd, queries, scores, scale),
            _ => {
                let queries = queries.chunks_exact(self.keys.len());
                for (query, score) in queries.zip(scores.chunks_exact_mut(1)) {
                    self.products::<S, 1, 1>(simd, query, score, scale);
                }
            }
        }
    }

    /// Computes the scores of `N` heads, `W` registers of keys at a time.
    #[inline(always)]
    fn products<S: Simd, const N: usize, const W: usize>(
        &self,
        simd: S,
        queries: &[f32],
        scores: &mut [Places],
        scale: f32,
    ) {
        let head_dim = self.keys.len();
        let queries: [&[f32]; N] =
            std::array::from_fn(|head| &queries[head * head_dim..][..head_dim]);
        let scale = simd.splat_wide(scale);
        for first in (0..TILE / WIDE).step_by(W) {
            let mut sums = [[simd.splat_wide(0.0); W]; N];
            for (number, keys) in self.keys.iter().enumerate() {
                let keys = keys.as_chunks::<WIDE>().0;
                let keys: [S::Wide; W] =
                    std::array::from_fn(|register| simd.load_wide(&keys[first + register]));
                for (query, sums) in queries.iter().zip(&mut sums) {
                    let query = simd.splat_wide(query[number]);
                    for (sum, key) in sums.iter_mut().zip(keys) {
                        *sum = simd.fma_wide(query, key, *sum);
                    }
                }
            }
            for (scores, sums) in scores.iter_mut().zip(sums) {
                let scores = &mut scores.as_chunks_mut::<WIDE>().0[first..];
                for (score, sum) in scores.iter_mut().zip(sums) {
                    simd.store_wide(simd.mul_wide(sum, scale), score);
                }
            }
        }
    }

    /// Adds the weighted values to the sums of `N` heads, as many registers at a time as have room.
    #[inline(always)]
    fn add<S: Simd, const N: usize>(
        &self,
        simd: S,
        shares: &[Places],
        rescales: &[f32],
        visible: Range<usize>,
        sums: &mut [WideLanes],
    ) {
        let shares: [&[f32]; N] = std::array::from_fn(|head| &shares[head][visible.clone()]);
        let rescales: [S::Wide; N] = std::array::from_fn(|head| simd.splat_wide(rescales[head]));
        let values = &self.values[visible.start * self.registers..visible.end * self.registers];
        let mut first = 0;
        for width in [4, 2, 1] {
            while width <= 2 * S::WIDES && self.registers - first >= width {
                let values = values.chunks_exact(self.registers).map(|row| &row[first..]);
                let heads = sums.chunks_exact_mut(self.registers);
                let heads = heads.map(|sums| &mut sums[first..first + width]);
                match width {
                    4 => add::<S, N, 4>(simd, shares, values, rescales, heads),
                    2 => add::<S, N, 2>(simd, shares, values, rescales, heads),
                    _ => add::<S, N, 1>(simd, shares, values, rescales, heads),
                }
                first += width;
            }
        }
    }
}

/// Turns scores into `exp(score − most)`, zero where not visible, with the maximum that these change;
/// returns the factor that the sums so far need.
#[inline(always)]
fn to_shares<S: Simd>(
    simd: S,
    scores: &mut Places,
    most: &mut f32,
    total: &mut f32,
    visible: Range<usize>,
) -> f32 {
    scores[..visible.start].fill(f32::NEG_INFINITY);
    scores[visible.end..].fill(f32::NEG_INFINITY);
    let scores = scores.as_chunks_mut::<LANES>().0;
    let mut registers = [simd.splat(0.0); TILE / LANES];
    let mut largest = simd.splat(*most);
    for (register, scores) in registers.iter_mut().zip(&*scores) {
        *register = simd.load(scores);
        largest = simd.max(*register, largest);
    }
    let mut lanes = [0.0; LANES];
    simd.store(largest, &mut lanes);
    let largest = lanes.into_iter().fold(*most, f32::max);
    let all = simd.splat(largest);
    for (register, scores) in registers.iter_mut().zip(scores) {
        *register = math::exp(simd, simd.sub(*register, all));
        simd.store(*register, scores);
    }
    let [a, b, c, d] = simd.sums(registers);
    let mut rescale = [0.0; LANES];
    let factor = math::exp(simd, simd.sub(simd.splat(*most), all));
    simd.store(factor, &mut rescale);
    let [rescale, ..] = rescale;
    *most = largest;
    *total = *total * rescale + ((a + b) + (c + d));
    rescale
}

/// Adds `R` registers of the weighted values to `N` heads.
#[inline(always)]
fn add<'a, S: Simd, const N: usize, const R: usize>(
    simd: S,
    shares: [&[f32]; N],
    values: impl Iterator<Item = &'a [WideLanes]>,
    rescales: [S::Wide; N],
    heads: impl Iterator<Item = &'a mut [WideLanes]>,
) {
    let mut tile = [[simd.splat_wide(0.0); R]; N];
    for (place, values) in values.enumerate() {
        let values: [S::Wide; R] =
            std::array::from_fn(|register| simd.load_wide(&values[register]));
        for (shares, sums) in shares.iter().zip(&mut tile) {
            let share = simd.splat_wide(shares[place]);
            for (sum, value) in sums.iter_mut().zip(values) {
                *sum = simd.fma_wide(share, value, *sum);
            }
        }
    }
    for ((sums, tile), rescale) in heads.zip(tile).zip(rescales) {
        for (sum, tile) in sums.iter_mut().zip(tile) {
            simd.store_wide(simd.fma_wide(simd.load_wide(sum), rescale, tile), sum);
        }
    }
}
