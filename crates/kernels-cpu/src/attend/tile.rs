//! One tile of keys and values.

use std::ops::Range;

use super::run::{Ahead, Runs, TILE};
use super::states::{Heads, registers};
use crate::math;
use crate::simd::{LANES, Simd, WIDE, WideLanes};

/// A number for each position of a tile.
type Places = [f32; TILE];

/// Query heads whose scores are computed, and then their sums.
const HEADS: usize = 8;

/// Numbers of a head between hints of what comes next. With eight query heads of 64 numbers the hints of a row are as
/// many as a tile has lines, spread over all that is computed: asked for at once, lines would wait for each other, and
/// then memory for us.
const STEP: usize = 8;

/// Lines that are asked for before the shares of a head are computed.
const SHARE_LINES: usize = 8;

/// Keys and values of one head at the positions of a tile.
pub(super) struct Tile<'a> {
    pub(super) runs: Runs<'a>,
    pub(super) head_dim: usize,
}

impl Tile<'_> {
    /// Adds the visible places of the tile to the heads of a row; meanwhile what comes next is read into a cache.
    #[inline(always)]
    pub(super) fn add_to<S: Simd>(
        &self,
        simd: S,
        heads: Heads<'_>,
        queries: (&[f32], f32),
        visible: Range<usize>,
        next: &mut Ahead<'_>,
    ) {
        match (self.head_dim, self.runs[0].step) {
            (64, 1) => {
                let tile = Tile {
                    runs: self.runs.map(|run| run.cut(64)),
                    head_dim: 64,
                };
                tile.add_heads::<S, 64>(simd, heads, queries, visible, next);
            }
            _ => self.add_heads::<S, 0>(simd, heads, queries, visible, next),
        }
    }

    /// The same where a head has `D` numbers, as those of the published models; 0 stands for any.
    #[inline(always)]
    fn add_heads<S: Simd, const D: usize>(
        &self,
        simd: S,
        heads: Heads<'_>,
        (queries, scale): (&[f32], f32),
        visible: Range<usize>,
        next: &mut Ahead<'_>,
    ) {
        let head_dim = if D == 0 { self.head_dim } else { D };
        let of_head = registers(head_dim);
        let (width, registers) = (HEADS * head_dim, HEADS * of_head);
        let heads = heads
            .most
            .chunks_mut(HEADS)
            .zip(heads.total.chunks_mut(HEADS))
            .zip(heads.sums.chunks_mut(registers));
        for (((most, total), sums), queries) in heads.zip(queries.chunks(width)) {
            let mut shares = [[0.0; TILE]; HEADS];
            let mut rescales = [0.0; HEADS];
            let scores = &mut shares[..most.len()];
            self.scores::<S, D>(simd, (queries, scale), scores, next);
            let mut largest = [0.0; HEADS];
            for ((shares, most), largest) in shares.iter_mut().zip(&*most).zip(&mut largest) {
                *largest = largest_of(simd, shares, *most, visible.clone());
            }
            let states = most.iter_mut().zip(total).zip(&mut rescales).zip(largest);
            for (shares, (((most, total), rescale), largest)) in shares.iter_mut().zip(states) {
                next.hint(simd, SHARE_LINES);
                *rescale = to_shares(simd, shares, most, total, largest);
            }
            let heads = Weighted {
                shares: &shares[..most.len()],
                rescales: &rescales,
                visible: visible.clone(),
            };
            self.values::<S, D>(simd, heads, sums, next);
        }
    }

    /// Computes the scores of up to [`HEADS`] heads with all places: as many at once as there are registers for, so
    /// that loads are shared, and one sum is added to while others still wait for their last addition.
    #[inline(always)]
    fn scores<S: Simd, const D: usize>(
        &self,
        simd: S,
        (queries, scale): (&[f32], f32),
        mut scores: &mut [Places],
        next: &mut Ahead<'_>,
    ) {
        let head_dim = if D == 0 { self.head_dim } else { D };
        let mut queries = queries;
        while !scores.is_empty() {
            let count = match (scores.len(), S::WIDES) {
                (8.., 2) => 8,
                (4.., _) => 4,
                _ => 1,
            };
            let (some, others) = scores.split_at_mut(count);
            match count {
                8 => self.products::<S, D, 8, 2>(simd, (queries, scale), some, next),
                4 if S::WIDES == 2 => {
                    self.products::<S, D, 4, 2>(simd, (queries, scale), some, next);
                }
                4 => self.products::<S, D, 4, 1>(simd, (queries, scale), some, next),
                _ => self.products::<S, D, 1, 1>(simd, (queries, scale), some, next),
            }
            (scores, queries) = (others, &queries[count * head_dim..]);
        }
    }

    /// Computes the scores of `N` heads, `W` registers of keys at a time.
    #[inline(always)]
    fn products<S: Simd, const D: usize, const N: usize, const W: usize>(
        &self,
        simd: S,
        (queries, scale): (&[f32], f32),
        scores: &mut [Places],
        next: &mut Ahead<'_>,
    ) {
        let head_dim = if D == 0 { self.head_dim } else { D };
        let queries: [&[f32]; N] =
            std::array::from_fn(|head| &queries[head * head_dim..][..head_dim]);
        let scale = simd.splat_wide(scale);
        for first in (0..TILE / WIDE).step_by(W) {
            let mut sums = [[simd.splat_wide(0.0); W]; N];
            const { assert!(D.is_multiple_of(STEP)) };
            if D == 0 {
                for number in 0..head_dim {
                    next.hint(simd, 1);
                    let keys = std::array::from_fn(|run| self.runs[first + run].keys(number));
                    multiply(simd, queries.map(|query| query[number]), keys, &mut sums);
                }
            } else {
                let queries = queries.map(|query| query.first_chunk::<D>().expect("a head"));
                let keys: [&[WideLanes; D]; W] =
                    std::array::from_fn(|run| self.runs[first + run].all_keys());
                for step in 0..D / STEP {
                    next.hint(simd, N * W);
                    for number in step * STEP..(step + 1) * STEP {
                        let keys = keys.map(|keys| &keys[number]);
                        multiply(simd, queries.map(|query| query[number]), keys, &mut sums);
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

    /// Adds the weighted values to the sums of all heads, of as many at once as there are registers for.
    #[inline(always)]
    fn values<S: Simd, const D: usize>(
        &self,
        simd: S,
        heads: Weighted<'_>,
        mut sums: &mut [WideLanes],
        next: &mut Ahead<'_>,
    ) {
        let registers = registers(if D == 0 { self.head_dim } else { D });
        let mut first = 0;
        while first < heads.shares.len() {
            let count = match (heads.shares.len() - first, S::WIDES) {
                (4.., 2) => 4,
                (2.., _) => 2,
                _ => 1,
            };
            let (some, others) = sums.split_at_mut(count * registers);
            let some = (first, some);
            match count {
                4 => self.add::<S, D, 4>(simd, &heads, some, next),
                2 => self.add::<S, D, 2>(simd, &heads, some, next),
                _ => self.add::<S, D, 1>(simd, &heads, some, next),
            }
            (sums, first) = (others, first + count);
        }
    }

    /// Adds the weighted values to the sums of `N` heads, as many registers at a time as have room.
    #[inline(always)]
    fn add<S: Simd, const D: usize, const N: usize>(
        &self,
        simd: S,
        heads: &Weighted<'_>,
        (head, sums): (usize, &mut [WideLanes]),
        next: &mut Ahead<'_>,
    ) {
        let shares: [&Places; N] = std::array::from_fn(|at| &heads.shares[head + at]);
        let rescales: [S::Wide; N] =
            std::array::from_fn(|at| simd.splat_wide(heads.rescales[head + at]));
        let visible = &heads.visible;
        let registers = registers(if D == 0 { self.head_dim } else { D });
        let mut first = 0;
        for width in [4, 2, 1] {
            while width <= 2 * S::WIDES && registers - first >= width {
                let heads = sums.chunks_exact_mut(registers);
                let heads = heads.map(|sums| &mut sums[first..first + width]);
                let values = (&self.runs, registers, first);
                match width {
                    4 => add::<S, N, 4>(simd, shares, values, visible, rescales, heads, next),
                    2 => add::<S, N, 2>(simd, shares, values, visible, rescales, heads, next),
                    _ => add::<S, N, 1>(simd, shares, values, visible, rescales, heads, next),
                }
                first += width;
            }
        }
    }
}

/// Heads whose values are to be added up.
struct Weighted<'a> {
    shares: &'a [Places],
    /// What the sums so far are multiplied with.
    rescales: &'a [f32; HEADS],
    visible: Range<usize>,
}

/// Returns the largest of the visible scores and `most`; the others become minus infinity.
#[inline(always)]
fn largest_of<S: Simd>(simd: S, scores: &mut Places, most: f32, visible: Range<usize>) -> f32 {
    scores[..visible.start].fill(f32::NEG_INFINITY);
    scores[visible.end..].fill(f32::NEG_INFINITY);
    let mut largest = simd.splat(most);
    for scores in scores.as_chunks::<LANES>().0 {
        largest = simd.max(simd.load(scores), largest);
    }
    let mut lanes = [0.0; LANES];
    simd.store(largest, &mut lanes);
    // None of them is NaN; in pairs, so that four are compared at once.
    let larger = |a: f32, b: f32| if a > b { a } else { b };
    let [a, b, c, d, e, f, g, h] = lanes;
    let (low, high) = (
        larger(larger(a, b), larger(c, d)),
        larger(larger(e, f), larger(g, h)),
    );
    larger(most, larger(low, high))
}

/// Turns scores into `exp(score − largest)`, adds them to `total`, and makes that score the most so far; returns the
/// factor that the sums so far need.
#[inline(always)]
fn to_shares<S: Simd>(
    simd: S,
    scores: &mut Places,
    most: &mut f32,
    total: &mut f32,
    largest: f32,
) -> f32 {
    let scores = scores.as_chunks_mut::<LANES>().0;
    let mut registers = [simd.splat(0.0); TILE / LANES];
    let all = simd.splat(largest);
    for (register, scores) in registers.iter_mut().zip(scores) {
        *register = math::exp(simd, simd.sub(simd.load(scores), all));
        simd.store(*register, scores);
    }
    let [a, b, c, d] = simd.sums(registers);
    // Seldom, once many keys were seen; `exp(0)` is 1.
    let mut rescale = [1.0; LANES];
    if largest != *most {
        let factor = math::exp(simd, simd.sub(simd.splat(*most), all));
        simd.store(factor, &mut rescale);
    }
    let [rescale, ..] = rescale;
    *most = largest;
    *total = *total * rescale + ((a + b) + (c + d));
    rescale
}

/// Adds the products of one number of the queries and keys.
#[inline(always)]
fn multiply<S: Simd, const N: usize, const W: usize>(
    simd: S,
    queries: [f32; N],
    keys: [&WideLanes; W],
    sums: &mut [[S::Wide; W]; N],
) {
    let keys = keys.map(|keys| simd.load_wide(keys));
    for (query, sums) in queries.iter().zip(sums) {
        let query = simd.splat_wide(*query);
        for (sum, key) in sums.iter_mut().zip(keys) {
            *sum = simd.fma_wide(query, key, *sum);
        }
    }
}

/// Adds `R` registers of the weighted values to `N` heads.
#[inline(always)]
fn add<'a, S: Simd, const N: usize, const R: usize>(
    simd: S,
    shares: [&Places; N],
    (runs, registers, first): (&Runs<'_>, usize, usize),
    visible: &Range<usize>,
    rescales: [S::Wide; N],
    heads: impl Iterator<Item = &'a mut [WideLanes]>,
    next: &mut Ahead<'_>,
) {
    let mut tile = [[simd.splat_wide(0.0); R]; N];
    for (index, run) in runs.iter().enumerate() {
        let shares: [&WideLanes; N] =
            std::array::from_fn(|head| &shares[head].as_chunks::<WIDE>().0[index]);
        let values = &run.values[..WIDE * registers];
        let start = index * WIDE;
        let within = |place: usize| place.clamp(start, start + WIDE) - start;
        let seen = within(visible.start)..within(visible.end);
        next.hint(simd, N * R);
        // Nearly always, and then their number is known to the compiler.
        if seen == (0..WIDE) {
            for place in 0..WIDE {
                let values = &values[place * registers..][..registers];
                weigh(simd, shares, place, &values[first..][..R], &mut tile);
            }
        } else {
            for place in seen {
                let values = &values[place * registers..][..registers];
                weigh(simd, shares, place, &values[first..][..R], &mut tile);
            }
        }
    }
    for ((sums, tile), rescale) in heads.zip(tile).zip(rescales) {
        for (sum, tile) in sums.iter_mut().zip(tile) {
            simd.store_wide(simd.fma_wide(simd.load_wide(sum), rescale, tile), sum);
        }
    }
}

/// Adds the value of one place.
#[inline(always)]
fn weigh<S: Simd, const N: usize, const R: usize>(
    simd: S,
    shares: [&WideLanes; N],
    place: usize,
    values: &[WideLanes],
    sums: &mut [[S::Wide; R]; N],
) {
    let values: [S::Wide; R] = std::array::from_fn(|register| simd.load_wide(&values[register]));
    for (shares, sums) in shares.iter().zip(sums) {
        let share = simd.splat_wide(shares[place]);
        for (sum, value) in sums.iter_mut().zip(values) {
            *sum = simd.fma_wide(share, value, *sum);
        }
    }
}
