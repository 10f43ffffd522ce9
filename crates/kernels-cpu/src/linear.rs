//! Products with `bf16` matrices.

use half::bf16;
use kernels::Linear;

use crate::panel::Panel;
use crate::pool::Pool;
use crate::product::{OUTPUTS, Product};
use crate::simd::Path;
use crate::tiles;
use crate::weights::Bf16;

/// Rows at a time: what they are rearranged to (2.9 MB at 2,880 inputs) is read once for each few
/// outputs and should stay in a cache.
const ROWS: usize = 256;

/// Computes with a matrix as checkpoints hold it, `[outputs, inputs]`.
pub(crate) fn linear(pool: &Pool, path: Path, args: Linear<'_>, matrix: &[bf16]) {
    args.check();
    let x = args.x.chunks(ROWS * args.inputs);
    for (x, out) in x.zip(args.out.chunks_mut(ROWS * args.outputs)) {
        linear_rows(pool, path, Linear { x, out, ..args }, matrix);
    }
}

fn linear_rows(pool: &Pool, path: Path, args: Linear<'_>, matrix: &[bf16]) {
    let (inputs, outputs) = (args.inputs, args.outputs);
    let x = Panel::pack::<Bf16<'_>>(pool, args.rows(), inputs, |row| {
        &args.x[row * inputs..][..inputs]
    });
    let weights = Bf16 {
        values: matrix,
        inputs,
    };
    let tiles = tiles::columns(args.out.chunks_exact_mut(outputs), outputs, OUTPUTS);
    let items = (0..).step_by(OUTPUTS).zip(tiles).collect();
    pool.each(items, |(first, mut rows): (usize, Vec<&mut [f32]>)| {
        let Some(width) = rows.first().map(|row| row.len()) else {
            return;
        };
        let mut z = vec![0.0; rows.len() * width];
        path.run(Product {
            x: &x,
            weights,
            outputs: first..first + width,
            z: &mut z,
        });
        for (row, z) in rows.iter_mut().zip(z.chunks_exact_mut(width)) {
            if let Some(bias) = args.bias {
                for (z, bias) in z.iter_mut().zip(&bias[first..]) {
                    *z += bias.to_f32();
                }
            }
            if args.accumulate {
                for (out, z) in row.iter_mut().zip(z) {
                    *out += *z;
                }
            } else {
                row.copy_from_slice(z);
            }
        }
    });
}
