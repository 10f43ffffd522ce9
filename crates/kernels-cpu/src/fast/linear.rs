//! Products with `bf16` matrices.

use half::bf16;
use kernels::{Linear, Packing as _};

use super::layout::{STRIP, STRIPS};
use super::quantize::round;
use super::tile::{ROWS, Tiles};
use crate::pool::Pool;
use crate::tiles;

/// Rows at a time: in `bf16` (1.5 MB at 2,880 inputs) they should stay in a cache while strips pass.
const MANY: usize = 256;

/// Computes with a packed matrix.
pub(crate) fn linear(pool: &Pool, path: Tiles, args: Linear<'_>, matrix: &[u8]) {
    args.check();
    let strip = STRIPS.bf16_bytes(args.inputs);
    assert!(
        matrix.len() == args.outputs.div_ceil(STRIP) * strip,
        "linear: a packed matrix of {} x {} has {} bytes",
        args.outputs,
        args.inputs,
        matrix.len()
    );
    let x = args.x.chunks(MANY * args.inputs);
    for (x, out) in x.zip(args.out.chunks_mut(MANY * args.outputs)) {
        rows(
            pool,
            path,
            &Linear {
                x,
                out: &mut [],
                ..args
            },
            matrix.chunks_exact(strip),
            out,
        );
    }
}

fn rows<'a>(
    pool: &Pool,
    path: Tiles,
    args: &Linear<'_>,
    strips: impl Iterator<Item = &'a [u8]>,
    out: &mut [f32],
) {
    let even = args.inputs.next_multiple_of(2);
    let mut x = vec![bf16::ZERO; args.rows() * even];
    let pairs = args
        .x
        .chunks_exact(args.inputs)
        .zip(x.chunks_exact_mut(even));
    pool.each(pairs.collect(), |(x, out)| round(x, out));
    let x: Vec<&[bf16]> = x.chunks_exact(even).collect();
    let columns = tiles::columns(out.chunks_exact_mut(args.outputs), args.outputs, STRIP);
    let items = strips.zip(columns).enumerate().collect();
    pool.each(
        items,
        |(index, (strip, mut out)): (usize, (&[u8], Vec<&mut [f32]>))| {
            for (x, out) in x.chunks(ROWS).zip(out.chunks_mut(ROWS)) {
                let mut sums = [[0.0; STRIP]; ROWS];
                path.bf16(strip, x, &mut sums[..x.len()]);
                for (out, sums) in out.iter_mut().zip(&mut sums) {
                    if let Some(bias) = args.bias {
                        for (sum, bias) in sums.iter_mut().zip(&bias[index * STRIP..]) {
                            *sum += bias.to_f32();
                        }
                    }
                    for (out, sum) in out.iter_mut().zip(sums) {
                        *out = if args.accumulate { *out + *sum } else { *sum };
                    }
                }
            }
        },
    );
}
