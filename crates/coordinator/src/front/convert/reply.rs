//! What a front says, as public wire types.

use proto::v1;
use spec::{TokenId, TokenLogprob};
use tokenizer::Tokenizer;

use crate::front::stream::Ending;

/// Converts the logprob at a position; `None` is the first of a prompt, which has none.
pub(in crate::front) fn token_logprob(
    tokenizer: &Tokenizer,
    token: TokenId,
    logprob: Option<TokenLogprob>,
) -> v1::TokenLogprob {
    let bytes = |token: TokenId| tokenizer.token_bytes(token).unwrap_or_default().to_vec();
    let (value, rank, top) = match logprob {
        Some(found) => (Some(found.logprob), found.rank, found.top),
        None => (None, 0, Vec::new()),
    };
    let alternative = |(token, logprob): (TokenId, f32)| v1::TopLogprob {
        token_id: token.0,
        token: bytes(token),
        logprob,
    };
    v1::TokenLogprob {
        token_id: token.0,
        token: bytes(token),
        logprob: value,
        rank,
        top: top.into_iter().map(alternative).collect(),
    }
}

/// Tells of the loss of a lead, which costs a client time and nothing else.
pub(in crate::front) fn resumed() -> v1::Warning {
    v1::Warning {
        reason: "RESUMED".into(),
        message: "the generation goes on at another lead, where it was".into(),
    }
}

/// Converts an end.
pub(in crate::front) fn finished(ending: Ending) -> v1::Finished {
    let duration = |time: std::time::Duration| {
        prost_types::Duration::try_from(time).expect("a request lasts less than an age")
    };
    v1::Finished {
        reason: ending.reason.into(),
        matched_stop_sequence: ending.stop_sequence.unwrap_or_default(),
        matched_token_id: ending.token.map(|token| token.0),
        usage: Some(ending.usage),
        timings: Some(v1::Timings {
            queued: ending.queued.map(duration),
            prefill: ending.prefill.map(duration),
            time_to_first_token: ending.to_first_token.map(duration),
            total: Some(duration(ending.total)),
            resumed_on_other_node: ending.resumed,
        }),
    }
}
