//! Compares the model with a golden.

use std::sync::{Arc, Mutex};

use checkpoint::RankWeights;
use kernels::{Backend, Route};
use model::log_sum_exp;

use crate::file::Golden;
use crate::session::Session;
use crate::twist::{Twist, Twisted};

/// How far the model is from a golden.
#[derive(Debug, Default)]
pub(crate) struct Differences {
    /// Largest difference of a logit.
    pub(crate) logits: f64,
    /// Largest difference of a row's log-sum-exp.
    pub(crate) log_sum_exp: f64,
    /// Rows whose largest logit is another token's.
    pub(crate) argmax: Choices,
    /// Rows and layers with another set of experts.
    pub(crate) experts: Choices,
    /// Tokens of the greedy continuation.
    pub(crate) greedy: Choices,
}

/// Choices compared; those nearer than the tolerance to the next candidate are not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Choices {
    pub(crate) compared: usize,
    pub(crate) too_near: usize,
    pub(crate) wrong: usize,
}

impl Choices {
    fn add(&mut self, margin: f32, tolerance: f64, same: bool) {
        // Both candidates may be off by the tolerance.
        if f64::from(margin) <= 2.0 * tolerance {
            self.too_near += 1;
            return;
        }
        self.compared += 1;
        self.wrong += usize::from(!same);
    }
}

impl Differences {
    /// Everything that is further off than the golden allows.
    pub(crate) fn faults(&self, golden: &Golden) -> Vec<String> {
        let mut faults = Vec::new();
        for (what, value) in [("logits", self.logits), ("log-sum-exp", self.log_sum_exp)] {
            if value.is_nan() || value > golden.tolerance {
                faults.push(format!("{what} differ by {value:.2e}"));
            }
        }
        for (what, choices) in [
            ("argmax", self.argmax),
            ("experts", self.experts),
            ("greedy tokens", self.greedy),
        ] {
            if choices.wrong > 0 {
                faults.push(format!("{what}: {choices:?}"));
            }
            if choices.too_near * 50 > choices.compared {
                faults.push(format!("{what}: too few could be compared: {choices:?}"));
            }
        }
        faults
    }
}

/// Keeps the experts chosen for each row.
#[derive(Default)]
struct Routes {
    /// One entry a call: a layer of a chunk.
    calls: Mutex<Vec<Vec<u32>>>,
}

impl Twist for Routes {
    fn route(&self, inner: &dyn Backend, args: Route<'_>) {
        inner.route(Route {
            index: &mut *args.index,
            weight: &mut *args.weight,
            ..args
        });
        self.calls.lock().unwrap().push(args.index.to_vec());
    }
}

/// Runs the golden's prompt and continuation. With `backend` wrong, the numbers are.
pub(crate) fn compare(
    golden: &Golden,
    weights: &Arc<RankWeights>,
    backend: Arc<dyn Backend>,
    chunk: usize,
) -> Differences {
    let geometry = weights.checkpoint().geometry().clone();
    let routes = Arc::new(Routes::default());
    let watched = Arc::new(Twisted {
        inner: backend,
        twist: Arc::clone(&routes),
    });
    let positions = golden.prompt.len() + golden.greedy.len();
    let positions = positions.min(geometry.max_positions);
    let mut session = Session::new(weights, watched, &golden.inv_freq, positions);
    let mut found = Differences::default();
    let mut seen = 0;
    let mut take = |position: usize, logits: &[f32]| {
        compare_row(golden, position - golden.first_row, logits, &mut found);
        seen += 1;
    };
    let mut token = session.prefill(&golden.prompt, chunk, golden.first_row, &mut take);
    assert_eq!(seen, golden.rows());
    compare_experts(golden, geometry.num_layers(), &routes, &mut found);
    for (i, (expected, margin)) in golden.greedy.iter().zip(&golden.greedy_margin).enumerate() {
        let same = token.0 as i32 == *expected;
        found.greedy.add(*margin, golden.tolerance, same);
        if !same || i + 1 == golden.greedy.len() {
            break;
        }
        token = session.decode();
    }
    found
}

fn compare_row(golden: &Golden, row: usize, logits: &[f32], found: &mut Differences) {
    let kept = golden.vocab_ids.len();
    let expected = &golden.logits[row * kept..(row + 1) * kept];
    for (id, expected) in golden.vocab_ids.iter().zip(expected) {
        found.logits = worse(found.logits, logits[*id], *expected);
    }
    let sum = log_sum_exp(logits) as f32;
    found.log_sum_exp = worse(found.log_sum_exp, sum, golden.log_sum_exp[row]);
    let best = (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b]));
    let same = best == Some(golden.argmax[row] as usize);
    found.argmax.add(golden.margin[row], golden.tolerance, same);
}

/// The larger of `so_far` and a new difference; NaN, once there, stays.
pub(crate) fn worse(so_far: f64, found: f32, expected: f32) -> f64 {
    let difference = (f64::from(found) - f64::from(expected)).abs();
    if difference.is_nan() || difference > so_far {
        difference
    } else {
        so_far
    }
}

fn compare_experts(golden: &Golden, layers: usize, routes: &Routes, found: &mut Differences) {
    let rows = golden.rows();
    let k = golden.experts.len() / (layers * rows);
    let calls = routes.calls.lock().unwrap();
    for layer in 0..layers {
        // The rows of all chunks, of which the golden keeps the last ones.
        let chosen: Vec<u32> = calls
            .iter()
            .skip(layer)
            .step_by(layers)
            .flatten()
            .copied()
            .collect();
        let chosen = &chosen[chosen.len() - rows * k..];
        for row in 0..rows {
            let place = layer * rows + row;
            let mut expected = golden.experts[place * k..(place + 1) * k].to_vec();
            let mut chosen: Vec<u8> = chosen[row * k..(row + 1) * k]
                .iter()
                .map(|e| *e as u8)
                .collect();
            expected.sort_unstable();
            chosen.sort_unstable();
            let same = expected == chosen;
            found
                .experts
                .add(golden.router_margin[place], golden.tolerance, same);
        }
    }
}
