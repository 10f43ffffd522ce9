//! How far what a model says changes with the numerics: the same tokens, computed exactly and otherwise.

use std::num::NonZeroUsize;

use checkpoint::{Checkpoint, Watch};
use kernels_cpu::Numerics;
use model::MAX_LOGIT_ROWS;
use serde::Serialize;
use spec::TokenId;

use crate::error::Error;
use crate::group::{Group, Shape};
use crate::passes::{Load, Place};
use crate::samples::Samples;

/// How two computations of one text agree, position by position. Names are those of `llama-perplexity
/// --kl-divergence` (<https://github.com/ggml-org/llama.cpp/tree/master/tools/perplexity>), which looks at
/// the later half of each context alone.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Agreement {
    /// Kullback-Leibler divergence of the tokens' distribution from the exact one, in nats.
    pub kld: Samples,
    /// By position, 1 where the most likely token is the same, else 0.
    pub same_top: Samples,
    /// Root of the mean square of what logits differ by, in shares of the exact logits' deviation.
    pub logit_error: Samples,
}

impl Agreement {
    /// Compares other numerics with the exact ones on a text, of which every position is looked at, each in
    /// one rank.
    ///
    /// # Errors
    ///
    /// If weights cannot be loaded, or the text is longer than what the model takes.
    ///
    /// # Panics
    ///
    /// If the two computations show different rows, which is a bug.
    pub fn measure(
        checkpoint: &Checkpoint,
        shape: &Shape,
        tokens: &[TokenId],
        watch: &mut Watch<'_>,
    ) -> Result<Self, Error> {
        let load = Load {
            sequences: 1,
            prompt: tokens.len(),
            output: 0,
        };
        // Both are computed in small steps in turn, so that few logits exist at a time.
        let shape = Shape {
            ranks: NonZeroUsize::MIN,
            step_rows: MAX_LOGIT_ROWS,
            sequences: 1,
            positions: tokens.len(),
            ..shape.clone()
        };
        let exact = Shape {
            numerics: Numerics::Exact,
            cache: None,
            ..shape.clone()
        };
        let mut group = Group::new(checkpoint, &shape, watch)?;
        let mut exact = Group::new(checkpoint, &exact, watch)?;
        let vocab = checkpoint.geometry().vocab_size;
        let mut agreement = Self::default();
        let mut places = vec![Place::first()];
        let mut logits = Vec::new();
        while let Some(parts) = shape.prompts(&mut places, load, |at| tokens[at].0) {
            logits.clear();
            let own = parts.clone();
            exact.run(|steps| steps.show(own, &mut |_, _, row| logits.extend_from_slice(row)))?;
            let mut rows = logits.chunks_exact(vocab);
            group.run(|steps| {
                steps.show(parts, &mut |_, _, found| {
                    let row = rows.next().expect("both show the same rows");
                    agreement.add(row, found);
                })
            })?;
        }
        Ok(agreement)
    }

    /// Adds a position, with its exact logits and those found.
    fn add(&mut self, exact: &[f32], found: &[f32]) {
        let (base, other) = (total(exact), total(found));
        let mut divergence = 0.0;
        let mut squares = 0.0;
        for (exact, found) in exact.iter().zip(found) {
            let (exact, found) = (f64::from(*exact), f64::from(*found));
            let log = exact - base;
            divergence += log.exp() * (log - (found - other));
            squares += (found - exact).powi(2);
        }
        self.kld.0.push(divergence);
        self.same_top.0.push(f64::from(top(exact) == top(found)));
        let deviation = Samples(exact.iter().copied().map(f64::from).collect()).deviation();
        let error = (squares / exact.len() as f64).sqrt();
        self.logit_error.0.push(error / deviation);
    }
}

/// The logarithm of the sum of all exponentials.
fn total(logits: &[f32]) -> f64 {
    let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits
        .iter()
        .map(|logit| (f64::from(*logit) - most).exp())
        .sum();
    most + sum.ln()
}

/// The most likely token, the first of several.
fn top(logits: &[f32]) -> Option<usize> {
    let best = |a: usize, b: usize| if logits[b] > logits[a] { b } else { a };
    (0..logits.len()).reduce(best)
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use checkpoint::synth::Spec;
    use kernels_cpu::Threads;

    use super::*;

    #[test]
    fn divergence_is_that_of_the_definition() {
        let mut agreement = Agreement::default();
        // Probabilities of 1/4 and 3/4 against a half each, whatever is added to all logits.
        agreement.add(&[1.0, 1.0 + 3f32.ln()], &[5.0, 5.0]);
        let expected = 0.25 * 0.5f64.ln() + 0.75 * 1.5f64.ln();
        assert!((agreement.kld.0[0] - expected).abs() < 1e-6);
        assert_eq!(agreement.same_top.0, [0.0]);
        agreement.add(&[1.0, 2.0, 0.0], &[1.0, 2.0, 0.0]);
        assert_eq!((agreement.kld.0[1], agreement.same_top.0[1]), (0.0, 1.0));
        assert_eq!(agreement.logit_error.0[1], 0.0);
    }

    #[test]
    fn exact_agrees_with_itself_and_fast_nearly() {
        let checkpoint = Checkpoint::synth(&Spec::parse("tiny").unwrap()).unwrap();
        let tokens: Vec<TokenId> = (0..150).map(|at| TokenId(at * 37 % 512)).collect();
        let measure = |numerics| {
            let shape = Shape {
                ranks: NonZeroUsize::MIN,
                threads: Threads::Any(NonZeroUsize::new(2).unwrap()),
                numerics,
                cache: None,
                step_rows: 1,
                sequences: 1,
                positions: 1,
            };
            let go_on = &mut |_| ControlFlow::Continue(());
            Agreement::measure(&checkpoint, &shape, &tokens, go_on).unwrap()
        };
        let exact = measure(Numerics::Exact);
        assert_eq!((exact.kld.0.len(), exact.kld.max()), (150, 0.0));
        assert_eq!((exact.same_top.mean(), exact.logit_error.max()), (1.0, 0.0));
        let fast = measure(Numerics::Fast);
        assert!(fast.kld.mean() > 0.0 && fast.kld.mean() < 0.1, "{fast:?}");
        assert!(fast.same_top.mean() > 0.8 && fast.logit_error.mean() < 0.2);
    }
}
