//! Messages that front and lead both read or write.

use proto::internal;
use spec::{SampledToken, Sampling, TokenId, TokenLogprob};

/// Converts how tokens are chosen.
pub(crate) fn sampling_to_wire(sampling: &Sampling) -> internal::Sampling {
    let logit_bias = sampling.logit_bias.iter();
    internal::Sampling {
        temperature: sampling.temperature,
        top_p: sampling.top_p,
        top_k: sampling.top_k,
        min_p: sampling.min_p,
        presence_penalty: sampling.presence_penalty,
        frequency_penalty: sampling.frequency_penalty,
        repetition_penalty: sampling.repetition_penalty,
        logit_bias: logit_bias
            .map(|(token, bias)| internal::LogitBias {
                token: token.0,
                bias: *bias,
            })
            .collect(),
        seed: sampling.seed,
        choice: sampling.choice,
        logprobs: sampling.logprobs,
        prompt_logprobs: sampling.prompt_logprobs,
    }
}

/// Reads a token that was sampled.
pub(crate) fn sampled_token(sampled: internal::SampledToken) -> SampledToken {
    let logprob = sampled.logprob.map(token_logprob);
    SampledToken {
        token: TokenId(sampled.token),
        logprob,
    }
}

/// Reads what is known of a token's probability.
pub(crate) fn token_logprob(logprob: internal::TokenLogprob) -> TokenLogprob {
    let top = logprob
        .top
        .iter()
        .map(|top| (TokenId(top.token), top.logprob))
        .collect();
    let (token, rank) = (TokenId(logprob.token), logprob.rank);
    TokenLogprob {
        token,
        logprob: logprob.logprob,
        rank,
        top,
    }
}

/// Converts a token that was sampled.
pub(crate) fn sampled_token_to_wire(sampled: &SampledToken) -> internal::SampledToken {
    let logprob = sampled.logprob.as_ref().map(token_logprob_to_wire);
    internal::SampledToken {
        token: sampled.token.0,
        logprob,
    }
}

/// Converts what is known of a token's probability.
pub(crate) fn token_logprob_to_wire(logprob: &TokenLogprob) -> internal::TokenLogprob {
    let alternative = |(token, logprob): &(TokenId, f32)| internal::Alternative {
        token: token.0,
        logprob: *logprob,
    };
    internal::TokenLogprob {
        token: logprob.token.0,
        logprob: logprob.logprob,
        rank: logprob.rank,
        top: logprob.top.iter().map(alternative).collect(),
    }
}
