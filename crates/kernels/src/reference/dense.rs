//! Embedding, normalization and matrix products.

use half::bf16;

use super::dot;
use crate::backend::{Bf16, Embed, Linear, RmsNorm};

pub(super) fn embed(args: Embed<'_>) {
    args.check();
    for (out, &id) in args.out.chunks_exact_mut(args.hidden).zip(args.ids) {
        let row = &args.table[id as usize * args.hidden..][..args.hidden];
        for (out, value) in out.iter_mut().zip(row) {
            *out = value.to_f32();
        }
    }
}

pub(super) fn rms_norm(args: RmsNorm<'_>) {
    args.check();
    let hidden = args.weight.len();
    for (x, out) in args
        .x
        .chunks_exact(hidden)
        .zip(args.out.chunks_exact_mut(hidden))
    {
        let mean = dot(x.iter().copied(), x.iter().copied()) / hidden as f64;
        let scale = (mean + f64::from(args.eps)).sqrt().recip();
        for ((out, &x), weight) in out.iter_mut().zip(x).zip(args.weight) {
            *out = (f64::from(x) * scale * weight.to_f64()) as f32;
        }
    }
}

pub(super) fn linear(args: Linear<'_>) {
    args.check();
    let Bf16::Rows(matrix) = args.weight else {
        panic!("linear: the reference reads matrices as checkpoints hold them");
    };
    for (x, out) in args
        .x
        .chunks_exact(args.inputs)
        .zip(args.out.chunks_exact_mut(args.outputs))
    {
        for (output, out) in out.iter_mut().enumerate() {
            let weight = &matrix[output * args.inputs..][..args.inputs];
            let sum = dot(x.iter().copied(), weight.iter().map(|w| w.to_f32()));
            let bias = args.bias.map_or(bf16::ZERO, |bias| bias[output]);
            let result = (sum + bias.to_f64()) as f32;
            *out = if args.accumulate {
                *out + result
            } else {
                result
            };
        }
    }
}
