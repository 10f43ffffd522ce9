//! Products with `bf16` matrices.

use half::bf16;
use kernels::{Linear, Packing as _};

use super::layout::{STRIP, STRIPS};
use super::tile::{ROWS, Sums, Tiles};
use crate::pool::Pool;
use crate::tiles;

/// Rows at a time: rounded (up to 3 MB at 2,880 inputs) they should stay in a cache while strips pass.
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
        let args = Linear {
            x,
            out: &mut [],
            ..args
        };
        let strips = matrix.chunks_exact(strip);
        match path.has_dots() {
            true => rows::<bf16>(pool, path, &args, strips, out),
            false => rows::<f32>(pool, path, &args, strips, out),
        }
    }
}

/// A number rounded to `bf16`, as a path wants it.
trait Rounded: Copy + Default + Send + Sync {
    fn round(x: f32) -> Self;

    /// Multiplies rows of such numbers.
    fn multiply(path: Tiles, strip: &[u8], x: &[&[Self]], sums: &mut [Sums]);
}

impl Rounded for bf16 {
    fn round(x: f32) -> Self {
        Self::from_f32(x)
    }

    fn multiply(path: Tiles, strip: &[u8], x: &[&[Self]], sums: &mut [Sums]) {
        path.dots(strip, x, sums);
    }
}

impl Rounded for f32 {
    fn round(x: f32) -> Self {
        bf16::from_f32(x).to_f32()
    }

    fn multiply(path: Tiles, strip: &[u8], x: &[&[Self]], sums: &mut [Sums]) {
        path.bf16(strip, x, sums);
    }
}

fn rows<'a, T: Rounded>(
    pool: &Pool,
    path: Tiles,
    args: &Linear<'_>,
    strips: impl Iterator<Item = &'a [u8]>,
    out: &mut [f32],
) {
    // Where the number of inputs is odd, a zero is behind them.
    let even = args.inputs.next_multiple_of(2);
    let mut x = vec![T::default(); args.rows() * even];
    let pairs = args
        .x
        .chunks_exact(args.inputs)
        .zip(x.chunks_exact_mut(even));
    pool.each(pairs.collect(), |(x, out)| {
        for (out, x) in out.iter_mut().zip(x) {
            *out = T::round(*x);
        }
    });
    let x: Vec<&[T]> = x.chunks_exact(even).collect();
    let columns = tiles::columns(out.chunks_exact_mut(args.outputs), args.outputs, STRIP);
    let items = strips.zip(columns).enumerate().collect();
    pool.each(
        items,
        |(index, (strip, mut out)): (usize, (&[u8], Vec<&mut [f32]>))| {
            for (x, out) in x.chunks(ROWS).zip(out.chunks_mut(ROWS)) {
                let mut sums = [[0.0; STRIP]; ROWS];
                T::multiply(path, strip, x, &mut sums[..x.len()]);
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
