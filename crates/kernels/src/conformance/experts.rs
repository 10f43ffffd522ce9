//! Routing, experts and their sum.

use std::ops::Range;

use half::bf16;

use super::Case;
use super::inputs::{Numbers, packed_codes};
use crate::mxfp4::{BLOCK, BLOCK_BYTES};
use crate::{Backend, Codes, Combine, ExpertWork, Experts, Mxfp4, Route};

/// A softmax of a few `f32`.
const ROUTE: f32 = 1e-6;
/// Two `f32` matrix products with the activation between; terms of up to about fifty cancel.
const EXPERTS: f32 = 4e-5;
/// A sum of a few products.
const COMBINE: f32 = 1e-6;

pub(super) fn route() -> Vec<Case> {
    let case = |(rows, num_experts, k): (usize, usize, usize)| {
        let mut numbers = Numbers::seeded(6);
        let mut logits = numbers.floats(rows * num_experts, 4.0);
        for (row, logits) in logits.chunks_exact_mut(num_experts).enumerate() {
            match row % 5 {
                // All equal, in both zeros: the first k in order.
                1 => logits
                    .iter_mut()
                    .enumerate()
                    .for_each(|(i, logit)| *logit = if i % 2 == 0 { -0.0 } else { 0.0 }),
                // A few values only: ties inside the choice and at its edge.
                2 => logits.iter_mut().for_each(|logit| *logit = logit.round()),
                // Far apart: shares that vanish.
                3 => logits.iter_mut().for_each(|logit| *logit *= 100.0),
                _ => {}
            }
        }
        Case::new(
            format!("route, {rows} rows, {k} of {num_experts}"),
            rows,
            ROUTE,
            move |backend, rows| {
                let mut index = vec![u32::MAX; rows.len() * k];
                let mut weight = vec![f32::NAN; rows.len() * k];
                backend.route(Route {
                    logits: &logits[rows.start * num_experts..rows.end * num_experts],
                    num_experts,
                    k,
                    index: &mut index,
                    weight: &mut weight,
                });
                let pairs = index.iter().zip(&weight);
                pairs.flat_map(|(&i, &w)| [i as f32, w]).collect()
            },
        )
    };
    [
        (0, 4, 2),
        (1, 1, 1),
        (18, 8, 3),
        (20, 32, 4),
        (9, 128, 4),
        (5, 12, 12),
    ]
    .map(case)
    .into()
}

/// A matrix that owns its bytes.
struct Matrix {
    blocks: Vec<u8>,
    scales: Vec<u8>,
    bias: Vec<bf16>,
}

impl Matrix {
    /// Scale bytes lie around `scale`; one in eight is 0 or 1.
    fn random(numbers: &mut Numbers, outputs: usize, inputs: usize, scale: u8) -> Self {
        let count = outputs * inputs / BLOCK;
        let scales = (0..count).map(|_| match numbers.below(16) {
            bits @ (0 | 1) => bits as u8,
            bits => scale + (bits % 3) as u8,
        });
        Self {
            scales: scales.collect(),
            blocks: numbers.bytes(count * BLOCK_BYTES),
            bias: numbers.bf16s(outputs, 1.0),
        }
    }

    /// The matrix as it is, or packed.
    fn view<'a>(&'a self, packed: Option<&'a [u8]>) -> Mxfp4<'a> {
        let rows = Codes::Rows {
            blocks: &self.blocks,
            scales: &self.scales,
        };
        Mxfp4 {
            codes: packed.map_or(rows, Codes::Packed),
            bias: &self.bias,
        }
    }

    fn packed(&self, backend: &dyn Backend, inputs: usize, pairs: bool) -> Option<Vec<u8>> {
        let codes = (&self.blocks[..], &self.scales[..]);
        packed_codes(backend, codes, (self.bias.len(), inputs), pairs)
    }
}

/// Rows and the experts they chose.
struct Crowd {
    hidden: usize,
    intermediate: usize,
    experts: Vec<(Matrix, Matrix)>,
    x: Vec<f32>,
    /// Per row, its experts in top-k order.
    chosen: Vec<Vec<usize>>,
}

impl Crowd {
    const K: usize = 3;

    fn random(rows: usize, hidden: usize, intermediate: usize, experts: usize) -> Self {
        let mut numbers = Numbers::seeded(7);
        let matrices = (0..experts)
            .map(|_| {
                (
                    Matrix::random(&mut numbers, 2 * intermediate, hidden, 125),
                    Matrix::random(&mut numbers, hidden, intermediate, 120),
                )
            })
            .collect();
        Self {
            hidden,
            intermediate,
            experts: matrices,
            x: numbers.floats(rows * hidden, 1.5),
            chosen: (0..rows)
                .map(|_| numbers.order(experts)[..Self::K].to_vec())
                .collect(),
        }
    }

    fn run(&self, backend: &dyn Backend, rows: Range<usize>) -> Vec<f32> {
        let pairs: Vec<Vec<(u32, u32)>> = (0..self.experts.len())
            .map(|expert| {
                let choices = rows.clone().flat_map(|row| {
                    let chosen = self.chosen[row].iter().enumerate();
                    chosen.map(move |(place, &chosen)| (row, place, chosen))
                });
                choices
                    .filter(|&(_, _, chosen)| chosen == expert)
                    .map(|(row, place, _)| {
                        let output = (row - rows.start) * Self::K + place;
                        (row as u32, output as u32)
                    })
                    .collect()
            })
            .collect();
        let lists: Vec<(Vec<u32>, Vec<u32>)> = pairs
            .into_iter()
            .map(|pairs| pairs.into_iter().unzip())
            .collect();
        let packed = self.experts.iter().map(|(gate_up, down)| {
            let down = down.packed(backend, self.intermediate, false);
            (gate_up.packed(backend, self.hidden, true), down)
        });
        let packed: Vec<_> = packed.collect();
        let work: Vec<ExpertWork<'_>> = self
            .experts
            .iter()
            .zip(&packed)
            .zip(&lists)
            .map(|(((gate_up, down), packed), (rows, outputs))| ExpertWork {
                gate_up: gate_up.view(packed.0.as_deref()),
                down: down.view(packed.1.as_deref()),
                rows,
                outputs,
            })
            .collect();
        let mut out = vec![f32::NAN; rows.len() * Self::K * self.hidden];
        backend.run_experts(Experts {
            x: &self.x,
            hidden: self.hidden,
            intermediate: self.intermediate,
            limit: 7.0,
            work: &work,
            out: &mut out,
        });
        out
    }
}

pub(super) fn run_experts() -> Vec<Case> {
    let case = |(rows, hidden, intermediate, experts): (usize, usize, usize, usize)| {
        let crowd = Crowd::random(rows, hidden, intermediate, experts);
        Case::new(
            format!("run_experts, {rows} rows, {hidden} x {intermediate}, {experts} experts"),
            rows,
            EXPERTS,
            move |backend, rows| crowd.run(backend, rows),
        )
        .product()
    };
    [
        (0, 32, 64, 3),
        (1, 32, 32, 4),
        (18, 64, 96, 5),
        (20, 96, 64, 3),
        (6, 416, 448, 4),
        (26, 352, 32, 4),
    ]
    .map(case)
    .into()
}

pub(super) fn combine() -> Vec<Case> {
    let case = |(rows, k, hidden): (usize, usize, usize)| {
        let mut numbers = Numbers::seeded(8);
        let outputs = numbers.floats(rows * k * hidden, 3.0);
        let weight = numbers.floats(rows * k, 1.0);
        let x = numbers.floats(rows * hidden, 3.0);
        Case::new(
            format!("combine, {rows} rows of {hidden}, {k} experts"),
            rows,
            COMBINE,
            move |backend, rows| {
                let width = k * hidden;
                let mut x = x[rows.start * hidden..rows.end * hidden].to_vec();
                backend.combine(Combine {
                    outputs: &outputs[rows.start * width..rows.end * width],
                    weight: &weight[rows.start * k..rows.end * k],
                    k,
                    x: &mut x,
                });
                x
            },
        )
    };
    [(0, 4, 8), (1, 1, 1), (18, 4, 33), (3, 2, 64)]
        .map(case)
        .into()
}
