//! Experts: two MXFP4 products with the activation between, whose result is rounded where it is made.

use half::bf16;
use kernels::{Codes, ExpertWork, Experts, Packing as _, mxfp4};

use super::layout::{STRIP, STRIPS};
use super::quantize::{Quantized, Row, Whole, quantize};
use super::tile::{ROWS, Sums, Tiles};
use crate::experts::activate;
use crate::pool::Pool;
use crate::simd::{Kernel, LANES, Lanes, Path, Simd};
use crate::tiles;

/// Results of a strip of gates and ups: a block of the next product's inputs.
const INNER: usize = STRIP / 2;
const _: () = assert!(INNER == mxfp4::BLOCK);

/// A strip of an expert's matrix, and where the results of its rows go.
struct Item<'a, T> {
    work: &'a ExpertWork<'a>,
    /// The expert's place among those that have rows.
    place: usize,
    /// The strip's place in its matrix.
    index: usize,
    strip: &'a [u8],
    to: T,
}

/// Blocks of results, one for each row.
struct Blocks<'a> {
    values: &'a mut [Whole],
    scales: &'a mut [f32],
    starts: &'a mut [i32],
}

/// Computes with packed matrices.
pub(crate) fn run_experts(pool: &Pool, (tiles, path): (Tiles, Path), args: Experts<'_>) {
    args.check();
    let Experts {
        hidden,
        intermediate,
        limit,
        ..
    } = args;
    let work: Vec<&ExpertWork<'_>> = args.work.iter().filter(|w| !w.rows.is_empty()).collect();
    let x = rounded(pool, args.x);
    let mut inner: Vec<Quantized> = work
        .iter()
        .map(|work| Quantized::zeroed(intermediate / INNER * work.rows.len()))
        .collect();
    let mut items = Vec::new();
    for (place, (work, inner)) in work.iter().zip(&mut inner).enumerate() {
        let rows = work.rows.len();
        let strips = strips(&work.gate_up.codes, 2 * intermediate, hidden);
        let blocks = inner.values.chunks_exact_mut(rows);
        let scales = inner
            .scales
            .chunks_exact_mut(rows)
            .zip(inner.starts.chunks_exact_mut(rows));
        let to = blocks.zip(scales).map(|(values, (scales, starts))| Blocks {
            values,
            scales,
            starts,
        });
        let strips = strips.zip(to).enumerate();
        items.extend(strips.map(|(index, (strip, to))| Item {
            work,
            place,
            index,
            strip,
            to,
        }));
    }
    let blocks = hidden / mxfp4::BLOCK;
    pool.each(items, |item| {
        let rows = item
            .work
            .rows
            .iter()
            .map(|row| Row::of(&x, *row as usize * blocks, 1));
        activated((tiles, path), item, &rows.collect::<Vec<_>>(), limit);
    });

    let mut free: Vec<_> = args.out.chunks_exact_mut(hidden).map(Some).collect();
    let mut items = Vec::new();
    for (place, work) in work.iter().enumerate() {
        let rows = work.outputs.iter().map(|&row| {
            free[row as usize]
                .take()
                .expect("each output row is named once in a call")
        });
        let columns = tiles::columns(rows, hidden, STRIP);
        let strips = strips(&work.down.codes, hidden, intermediate)
            .zip(columns)
            .enumerate();
        items.extend(strips.map(|(index, (strip, to))| Item {
            work,
            place,
            index,
            strip,
            to,
        }));
    }
    pool.each(items, |item| {
        let (inner, count) = (&inner[item.place], item.work.rows.len());
        let rows = (0..count).map(|row| Row::of(inner, row, count));
        projected(tiles, item, &rows.collect::<Vec<_>>());
    });
}

/// Rounds all rows, block by block.
fn rounded(pool: &Pool, x: &[f32]) -> Quantized {
    /// Blocks of one item of work.
    const ITEM: usize = 256;
    let blocks = x.as_chunks::<{ mxfp4::BLOCK }>().0;
    let mut all = Quantized::zeroed(blocks.len());
    let values = all.values.chunks_mut(ITEM);
    let scales = all.scales.chunks_mut(ITEM).zip(all.starts.chunks_mut(ITEM));
    let items = blocks.chunks(ITEM).zip(values).zip(scales);
    pool.each(items.collect(), |((x, values), (scales, starts))| {
        for (((x, values), scale), start) in x.iter().zip(values).zip(scales).zip(starts) {
            (*scale, *start) = quantize(x, values);
        }
    });
    all
}

/// Lists the strips of a packed matrix.
fn strips<'a>(codes: &Codes<'a>, outputs: usize, inputs: usize) -> std::slice::ChunksExact<'a, u8> {
    let Codes::Packed(bytes) = *codes else {
        panic!("run_experts: all matrices of a call are packed, or none is");
    };
    let strip = STRIPS.codes_bytes(inputs);
    assert!(
        bytes.len() == outputs.div_ceil(STRIP) * strip,
        "run_experts: a packed matrix of {outputs} x {inputs} has {} bytes",
        bytes.len()
    );
    bytes.chunks_exact(strip)
}

/// Gates and ups of a strip, their activation, and that rounded.
fn activated((tiles, path): (Tiles, Path), item: Item<'_, Blocks<'_>>, x: &[Row<'_>], limit: f32) {
    let bias = &item.work.gate_up.bias[item.index * STRIP..][..STRIP];
    let Blocks {
        values,
        scales,
        starts,
    } = item.to;
    let values = values.chunks_mut(ROWS);
    let scales = scales.chunks_mut(ROWS).zip(starts.chunks_mut(ROWS));
    for ((x, values), (scales, starts)) in x.chunks(ROWS).zip(values).zip(scales) {
        let mut sums = [[0.0; STRIP]; ROWS];
        tiles.codes(item.strip, x, &mut sums[..x.len()]);
        for (((sums, values), scale), start) in sums.iter().zip(values).zip(scales).zip(starts) {
            let inner = path.run(Activate { sums, bias, limit });
            (*scale, *start) = quantize(&inner, values);
        }
    }
}

/// Some columns of the result.
fn projected(tiles: Tiles, mut item: Item<'_, Vec<&mut [f32]>>, x: &[Row<'_>]) {
    let bias = &item.work.down.bias[item.index * STRIP..];
    for (x, out) in x.chunks(ROWS).zip(item.to.chunks_mut(ROWS)) {
        let mut sums = [[0.0; STRIP]; ROWS];
        tiles.codes(item.strip, x, &mut sums[..x.len()]);
        for (out, sums) in out.iter_mut().zip(&sums) {
            for ((out, sum), bias) in out.iter_mut().zip(sums).zip(bias) {
                *out = sum + bias.to_f32();
            }
        }
    }
}

/// The clamped SwiGLU on a strip's gates, which come first, and its ups.
struct Activate<'a> {
    sums: &'a Sums,
    /// In turn of a gate and an up.
    bias: &'a [bf16],
    limit: f32,
}

impl Kernel for Activate<'_> {
    type Output = [f32; INNER];

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> [f32; INNER] {
        let (gates, ups) = self.sums.split_at(INNER);
        let mut inner = [0.0; INNER];
        let lanes = inner.as_chunks_mut::<LANES>().0.iter_mut().enumerate();
        for (index, inner) in lanes {
            let with_bias = |sums: &[f32], odd: usize| -> Lanes {
                std::array::from_fn(|lane| {
                    let at = index * LANES + lane;
                    sums[at] + self.bias[2 * at + odd].to_f32()
                })
            };
            let (gate, up) = (with_bias(gates, 0), with_bias(ups, 1));
            let activated = activate(simd, simd.load(&gate), simd.load(&up), self.limit);
            simd.store(activated, inner);
        }
        inner
    }
}
