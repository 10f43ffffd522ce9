//! Log-probabilities of the model's own distribution.

use spec::{TokenId, TokenLogprob};

use super::exp::exp_nonpositive;
use super::select::{largest, maximum};

/// Returns `ln Σ e^logit`, summed in `f64` by ascending token.
#[must_use]
pub fn log_sum_exp(logits: &[f32]) -> f64 {
    let top = maximum(logits);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(exp_nonpositive(logit - top)))
        .sum();
    f64::from(top) + sum.ln()
}

/// Reports a token's log-probability, its rank, and the `alternatives` most likely tokens.
#[must_use]
pub fn token_logprob(logits: &[f32], token: TokenId, alternatives: usize) -> TokenLogprob {
    let total = log_sum_exp(logits);
    let logprob = |logit: f32| (f64::from(logit) - total) as f32;
    let own = logits[token.index()];
    let (before, after) = logits.split_at(token.index());
    let better = before.iter().filter(|logit| **logit >= own).count()
        + after.iter().filter(|logit| **logit > own).count();
    let mut top = Vec::new();
    largest(logits, alternatives, &mut top);
    for (_, value) in &mut top {
        *value = logprob(*value);
    }
    TokenLogprob {
        token,
        logprob: logprob(own),
        rank: better as u32 + 1,
        top,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_logprob_rank_and_alternatives() {
        let logits = [1.0, 3.0, 2.0, 3.0, -50.0];
        let total = logits.iter().map(|l| f64::from(*l).exp()).sum::<f64>().ln();
        let found = token_logprob(&logits, TokenId(3), 3);
        let expected = |logit: f64| (logit - total) as f32;
        assert!((found.logprob - expected(3.0)).abs() < 1e-6);
        // Token 1 is as likely and comes before it in order.
        assert_eq!(found.rank, 2);
        let tokens: Vec<u32> = found.top.iter().map(|(token, _)| token.0).collect();
        assert_eq!(tokens, [1, 3, 2]);
        assert!((found.top[2].1 - expected(2.0)).abs() < 1e-6);
    }

    #[test]
    fn asks_for_no_alternatives_and_gets_none() {
        assert!(token_logprob(&[0.0, 1.0], TokenId(0), 0).top.is_empty());
    }
}
