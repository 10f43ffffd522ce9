//! Routing, experts and their sum.

use super::dot;
use crate::backend::{Codes, Combine, Experts, Mxfp4, Route};
use crate::mxfp4;

pub(super) fn route(args: Route<'_>) {
    args.check();
    for ((logits, index), weight) in args
        .logits
        .chunks_exact(args.num_experts)
        .zip(args.index.chunks_exact_mut(args.k))
        .zip(args.weight.chunks_exact_mut(args.k))
    {
        let mut experts: Vec<u32> = (0..).take(args.num_experts).collect();
        // The sort is stable, so that equal logits stay in the order of their experts.
        let key = |expert: &u32| comparable(logits[*expert as usize]);
        experts.sort_by(|a, b| key(b).total_cmp(&key(a)));
        index.copy_from_slice(&experts[..args.k]);
        let most = f64::from(logits[index[0] as usize]);
        let shares: Vec<f64> = index
            .iter()
            .map(|&expert| (f64::from(logits[expert as usize]) - most).exp())
            .collect();
        let total: f64 = shares.iter().sum();
        for (weight, share) in weight.iter_mut().zip(shares) {
            *weight = (share / total) as f32;
        }
    }
}

/// Makes both zeros equal and puts what is no number last.
fn comparable(logit: f32) -> f32 {
    if logit.is_nan() {
        f32::NEG_INFINITY
    } else {
        logit + 0.0
    }
}

pub(super) fn run_experts(args: Experts<'_>) {
    args.check();
    let hidden = args.hidden;
    for work in args.work {
        for (&row, &output) in work.rows.iter().zip(work.outputs) {
            let x = &args.x[row as usize * hidden..][..hidden];
            let z = product(&work.gate_up, x);
            let h: Vec<f32> = z
                .chunks_exact(2)
                .map(|pair| activate(pair[0], pair[1], args.limit))
                .collect();
            args.out[output as usize * hidden..][..hidden]
                .copy_from_slice(&product(&work.down, &h));
        }
    }
}

/// `matrix · x + bias`.
fn product(matrix: &Mxfp4<'_>, x: &[f32]) -> Vec<f32> {
    let Codes::Rows {
        blocks: codes,
        scales,
    } = matrix.codes
    else {
        panic!("run_experts: the reference reads matrices as checkpoints hold them");
    };
    let blocks = x.len() / mxfp4::BLOCK;
    let rows = codes
        .chunks_exact(blocks * mxfp4::BLOCK_BYTES)
        .zip(scales.chunks_exact(blocks));
    rows.zip(matrix.bias)
        .map(|((blocks, scales), bias)| {
            let weights = blocks
                .chunks_exact(mxfp4::BLOCK_BYTES)
                .zip(scales)
                .flat_map(|(block, &scale)| block.iter().map(move |&byte| (byte, scale)))
                .flat_map(|(byte, scale)| {
                    [byte & 15, byte >> 4].map(|code| mxfp4::value(code, scale))
                });
            (dot(x.iter().copied(), weights) + bias.to_f64()) as f32
        })
        .collect()
}

/// The clamped SwiGLU: `g · sigmoid(1.702 g) · (u + 1)`.
fn activate(gate: f32, up: f32, limit: f32) -> f32 {
    let gate = f64::from(gate.min(limit));
    let up = f64::from(up.clamp(-limit, limit));
    let sigmoid = 1.0 / (1.0 + (-1.702 * gate).exp());
    (gate * sigmoid * (up + 1.0)) as f32
}

pub(super) fn combine(args: Combine<'_>) {
    args.check();
    let hidden = args.hidden();
    if hidden == 0 {
        return;
    }
    for ((x, outputs), weight) in args
        .x
        .chunks_exact_mut(hidden)
        .zip(args.outputs.chunks_exact(args.k * hidden))
        .zip(args.weight.chunks_exact(args.k))
    {
        for (column, x) in x.iter_mut().enumerate() {
            let column = outputs[column..].iter().step_by(hidden).copied();
            *x += dot(weight.iter().copied(), column) as f32;
        }
    }
}
