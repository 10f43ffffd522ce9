//! The ops that treat each row on its own and do little with it.

use kernels::{Combine, Embed, RmsNorm, Rotate, Route, StoreKv};

use crate::math;
use crate::pool::Pool;

/// Values that one thread treats faster than it wakes another.
const SMALL: usize = 1 << 15;

/// Rows of an item of work.
fn rows_per_item(width: usize) -> usize {
    SMALL.div_ceil(width)
}

pub(crate) fn embed(pool: &Pool, args: Embed<'_>) {
    args.check();
    let hidden = args.hidden;
    let rows = rows_per_item(hidden);
    let items = args
        .ids
        .chunks(rows)
        .zip(args.out.chunks_mut(rows * hidden));
    pool.each(items.collect(), |(ids, out): (&[u32], &mut [f32])| {
        for (&id, out) in ids.iter().zip(out.chunks_exact_mut(hidden)) {
            let row = &args.table[id as usize * hidden..][..hidden];
            for (out, value) in out.iter_mut().zip(row) {
                *out = value.to_f32();
            }
        }
    });
}

/// Sums of squares are taken in this many lanes.
const NORM_LANES: usize = 32;

pub(crate) fn rms_norm(pool: &Pool, args: RmsNorm<'_>) {
    args.check();
    let hidden = args.weight.len();
    let rows = rows_per_item(hidden) * hidden;
    let items = args.x.chunks(rows).zip(args.out.chunks_mut(rows));
    pool.each(items.collect(), |(x, out): (&[f32], &mut [f32])| {
        for (x, out) in x.chunks_exact(hidden).zip(out.chunks_exact_mut(hidden)) {
            let scale = (mean_square(x) + args.eps).sqrt().recip();
            for ((out, x), weight) in out.iter_mut().zip(x).zip(args.weight) {
                *out = x * scale * weight.to_f32();
            }
        }
    });
}

fn mean_square(x: &[f32]) -> f32 {
    let (whole, rest) = x.as_chunks::<NORM_LANES>();
    let mut lanes = [0.0; NORM_LANES];
    for chunk in whole {
        for (lane, x) in lanes.iter_mut().zip(chunk) {
            *lane += x * x;
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x * x;
    }
    let mut width = NORM_LANES / 2;
    while width > 0 {
        let (low, high) = lanes.split_at_mut(width);
        for (low, high) in low.iter_mut().zip(high) {
            *low += *high;
        }
        width /= 2;
    }
    lanes[0] / x.len() as f32
}

pub(crate) fn rotate(pool: &Pool, args: Rotate<'_>) {
    args.check();
    let head_dim = args.head_dim();
    let width = args.heads * head_dim;
    let rows = rows_per_item(width);
    let items = args
        .x
        .chunks_mut(rows * width)
        .zip(args.positions.chunks(rows));
    pool.each(items.collect(), |(x, positions): (&mut [f32], &[u32])| {
        let mut turns = vec![(0.0, 0.0); head_dim / 2];
        for (x, &position) in x.chunks_exact_mut(width).zip(positions) {
            for (turn, inv_freq) in turns.iter_mut().zip(args.inv_freq) {
                let (sin, cos) = math::sin_cos(position as f32 * inv_freq);
                *turn = (sin * args.factor, cos * args.factor);
            }
            for head in x.chunks_exact_mut(head_dim) {
                let (first, second) = head.split_at_mut(head_dim / 2);
                for ((a, b), (sin, cos)) in first.iter_mut().zip(second).zip(&turns) {
                    (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
                }
            }
        }
    });
}

/// Copies; one thread, since spans may name the blocks in any order.
pub(crate) fn store_kv(args: StoreKv<'_>) {
    args.check();
    let layout = args.layout;
    for span in args.spans {
        for (row, position) in span.rows().zip(span.start..) {
            for head in 0..layout.kv_heads {
                let from = (row * layout.kv_heads + head) * layout.head_dim;
                let from = from..from + layout.head_dim;
                let key = layout.key(span.table, head, position);
                let places = args.keys[key..].iter_mut().step_by(layout.block_size);
                for (place, k) in places.zip(&args.k[from.clone()]) {
                    *place = *k;
                }
                let value = layout.value(span.table, head, position);
                args.values[value..value + layout.head_dim].copy_from_slice(&args.v[from]);
            }
        }
    }
}

pub(crate) fn route(args: Route<'_>) {
    args.check();
    let rows = args.logits.chunks_exact(args.num_experts);
    let index = args.index.chunks_exact_mut(args.k);
    let weight = args.weight.chunks_exact_mut(args.k);
    for ((logits, index), weight) in rows.zip(index).zip(weight) {
        choose(logits, index, weight);
        let most = logits[index[0] as usize];
        for (weight, &expert) in weight.iter_mut().zip(&*index) {
            *weight = logits[expert as usize] - most;
        }
        math::exp_all(weight);
        let total: f32 = weight.iter().sum();
        for weight in weight {
            *weight /= total;
        }
    }
}

/// Writes the largest logits and whose they are, best first, by insertion.
fn choose(logits: &[f32], index: &mut [u32], best: &mut [f32]) {
    let mut chosen = 0;
    for (expert, &logit) in (0..).zip(logits) {
        let logit = if logit.is_nan() {
            f32::NEG_INFINITY
        } else {
            logit
        };
        // An equal one that came before stays before.
        let place = best[..chosen].partition_point(|&better| better >= logit);
        if place < best.len() {
            chosen = best.len().min(chosen + 1);
            best[place..chosen].rotate_right(1);
            index[place..chosen].rotate_right(1);
            best[place] = logit;
            index[place] = expert;
        }
    }
}

pub(crate) fn combine(pool: &Pool, args: Combine<'_>) {
    args.check();
    let (hidden, k) = (args.hidden(), args.k);
    if hidden == 0 {
        return;
    }
    let rows = rows_per_item(k * hidden);
    let x = args.x.chunks_mut(rows * hidden);
    let outputs = args.outputs.chunks(rows * k * hidden);
    let items = x.zip(outputs).zip(args.weight.chunks(rows * k));
    pool.each(items.collect(), |((x, outputs), weight)| {
        let mut sum = vec![0.0; hidden];
        let rows = x.chunks_exact_mut(hidden);
        let outputs = outputs.chunks_exact(k * hidden);
        for ((x, outputs), weight) in rows.zip(outputs).zip(weight.chunks_exact(k)) {
            sum.fill(0.0);
            for (output, weight) in outputs.chunks_exact(hidden).zip(weight) {
                for (sum, output) in sum.iter_mut().zip(output) {
                    *sum += weight * output;
                }
            }
            for (x, sum) in x.iter_mut().zip(&sum) {
                *x += sum;
            }
        }
    });
}
