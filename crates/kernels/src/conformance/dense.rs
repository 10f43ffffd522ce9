//! Embedding, normalization and matrix products.

use super::Case;
use super::inputs::{Numbers, packed_bf16};
use crate::{Bf16, Embed, Linear, RmsNorm};

/// A copy.
const EMBED: f32 = 0.0;
/// A few roundings after an `f32` sum of squares.
const RMS_NORM: f32 = 1e-6;
/// `f32` sums over up to 2,880 products of size `1 / sqrt(inputs)`.
const LINEAR: f32 = 2e-6;

pub(super) fn embed() -> Vec<Case> {
    let case = |hidden: usize| {
        let mut numbers = Numbers::seeded(1);
        let table = numbers.bf16s(7 * hidden, 2.0);
        let ids = [3u32, 0, 6, 6, 1];
        Case::new(
            format!("embed, hidden {hidden}"),
            ids.len(),
            EMBED,
            move |backend, rows| {
                let ids = &ids[rows];
                let mut out = vec![f32::NAN; ids.len() * hidden];
                backend.embed(Embed {
                    table: &table,
                    ids,
                    hidden,
                    out: &mut out,
                });
                out
            },
        )
    };
    [1, 33, 64].map(case).into()
}

pub(super) fn rms_norm() -> Vec<Case> {
    let case = |(rows, hidden): (usize, usize)| {
        let mut numbers = Numbers::seeded(2);
        let mut x = numbers.floats(rows * hidden, 3.0);
        if let Some(row) = x.chunks_exact_mut(hidden).nth(1) {
            // Alone, eps keeps a row of zeros from dividing by zero.
            row.fill(0.0);
        }
        let weight = numbers.bf16s(hidden, 2.0);
        Case::new(
            format!("rms_norm, {rows} rows of {hidden}"),
            rows,
            RMS_NORM,
            move |backend, rows| {
                let x = &x[rows.start * hidden..rows.end * hidden];
                let mut out = vec![f32::NAN; x.len()];
                backend.rms_norm(RmsNorm {
                    x,
                    weight: &weight,
                    eps: 1e-5,
                    out: &mut out,
                });
                out
            },
        )
    };
    let shapes = [(0, 5), (1, 1), (3, 7), (9, 33), (3, 64), (18, 2880)];
    shapes.map(case).into()
}

pub(super) fn linear() -> Vec<Case> {
    let shapes = [
        (0, 8, 3),
        (1, 1, 1),
        (2, 7, 2),
        (3, 8, 5),
        (4, 31, 13),
        (5, 32, 12),
        (6, 33, 49),
        (8, 64, 96),
        (18, 100, 31),
        (17, 384, 24),
        (18, 391, 51),
        (7, 800, 100),
        (3, 2880, 37),
        (259, 64, 65),
    ];
    let plain = shapes.map(|shape| linear_case(shape, false, false));
    let biased = shapes.map(|shape| linear_case(shape, true, false));
    let added = shapes.map(|shape| linear_case(shape, true, true));
    plain.into_iter().chain(biased).chain(added).collect()
}

fn linear_case(
    (rows, inputs, outputs): (usize, usize, usize),
    with_bias: bool,
    accumulate: bool,
) -> Case {
    let mut numbers = Numbers::seeded(3);
    let x = numbers.floats(rows * inputs, 2.0);
    let weight = numbers.bf16s(outputs * inputs, 2.0 / (inputs as f32).sqrt());
    let bias = numbers.bf16s(outputs, 1.0);
    let before = numbers.floats(rows * outputs, 1.0);
    Case::new(
        format!(
            "linear, {rows} rows, {inputs} -> {outputs}, bias {with_bias}, accumulate {accumulate}"
        ),
        rows,
        LINEAR,
        move |backend, rows| {
            let mut out = if accumulate {
                before[rows.start * outputs..rows.end * outputs].to_vec()
            } else {
                vec![f32::NAN; rows.len() * outputs]
            };
            let packed = packed_bf16(backend, &weight, (outputs, inputs));
            let weight = packed.as_deref().map_or(Bf16::Rows(&weight), Bf16::Packed);
            backend.linear(Linear {
                x: &x[rows.start * inputs..rows.end * inputs],
                weight,
                bias: with_bias.then_some(&bias),
                inputs,
                outputs,
                accumulate,
                out: &mut out,
            });
            out
        },
    )
    .product()
}
