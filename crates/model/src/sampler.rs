//! Chooses the next token from a row of logits.
//!
//! In this order: `logit_bias`; repetition, frequency and presence penalty; at temperature 0 the
//! most likely token, the lowest among equals; else temperature, `min_p`, `top_k`, `top_p`, each on
//! what the one before has left, and one draw in proportion to the probabilities. The order is
//! vLLM's (`vllm/v1/sample/sampler.py`).
//!
//! All is a function of the logits, the parameters, the tokens so far and the [`DrawKey`]: sums are
//! in `f64`, in an order fixed by token ids or by rank, and equals go by ascending id.

mod exp;
mod logprob;
mod select;

use spec::{Sampling, TokenId};

pub use self::logprob::{log_sum_exp, token_logprob};

use self::exp::exp_nonpositive;
use self::select::{argmax, largest, maximum};
use crate::random::{DrawKey, Purpose};

/// A token of the prompt or the output, for the penalties.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Penalized {
    /// How often it was generated; 0 for a token of the prompt alone.
    pub generated: u32,
}

/// What a choice depends on, beside the logits.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'a> {
    /// The parameters.
    pub sampling: &'a Sampling,
    /// The distinct tokens so far; may be empty where no penalty is on.
    pub penalized: &'a [(TokenId, Penalized)],
    /// Position that the chosen token will take.
    pub position: u32,
}

/// Chooses tokens; holds the memory for it.
#[derive(Debug, Default)]
pub struct Sampler {
    /// Adjusted logits, then weights: probabilities relative to the most likely token's.
    weights: Vec<f32>,
    /// The tokens that `top_k` and `top_p` leave, best first.
    kept: Vec<(TokenId, f32)>,
}

impl Sampler {
    /// Chooses a token. `logits` holds one finite number for each token of the vocabulary.
    pub fn choose(&mut self, logits: &[f32], choice: &Choice<'_>) -> TokenId {
        self.weights.clear();
        self.weights.extend_from_slice(logits);
        adjust(&mut self.weights, choice);
        let sampling = choice.sampling;
        if sampling.temperature == 0.0 {
            return argmax(&self.weights);
        }
        let top = maximum(&self.weights);
        for weight in &mut self.weights {
            *weight = exp_nonpositive((*weight - top) / sampling.temperature);
        }
        let key = DrawKey {
            seed: sampling.seed,
            choice: sampling.choice,
            position: choice.position,
            purpose: Purpose::Token,
        };
        let uniform = key.uniform();
        if sampling.top_k == 0 && sampling.top_p >= 1.0 {
            return draw_from_all(&self.weights, sampling.min_p, uniform);
        }
        self.keep_best(sampling);
        draw_from_best(&self.kept, uniform)
    }

    /// Leaves in `kept` what `min_p`, `top_k` and `top_p` leave, best first.
    fn keep_best(&mut self, sampling: &Sampling) {
        let (min_p, top_p) = (sampling.min_p, f64::from(sampling.top_p));
        if sampling.top_k > 0 {
            largest(&self.weights, sampling.top_k as usize, &mut self.kept);
            self.kept.retain(|(_, weight)| *weight >= min_p);
            let total = self.kept.iter().map(|(_, weight)| f64::from(*weight)).sum();
            let nucleus = nucleus_len(&self.kept, top_p, total);
            self.kept.truncate(nucleus.unwrap_or(self.kept.len()));
            return;
        }
        let total: f64 = block_sums(&self.weights, min_p).sum();
        let mut count = FIRST_NUCLEUS;
        loop {
            largest(&self.weights, count, &mut self.kept);
            self.kept.retain(|(_, weight)| *weight >= min_p);
            if let Some(len) = nucleus_len(&self.kept, top_p, total) {
                self.kept.truncate(len);
                return;
            }
            if self.kept.len() < count {
                // All that `min_p` leaves, or the whole vocabulary: rounding kept the sum below.
                return;
            }
            count *= 16;
        }
    }
}

/// How many of the most likely tokens are looked at first for `top_p`.
const FIRST_NUCLEUS: usize = 256;

/// Applies bias and penalties.
fn adjust(logits: &mut [f32], choice: &Choice<'_>) {
    let sampling = choice.sampling;
    for (token, bias) in &sampling.logit_bias {
        logits[token.index()] += bias;
    }
    for (token, penalized) in choice.penalized {
        let logit = &mut logits[token.index()];
        let repetition = sampling.repetition_penalty;
        *logit = if *logit > 0.0 {
            *logit / repetition
        } else {
            *logit * repetition
        };
        if penalized.generated > 0 {
            *logit -= sampling.frequency_penalty * penalized.generated as f32;
            *logit -= sampling.presence_penalty;
        }
    }
    let touched = sampling.logit_bias.iter().map(|(token, _)| token);
    for token in touched.chain(choice.penalized.iter().map(|(token, _)| token)) {
        // A product can leave the range of `f32`; differences of infinities would be NaN.
        let logit = &mut logits[token.index()];
        *logit = logit.clamp(f32::MIN, f32::MAX);
    }
}

/// Returns how many of the best tokens reach `share` of `total`; `None` if all together do not.
fn nucleus_len(best: &[(TokenId, f32)], share: f64, total: f64) -> Option<usize> {
    let mut sum = 0.0;
    let reached = best.iter().position(|(_, weight)| {
        sum += f64::from(*weight);
        sum >= share * total
    });
    reached.map(|index| index + 1)
}

/// Tokens whose weights are summed together, so that a draw need not walk over all of them.
const BLOCK: usize = 1024;

fn weight_if(weight: f32, min: f32) -> f64 {
    if weight >= min {
        f64::from(weight)
    } else {
        0.0
    }
}

/// Sums the weights of at least `min`, block by block.
fn block_sums(weights: &[f32], min: f32) -> impl Iterator<Item = f64> {
    const LANES: usize = 4;
    weights.chunks(BLOCK).map(move |block| {
        let mut lanes = [0.0; LANES];
        for chunk in block.chunks(LANES) {
            for (lane, weight) in lanes.iter_mut().zip(chunk) {
                *lane += weight_if(*weight, min);
            }
        }
        lanes.iter().sum()
    })
}

/// Draws by ascending token.
fn draw_from_all(weights: &[f32], min_p: f32, uniform: f64) -> TokenId {
    let sums: Vec<f64> = block_sums(weights, min_p).collect();
    let mut left = uniform * sums.iter().sum::<f64>();
    let mut block = 0;
    while block + 1 < sums.len() && left >= sums[block] {
        left -= sums[block];
        block += 1;
    }
    // Rounding can carry a draw past the last token of its block, or past the last block.
    while sums[block] == 0.0 {
        block -= 1;
    }
    let first = block * BLOCK;
    let mut chosen = first;
    for (token, weight) in (first..).zip(weights[first..].iter().take(BLOCK)) {
        let weight = weight_if(*weight, min_p);
        if weight > 0.0 {
            chosen = token;
            if left < weight {
                break;
            }
            left -= weight;
        }
    }
    TokenId(chosen as u32)
}

/// Draws by rank.
fn draw_from_best(best: &[(TokenId, f32)], uniform: f64) -> TokenId {
    let total: f64 = best.iter().map(|(_, weight)| f64::from(*weight)).sum();
    let mut left = uniform * total;
    for (token, weight) in best {
        if left < f64::from(*weight) {
            return *token;
        }
        left -= f64::from(*weight);
    }
    // Rounding carried the draw past the last token.
    let last = best.iter().rfind(|(_, weight)| *weight > 0.0);
    last.expect("the most likely token has weight 1").0
}

#[cfg(test)]
mod tests;
