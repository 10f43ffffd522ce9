//! What an undisturbed run gives.

use engine::stub::extend;
use proto::internal as wire;
use spec::TokenId;

use crate::lead::simulation::{MAX_CONTEXT, MODEL};

/// Returns the output of an undisturbed run.
pub(super) fn oracle(prompt: &[TokenId], seed: u64, stop: &wire::Stop) -> Vec<TokenId> {
    let mut history = prompt
        .iter()
        .fold(0, |history, token| extend(history, *token));
    let mut output = Vec::new();
    let room = MAX_CONTEXT - prompt.len();
    while output.len() < room.min(stop.max_tokens as usize) {
        let token = MODEL.sample(history, seed);
        history = extend(history, token);
        output.push(token);
        if stop.stop_tokens.contains(&token.0) {
            break;
        }
    }
    output
}
