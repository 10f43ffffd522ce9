//! Twists that get one op wrong.

use std::sync::Arc;

use checkpoint::mxfp4::dequantize_into;
use half::bf16;
use kernels::{Attend, Backend, Codes, ExpertWork, Experts, Linear, Mxfp4, RmsNorm, Rotate, Route};
use model::Rotary;
use spec::Rope;

use crate::twist::Twist;

/// A twist of one op, from a closure.
macro_rules! twist_of {
    ($make:ident, $op:ident, $args:ident) => {
        pub(crate) fn $make(
            twist: impl Fn(&dyn Backend, $args<'_>) + Send + Sync + 'static,
        ) -> Arc<dyn Twist> {
            struct One<F>(F);
            impl<F: Fn(&dyn Backend, $args<'_>) + Send + Sync> Twist for One<F> {
                fn $op(&self, inner: &dyn Backend, args: $args<'_>) {
                    (self.0)(inner, args);
                }
            }
            Arc::new(One(twist))
        }
    };
}

twist_of!(in_norm, rms_norm, RmsNorm);
twist_of!(in_linear, linear, Linear);
twist_of!(in_rotate, rotate, Rotate);
twist_of!(in_attend, attend, Attend);
twist_of!(in_route, route, Route);
twist_of!(in_experts, run_experts, Experts);

/// A copy of one MXFP4 matrix, to be changed.
pub(crate) struct Matrix {
    pub(crate) blocks: Vec<u8>,
    pub(crate) scales: Vec<u8>,
    pub(crate) bias: Vec<bf16>,
}

impl Matrix {
    fn copy(of: &Mxfp4<'_>) -> Self {
        let Codes::Rows { blocks, scales } = of.codes else {
            panic!("goldens are of matrices as checkpoints hold them");
        };
        Self {
            blocks: blocks.to_vec(),
            scales: scales.to_vec(),
            bias: of.bias.to_vec(),
        }
    }

    fn view(&self) -> Mxfp4<'_> {
        Mxfp4 {
            codes: Codes::Rows {
                blocks: &self.blocks,
                scales: &self.scales,
            },
            bias: &self.bias,
        }
    }

    /// Puts row `order(i)` where row `i` was.
    pub(crate) fn reorder(&mut self, order: impl Fn(usize) -> usize) {
        let rows = self.bias.len();
        let (blocks, scales) = (self.blocks.len() / rows, self.scales.len() / rows);
        let old = Self::copy(&self.view());
        for row in 0..rows {
            let from = order(row);
            self.blocks[row * blocks..][..blocks]
                .copy_from_slice(&old.blocks[from * blocks..][..blocks]);
            self.scales[row * scales..][..scales]
                .copy_from_slice(&old.scales[from * scales..][..scales]);
            self.bias[row] = old.bias[from];
        }
    }

    fn values(&self) -> Vec<f32> {
        let mut values = vec![0.0; 32 * self.scales.len()];
        dequantize_into(&self.blocks, &self.scales, &mut values);
        values
    }
}

/// Runs the experts with other weights.
pub(crate) fn with_weights(
    change: impl Fn(&mut Matrix, &mut Matrix) + Send + Sync + 'static,
) -> Arc<dyn Twist> {
    in_experts(move |inner, args| {
        let matrices = args.work.iter().map(|work| {
            let (mut gate_up, mut down) = (Matrix::copy(&work.gate_up), Matrix::copy(&work.down));
            change(&mut gate_up, &mut down);
            (gate_up, down)
        });
        let matrices: Vec<_> = matrices.collect();
        let work = args.work.iter().zip(&matrices);
        let work = work.map(|(work, (gate_up, down))| ExpertWork {
            gate_up: gate_up.view(),
            down: down.view(),
            ..*work
        });
        let work: Vec<_> = work.collect();
        inner.run_experts(Experts {
            work: &work,
            ..args
        });
    })
}

pub(crate) fn in_both(change: impl Fn(&mut Matrix) + Send + Sync + 'static) -> Arc<dyn Twist> {
    with_weights(move |gate_up, down| {
        change(gate_up);
        change(down);
    })
}

/// Reads a block as if byte `j` held the values `j` and `j + 16`.
pub(crate) fn halves_order(matrix: &mut Matrix) {
    for block in matrix.blocks.chunks_mut(16) {
        let values: Vec<u8> = block
            .iter()
            .map(|byte| byte & 15)
            .chain(block.iter().map(|byte| byte >> 4))
            .collect();
        for (byte, pair) in block.iter_mut().zip(values.chunks(2)) {
            *byte = pair[0] | (pair[1] << 4);
        }
    }
}

/// The experts with another activation: `min(g, 7) · sigmoid(alpha · g) · (u + offset)`.
pub(crate) fn with_activation(alpha: f32, offset: f32) -> Arc<dyn Twist> {
    in_experts(move |_, args| {
        let hidden = args.hidden;
        for work in args.work {
            let (gate_up, down) = (Matrix::copy(&work.gate_up), Matrix::copy(&work.down));
            let (w1, w2) = (gate_up.values(), down.values());
            for (row, output) in work.rows.iter().zip(work.outputs) {
                let x = &args.x[*row as usize * hidden..][..hidden];
                let z = affine(x, &w1, work.gate_up.bias);
                let h: Vec<f32> = z
                    .chunks(2)
                    .map(|pair| {
                        let gate = pair[0].min(args.limit);
                        let up = pair[1].clamp(-args.limit, args.limit);
                        gate / (1.0 + (-alpha * gate).exp()) * (up + offset)
                    })
                    .collect();
                let y = affine(&h, &w2, work.down.bias);
                args.out[*output as usize * hidden..][..hidden].copy_from_slice(&y);
            }
        }
    })
}

fn affine(x: &[f32], weight: &[f32], bias: &[bf16]) -> Vec<f32> {
    let rows = weight.chunks(x.len()).zip(bias);
    rows.map(|(row, bias)| {
        let dot: f64 = row
            .iter()
            .zip(x)
            .map(|(w, x)| f64::from(*w) * f64::from(*x))
            .sum();
        (dot + f64::from(bias.to_f32())) as f32
    })
    .collect()
}

/// Leaves the bias out of the linear layers with so many inputs and outputs.
pub(crate) fn without_bias(inputs: usize, outputs: usize) -> Arc<dyn Twist> {
    in_linear(move |inner, args| {
        let hit = args.inputs == inputs && args.outputs == outputs;
        let bias = args.bias.filter(|_| !hit);
        inner.linear(Linear { bias, ..args });
    })
}

pub(crate) fn with_sinks(
    change: impl Fn(f32, &Attend<'_>) -> f32 + Send + Sync + 'static,
) -> Arc<dyn Twist> {
    in_attend(move |inner, args| {
        let sinks = args.sinks.iter().map(|sink| change(sink.to_f32(), &args));
        let sinks: Vec<bf16> = sinks.map(bf16::from_f32).collect();
        inner.attend(Attend {
            sinks: &sinks,
            ..args
        });
    })
}

pub(crate) fn with_window(
    change: impl Fn(Option<usize>) -> Option<usize> + Send + Sync + 'static,
) -> Arc<dyn Twist> {
    in_attend(move |inner, args| {
        let window = change(args.window);
        inner.attend(Attend { window, ..args });
    })
}

/// Attends with query head `h` standing at `place(h)`, which decides the key head it reads.
pub(crate) fn with_heads_at(place: fn(usize, &Attend<'_>) -> usize) -> Arc<dyn Twist> {
    in_attend(move |inner, args| {
        let (heads, width) = (args.heads, args.layout.head_dim);
        let places: Vec<usize> = (0..heads).map(|head| place(head, &args)).collect();
        let mut q = vec![0.0; args.q.len()];
        let mut sinks = args.sinks.to_vec();
        for (head, place) in places.iter().enumerate() {
            sinks[*place] = args.sinks[head];
            for row in 0..q.len() / (heads * width) {
                q[(row * heads + place) * width..][..width]
                    .copy_from_slice(&args.q[(row * heads + head) * width..][..width]);
            }
        }
        let mut out = vec![0.0; q.len()];
        inner.attend(Attend {
            q: &q,
            sinks: &sinks,
            out: &mut out,
            ..args
        });
        for (head, place) in places.iter().enumerate() {
            for row in 0..q.len() / (heads * width) {
                args.out[(row * heads + head) * width..][..width]
                    .copy_from_slice(&out[(row * heads + place) * width..][..width]);
            }
        }
    })
}

/// Turns with other frequencies and another factor.
pub(crate) fn with_rotary(change: fn(&Rope, usize) -> Rotary) -> Arc<dyn Twist> {
    in_rotate(move |inner, args| {
        let rope = Rope::GPT_OSS;
        let rotary = change(&rope, args.head_dim());
        inner.rotate(Rotate {
            inv_freq: &rotary.inv_freq,
            factor: rotary.factor,
            ..args
        });
    })
}

/// Pairs neighbours rather than halves: turns a rearranged copy.
pub(crate) fn interleaved() -> Arc<dyn Twist> {
    in_rotate(|inner, args| {
        let width = args.head_dim();
        let mut halves = args.x.to_vec();
        for (to, from) in halves.chunks_mut(width).zip(args.x.chunks(width)) {
            for (i, pair) in from.chunks(2).enumerate() {
                (to[i], to[i + width / 2]) = (pair[0], pair[1]);
            }
        }
        inner.rotate(Rotate {
            x: &mut halves,
            ..args
        });
        for (to, from) in args.x.chunks_mut(width).zip(halves.chunks(width)) {
            for (i, pair) in to.chunks_mut(2).enumerate() {
                (pair[0], pair[1]) = (from[i], from[i + width / 2]);
            }
        }
    })
}

pub(crate) fn softmax_over_all() -> Arc<dyn Twist> {
    in_route(|inner, args| {
        inner.route(Route {
            index: &mut *args.index,
            weight: &mut *args.weight,
            ..args
        });
        let rows = args.logits.chunks(args.num_experts);
        let chosen = args
            .index
            .chunks(args.k)
            .zip(args.weight.chunks_mut(args.k));
        for (logits, (index, weight)) in rows.zip(chosen) {
            let sum: f32 = logits.iter().map(|logit| logit.exp()).sum();
            for (expert, weight) in index.iter().zip(weight) {
                *weight = logits[*expert as usize].exp() / sum;
            }
        }
    })
}
