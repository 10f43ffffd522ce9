//! Experts: two MXFP4 products with the activation between.

use half::bf16;
use kernels::{Codes, ExpertWork, Experts};

use crate::math;
use crate::panel::Panel;
use crate::pool::Pool;
use crate::product::{OUTPUTS, Product};
use crate::simd::{Kernel, LANES, Lanes, Path, Simd};
use crate::tiles;
use crate::weights::Blocks;

/// Slope of the sigmoid in the activation.
///
/// Source: openai/gpt-oss, `gpt_oss/torch/model.py`, `swiglu`.
const ALPHA: f32 = 1.702;

/// One expert's part of the outputs, and where its results go.
struct Item<'a, 'b> {
    work: &'a ExpertWork<'a>,
    x: &'a Panel,
    first: usize,
    rows: Vec<&'b mut [f32]>,
}

pub(crate) fn run_experts(pool: &Pool, path: Path, args: Experts<'_>) {
    args.check();
    let (hidden, intermediate, limit) = (args.hidden, args.intermediate, args.limit);
    let work: Vec<&ExpertWork<'_>> = args.work.iter().filter(|w| !w.rows.is_empty()).collect();

    let inputs = work.iter().map(|work| {
        Panel::pack::<Blocks<'_>>(pool, work.rows.len(), hidden, |row| {
            &args.x[work.rows[row] as usize * hidden..][..hidden]
        })
    });
    let inputs: Vec<Panel> = inputs.collect();
    let pairs: usize = work.iter().map(|work| work.rows.len()).sum();
    let mut inner = vec![0.0; pairs * intermediate];
    let mut rows = inner.chunks_exact_mut(intermediate);
    let mut items = Vec::new();
    for (work, x) in work.iter().zip(&inputs) {
        let rows = rows.by_ref().take(work.rows.len());
        let tiles = tiles::columns(rows, intermediate, OUTPUTS / 2);
        push_items(&mut items, work, x, tiles, OUTPUTS / 2);
    }
    pool.each(items, |item| activated(path, item, hidden, limit));

    let mut rows = inner.chunks_exact(intermediate);
    let inner = work.iter().map(|work| {
        let rows: Vec<&[f32]> = rows.by_ref().take(work.rows.len()).collect();
        Panel::pack::<Blocks<'_>>(pool, rows.len(), intermediate, |row| rows[row])
    });
    let inner: Vec<Panel> = inner.collect();
    let mut free: Vec<_> = args.out.chunks_exact_mut(hidden).map(Some).collect();
    let mut items = Vec::new();
    for (work, h) in work.iter().zip(&inner) {
        let rows = work.outputs.iter().map(|&row| {
            free[row as usize]
                .take()
                .expect("each output row is named once in a call")
        });
        push_items(
            &mut items,
            work,
            h,
            tiles::columns(rows, hidden, OUTPUTS),
            OUTPUTS,
        );
    }
    pool.each(items, |item| projected(path, item, intermediate));
}

fn push_items<'a, 'b>(
    items: &mut Vec<Item<'a, 'b>>,
    work: &'a ExpertWork<'a>,
    x: &'a Panel,
    tiles: Vec<Vec<&'b mut [f32]>>,
    tile: usize,
) {
    for (index, rows) in tiles.into_iter().enumerate() {
        let first = index * tile;
        items.push(Item {
            work,
            x,
            first,
            rows,
        });
    }
}

/// The blocks of a matrix as checkpoints hold it.
fn blocks<'a>(codes: &Codes<'a>, inputs: usize) -> Blocks<'a> {
    let Codes::Rows { blocks, scales } = *codes else {
        panic!(
            "run_experts: packed matrices go to a back end with a layout, all of a call or none"
        );
    };
    Blocks::new(blocks, scales, inputs)
}

/// Gates and ups of some inner columns, and their activation.
fn activated(path: Path, mut item: Item<'_, '_>, hidden: usize, limit: f32) {
    let width = 2 * item.rows[0].len();
    let mut z = vec![0.0; item.rows.len() * width];
    path.run(Product {
        x: item.x,
        weights: blocks(&item.work.gate_up.codes, hidden),
        outputs: 2 * item.first..2 * item.first + width,
        z: &mut z,
    });
    path.run(Activate {
        z: &z,
        bias: &item.work.gate_up.bias[2 * item.first..][..width],
        limit,
        out: &mut item.rows,
    });
}

/// Some columns of the result.
fn projected(path: Path, item: Item<'_, '_>, intermediate: usize) {
    let width = item.rows[0].len();
    let mut z = vec![0.0; item.rows.len() * width];
    path.run(Product {
        x: item.x,
        weights: blocks(&item.work.down.codes, intermediate),
        outputs: item.first..item.first + width,
        z: &mut z,
    });
    let bias = &item.work.down.bias[item.first..];
    for (out, z) in item.rows.into_iter().zip(z.chunks_exact(width)) {
        for ((out, z), bias) in out.iter_mut().zip(z).zip(bias) {
            *out = z + bias.to_f32();
        }
    }
}

/// The clamped SwiGLU on rows of alternating gates and ups.
struct Activate<'a, 'b> {
    /// `[rows, 2 · width]`.
    z: &'a [f32],
    /// `[2 · width]`.
    bias: &'a [bf16],
    limit: f32,
    /// `[rows, width]`.
    out: &'a mut [&'b mut [f32]],
}

impl Kernel for Activate<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (z, out) in self.z.chunks_exact(self.bias.len()).zip(self.out) {
            let pairs = z.chunks(2 * LANES).zip(self.bias.chunks(2 * LANES));
            for ((z, bias), out) in pairs.zip(out.chunks_mut(LANES)) {
                let (mut gate, mut up): (Lanes, Lanes) = ([0.0; LANES], [0.0; LANES]);
                let values = z.iter().zip(bias).map(|(z, bias)| z + bias.to_f32());
                for (i, value) in values.enumerate() {
                    let to = if i % 2 == 0 { &mut gate } else { &mut up };
                    to[i / 2] = value;
                }
                let mut h = [0.0; LANES];
                let activated = activate(simd, simd.load(&gate), simd.load(&up), self.limit);
                simd.store(activated, &mut h);
                out.copy_from_slice(&h[..out.len()]);
            }
        }
    }
}

/// `g · sigmoid(1.702 g) · (u + 1)` of the clamped gate and up.
#[inline(always)]
pub(crate) fn activate<S: Simd>(simd: S, gate: S::F32, up: S::F32, limit: f32) -> S::F32 {
    let (low, high) = (simd.splat(-limit), simd.splat(limit));
    // In this order of arguments NaN stays NaN.
    let gate = simd.min(high, gate);
    let up = simd.max(low, simd.min(high, up));
    let share = math::sigmoid(simd, simd.mul(simd.splat(ALPHA), gate));
    simd.mul(simd.mul(gate, share), simd.add(up, simd.splat(1.0)))
}
