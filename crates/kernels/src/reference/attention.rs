//! Rotation, storing and attention.

use super::dot;
use crate::backend::{Attend, Rotate, StoreKv};

pub(super) fn rotate(args: Rotate<'_>) {
    args.check();
    let head_dim = args.head_dim();
    let row = args.heads * head_dim;
    for (x, &position) in args.x.chunks_exact_mut(row).zip(args.positions) {
        for head in x.chunks_exact_mut(head_dim) {
            let (first, second) = head.split_at_mut(head_dim / 2);
            for ((a, b), inv_freq) in first.iter_mut().zip(second).zip(args.inv_freq) {
                let angle = f64::from(position as f32 * inv_freq);
                let cos = angle.cos() as f32 * args.factor;
                let sin = angle.sin() as f32 * args.factor;
                (*a, *b) = (*a * cos - *b * sin, *b * cos + *a * sin);
            }
        }
    }
}

pub(super) fn store_kv(args: StoreKv<'_>) {
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

pub(super) fn attend(mut args: Attend<'_>) {
    args.check();
    for span in args.spans {
        for (row, position) in span.rows().zip(span.start..) {
            for head in 0..args.heads {
                attend_head(&mut args, span.table, (row, position, head));
            }
        }
    }
}

/// One query head of one row: scores, then their exponentials, then the weighted values.
fn attend_head(
    args: &mut Attend<'_>,
    table: &[spec::BlockId],
    (row, position, head): (usize, usize, usize),
) {
    let width = args.layout.head_dim;
    let place = (row * args.heads + head) * width..(row * args.heads + head + 1) * width;
    let query = &args.q[place.clone()];
    let sink = args.sinks[head].to_f64();
    let kv_head = head / args.group();
    let scores: Vec<f64> = args
        .visible(position)
        .map(|position| args.layout.key(table, kv_head, position))
        .map(|at| args.keys[at..].iter().step_by(args.layout.block_size))
        .map(|key| f64::from(args.scale) * dot(query.iter().copied(), key.copied().take(width)))
        .collect();
    let most = scores.iter().copied().fold(sink, f64::max);
    let mut total = (sink - most).exp();
    let mut sums = vec![0f64; width];
    for (score, position) in scores.iter().zip(args.visible(position)) {
        let at = args.layout.value(table, kv_head, position);
        let share = (score - most).exp();
        total += share;
        for (sum, &value) in sums.iter_mut().zip(&args.values[at..at + width]) {
            *sum += share * f64::from(value);
        }
    }
    for (out, sum) in args.out[place].iter_mut().zip(sums) {
        *out = (sum / total) as f32;
    }
}
