//! Experts: two MXFP4 products with the activation between, whose result is rounded where it is made.

use half::bf16;
use kernels::{Codes, ExpertWork, Experts, Packing as _, mxfp4};

use super::layout::{STRIP, STRIPS};
use super::quantize::{Blocks, Quantized, Rows, Whole, quantize};
use super::tile::{CODE_ROWS, Sums, Tiles};
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
    let x = rounded(pool, path, args.x);
    let inputs = gathered(pool, &x, &work, hidden / mxfp4::BLOCK);
    let mut inner: Vec<Vec<Quantized>> = work
        .iter()
        .map(|work| {
            let tiles = work.rows.chunks(CODE_ROWS);
            tiles.map(|rows| Quantized::zeroed(intermediate / INNER, rows.len()))
        })
        .map(Iterator::collect)
        .collect();
    let mut items = Vec::new();
    for (place, (work, inner)) in work.iter().zip(&mut inner).enumerate() {
        let mut blocks: Vec<_> = inner.iter_mut().map(Quantized::blocks).collect();
        let strips = strips(&work.gate_up.codes, 2 * intermediate, hidden);
        items.extend(strips.enumerate().map(|(index, strip)| Item {
            work,
            place,
            index,
            strip,
            to: blocks.iter_mut().filter_map(Iterator::next).collect(),
        }));
    }
    pool.each(items, |item: Item<'_, Vec<Blocks<'_>>>| {
        let inputs = &inputs[item.place];
        activated((tiles, path), item, inputs, limit);
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
        let inner = &inner[item.place];
        projected(tiles, item, inner);
    });
}

/// Brings the rows of each expert together, in tiles.
fn gathered(
    pool: &Pool,
    x: &Quantized,
    work: &[&ExpertWork<'_>],
    blocks: usize,
) -> Vec<Vec<Quantized>> {
    let mut all: Vec<Vec<Quantized>> = work.iter().map(|_| Vec::new()).collect();
    let items = all.iter_mut().zip(work);
    pool.each(items.collect(), |(tiles, work)| {
        let rows = work.rows.chunks(CODE_ROWS);
        tiles.extend(rows.map(|rows| x.gather(rows, blocks)));
    });
    all
}

/// Rounds all rows, block by block.
fn rounded(pool: &Pool, path: Path, x: &[f32]) -> Quantized {
    /// Blocks of one item of work.
    const ITEM: usize = 256;
    let blocks = x.as_chunks::<{ mxfp4::BLOCK }>().0;
    let mut all = Quantized::zeroed(blocks.len(), 1);
    let mut to = all.blocks();
    let items = blocks.chunks(ITEM).map(|blocks| {
        let to: Vec<Blocks<'_>> = to.by_ref().take(blocks.len()).collect();
        (blocks, to)
    });
    pool.each(items.collect(), |(blocks, to)| {
        path.run(Round { blocks, to })
    });
    drop(to);
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
fn activated(
    (tiles, path): (Tiles, Path),
    item: Item<'_, Vec<Blocks<'_>>>,
    x: &[Quantized],
    limit: f32,
) {
    let bias = &item.work.gate_up.bias[item.index * STRIP..][..STRIP];
    for (x, mut to) in x.iter().zip(item.to) {
        let mut sums = [[0.0; STRIP]; CODE_ROWS];
        let sums = &mut sums[..x.count];
        tiles.codes(item.strip, Rows::of(x), sums);
        for (row, sums) in sums.iter().enumerate() {
            to.set(row, |values| {
                let activate = Activate {
                    sums,
                    bias,
                    limit,
                    values,
                };
                path.run(activate)
            });
        }
    }
}

/// Some columns of the result.
fn projected(tiles: Tiles, mut item: Item<'_, Vec<&mut [f32]>>, x: &[Quantized]) {
    let bias = &item.work.down.bias[item.index * STRIP..];
    for (x, out) in x.iter().zip(item.to.chunks_mut(CODE_ROWS)) {
        let mut sums = [[0.0; STRIP]; CODE_ROWS];
        let sums = &mut sums[..x.count];
        tiles.codes(item.strip, Rows::of(x), sums);
        for (out, sums) in out.iter_mut().zip(sums) {
            for ((out, sum), bias) in out.iter_mut().zip(sums).zip(bias) {
                *out = *sum + bias.to_f32();
            }
        }
    }
}

/// Rounds blocks.
struct Round<'a> {
    blocks: &'a [[f32; mxfp4::BLOCK]],
    to: Vec<Blocks<'a>>,
}

impl Kernel for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        for (block, mut to) in self.blocks.iter().zip(self.to) {
            to.set(0, |values| quantize(block, values));
        }
    }
}

/// The clamped SwiGLU on a strip's gates, which come first, and its ups; rounded.
struct Activate<'a> {
    sums: &'a Sums,
    /// In turn of a gate and an up.
    bias: &'a [bf16],
    limit: f32,
    values: &'a mut Whole,
}

impl Kernel for Activate<'_> {
    /// As of [`quantize`].
    type Output = (f32, i32);

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> (f32, i32) {
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
        quantize(&inner, self.values)
    }
}
