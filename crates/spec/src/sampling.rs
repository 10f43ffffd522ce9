//! How the next token of a sequence is chosen; checked once, at the edge.

use std::fmt;

use crate::ids::TokenId;

/// Most alternatives a client may ask for at one position.
pub const MAX_TOP_LOGPROBS: u32 = 20;

/// The choice of the next token. [`Sampling::check`] holds for every value that reaches a rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the most likely token (the lowest id among equals).
    pub temperature: f32,
    /// Keeps the most likely tokens whose probabilities reach this sum, in `(0, 1]`.
    pub top_p: f32,
    /// Keeps this many of the most likely tokens; 0 keeps all.
    pub top_k: u32,
    /// Drops tokens below this share of the most likely token's probability, in `[0, 1]`.
    pub min_p: f32,
    /// Subtracted once from the logit of every token generated so far, in `[-2, 2]`.
    pub presence_penalty: f32,
    /// Subtracted for every time a token was generated so far, in `[-2, 2]`.
    pub frequency_penalty: f32,
    /// Divides positive and multiplies negative logits of tokens in prompt or output; 1 is off.
    pub repetition_penalty: f32,
    /// Added to logits, ascending by token.
    pub logit_bias: Vec<(TokenId, f32)>,
    /// Key of the random numbers, together with `choice` and the position.
    pub seed: u64,
    /// Which of several answers to one request this is.
    pub choice: u32,
    /// How many alternatives to report beside each sampled token; `None` reports no logprobs.
    pub logprobs: Option<u32>,
    /// The same for the tokens of the prompt.
    pub prompt_logprobs: Option<u32>,
}

/// A sampling parameter out of its range.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SamplingError {
    /// The parameter's name in the API.
    pub field: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl fmt::Display for SamplingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

impl std::error::Error for SamplingError {}

impl Default for Sampling {
    /// The model card's recommendation: temperature 1, nothing cut off.
    fn default() -> Self {
        Self {
            temperature: 1.0,
            top_p: 1.0,
            top_k: 0,
            min_p: 0.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repetition_penalty: 1.0,
            logit_bias: Vec::new(),
            seed: 0,
            choice: 0,
            logprobs: None,
            prompt_logprobs: None,
        }
    }
}

impl Sampling {
    /// Checks every parameter against its range and the vocabulary.
    ///
    /// # Errors
    ///
    /// The first [`SamplingError`] found.
    pub fn check(&self, vocab_size: usize) -> Result<(), SamplingError> {
        let within = |field, value: f32, low: f32, high: f32| {
            // NaN fails both comparisons, so it is refused here too.
            if value >= low && value <= high {
                return Ok(());
            }
            Err(SamplingError {
                field,
                why: format!("{value} is not within {low} to {high}"),
            })
        };
        within("temperature", self.temperature, 0.0, 100.0)?;
        if self.top_p == 0.0 {
            let why = "0 is not within 0 to 1, without 0: it would keep no token".into();
            let field = "top_p";
            return Err(SamplingError { field, why });
        }
        within("top_p", self.top_p, 0.0, 1.0)?;
        within("min_p", self.min_p, 0.0, 1.0)?;
        within("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        within("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        within("repetition_penalty", self.repetition_penalty, 0.01, 100.0)?;
        for (token, bias) in &self.logit_bias {
            within("logit_bias", *bias, -100.0, 100.0)?;
            if token.index() >= vocab_size {
                let why = format!("token {token} is outside the vocabulary of {vocab_size}");
                return Err(SamplingError {
                    field: "logit_bias",
                    why,
                });
            }
        }
        if self
            .logit_bias
            .windows(2)
            .any(|pair| pair[0].0 >= pair[1].0)
        {
            let why = "each token may appear once, ascending".into();
            return Err(SamplingError {
                field: "logit_bias",
                why,
            });
        }
        for (field, top) in [
            ("logprobs", self.logprobs),
            ("prompt_logprobs", self.prompt_logprobs),
        ] {
            if top.is_some_and(|top| top > MAX_TOP_LOGPROBS) {
                let why = format!("at most {MAX_TOP_LOGPROBS} alternatives can be reported");
                return Err(SamplingError { field, why });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_not_a_number() {
        let sampling = Sampling {
            temperature: f32::NAN,
            ..Sampling::default()
        };
        assert_eq!(sampling.check(10).unwrap_err().field, "temperature");
    }

    #[test]
    fn refuses_a_bias_outside_the_vocabulary() {
        let logit_bias = vec![(TokenId(10), 1.0)];
        let sampling = Sampling {
            logit_bias,
            ..Sampling::default()
        };
        assert_eq!(sampling.check(10).unwrap_err().field, "logit_bias");
    }
}
