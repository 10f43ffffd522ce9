//! Products with `bf16` matrices.

use half::bf16;
use kernels::{Linear, Packing as _};

use super::layout::{STRIP, STRIPS};
use super::tile::{Halves, ROWS, Sums, Tiles};
#[cfg(target_arch = "x86_64")]
use super::tiled::{Piece, Tiled};
use crate::pool::Pool;
#[cfg(target_arch = "x86_64")]
use crate::simd::matrix;
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
        match path.halves() {
            Halves::Widened => rows::<Flat<f32>>(pool, path, &args, strips, out),
            #[cfg(target_arch = "x86_64")]
            Halves::Dots => rows::<Flat<bf16>>(pool, path, &args, strips, out),
            #[cfg(target_arch = "x86_64")]
            Halves::Tiled => rows::<Tiled>(pool, path, &args, strips, out),
        }
    }
}

/// Rows rounded to `bf16`, as a path wants them.
trait Rounded: Sync {
    /// Most rows at a time.
    const ROWS: usize;

    fn new(pool: &Pool, x: &[f32], inputs: usize) -> Self;

    /// Adds the products with as many rows as there are sums, from this one.
    fn multiply(&self, path: Tiles, strip: &[u8], first: usize, sums: &mut [Sums]);
}

/// Rows one after the other. Where the number of inputs is odd, a zero is behind them.
struct Flat<T> {
    values: Vec<T>,
    width: usize,
}

impl<T: Copy + Default + Send> Flat<T> {
    fn rounded(pool: &Pool, x: &[f32], inputs: usize, round: impl Fn(f32) -> T + Sync) -> Self {
        let width = inputs.next_multiple_of(2);
        let mut values = vec![T::default(); x.len() / inputs * width];
        let pairs = x.chunks_exact(inputs).zip(values.chunks_exact_mut(width));
        pool.each(pairs.collect(), |(x, out): (&[f32], &mut [T])| {
            for (out, x) in out.iter_mut().zip(x) {
                *out = round(*x);
            }
        });
        Self { values, width }
    }

    fn rows(&self, first: usize, count: usize) -> [&[T]; ROWS] {
        std::array::from_fn(|row| match row < count {
            true => &self.values[(first + row) * self.width..][..self.width],
            false => &[],
        })
    }
}

impl Rounded for Flat<f32> {
    const ROWS: usize = ROWS;

    fn new(pool: &Pool, x: &[f32], inputs: usize) -> Self {
        Self::rounded(pool, x, inputs, |x| bf16::from_f32(x).to_f32())
    }

    fn multiply(&self, path: Tiles, strip: &[u8], first: usize, sums: &mut [Sums]) {
        path.bf16(strip, &self.rows(first, sums.len())[..sums.len()], sums);
    }
}

#[cfg(target_arch = "x86_64")]
impl Rounded for Flat<bf16> {
    const ROWS: usize = ROWS;

    fn new(pool: &Pool, x: &[f32], inputs: usize) -> Self {
        Self::rounded(pool, x, inputs, bf16::from_f32)
    }

    fn multiply(&self, path: Tiles, strip: &[u8], first: usize, sums: &mut [Sums]) {
        path.dots(strip, &self.rows(first, sums.len())[..sums.len()], sums);
    }
}

#[cfg(target_arch = "x86_64")]
impl Rounded for Tiled {
    const ROWS: usize = matrix::ROWS;

    fn new(pool: &Pool, x: &[f32], inputs: usize) -> Self {
        let mut all = Self::zeroed(x.len() / inputs, inputs);
        pool.each(all.pieces(x, inputs).collect(), Piece::round);
        all
    }

    fn multiply(&self, path: Tiles, strip: &[u8], first: usize, sums: &mut [Sums]) {
        path.tiled(strip, self.tile(first), sums);
    }
}

fn rows<'a, R: Rounded>(
    pool: &Pool,
    path: Tiles,
    args: &Linear<'_>,
    strips: impl Iterator<Item = &'a [u8]>,
    out: &mut [f32],
) {
    const { assert!(R::ROWS <= ROWS) };
    let x = R::new(pool, args.x, args.inputs);
    let columns = tiles::columns(out.chunks_exact_mut(args.outputs), args.outputs, STRIP);
    let items = strips.zip(columns).enumerate().collect();
    pool.each(
        items,
        |(index, (strip, mut out)): (usize, (&[u8], Vec<&mut [f32]>))| {
            let bias = args.bias.map(|bias| &bias[index * STRIP..]);
            for (tile, out) in out.chunks_mut(R::ROWS).enumerate() {
                let mut sums = [[0.0; STRIP]; ROWS];
                let sums = &mut sums[..out.len()];
                x.multiply(path, strip, tile * R::ROWS, sums);
                for (out, sums) in out.iter_mut().zip(sums) {
                    if let Some(bias) = bias {
                        for (sum, bias) in sums.iter_mut().zip(bias) {
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
