//! How a generation stands, told of its tokens by whichever front is asked.

use std::sync::Arc;

use proto::internal::{SequenceEnd, SequenceStanding, SequenceState};
use proto::v1::{FinishReason, GenerationState, Usage};
use spec::{SampledToken, TokenId, TokenLogprob};

use super::Shared;
use super::error::Error;
use super::limits;
use super::output::Output;
use super::output::chat::{ChatOutput, Show};
use super::output::raw::RawOutput;
use super::request::FrontRecord;
use super::transcript::{Next, Told, Transcript};

/// What a generation comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Standing {
    /// What it is doing, or how it ended.
    pub(super) state: GenerationState,
    /// Number of the last event there is.
    pub(super) last_sequence: u64,
    /// Tokens used so far.
    pub(super) usage: Usage,
}

/// Derives how a generation stands from what the lead has of it.
///
/// # Errors
///
/// [`Error::LeadProtocol`] for a record that no front has written.
pub(super) async fn derive(
    shared: &Arc<Shared>,
    standing: Option<SequenceStanding>,
) -> Result<Standing, Error> {
    let missing = Error::LeadProtocol {
        why: "an answer without a standing",
    };
    let standing = standing.ok_or(missing)?;
    let record = FrontRecord::from_bytes(&standing.front).ok_or(Error::LeadProtocol {
        why: "a record that no front has written",
    })?;
    let bytes = limits::TOKEN_BYTES * (standing.tokens.len() + standing.prompt_logprobs as usize);
    let front = Arc::clone(shared);
    let derive = move || match (record.is_chat, &front.harmony) {
        (true, Some(harmony)) => {
            let output = ChatOutput::new(harmony.clone(), record.ends.clone(), Show::default());
            Ok(run(output, &record, &standing))
        }
        (true, None) => Err(Error::LeadProtocol {
            why: "a chat where the tokenizer knows none",
        }),
        (false, _) => {
            let tokenizer = Arc::clone(&front.tokenizer);
            let output = RawOutput::new(tokenizer, record.ends.clone(), false);
            Ok(run(output, &record, &standing))
        }
    };
    shared.compute(bytes, derive).await?
}

/// Tells all tokens and logprobs, and says where that leads.
fn run<O: Output>(output: O, record: &FrontRecord, standing: &SequenceStanding) -> Standing {
    let scored = match record.prompt_logprobs {
        true => standing.prompt_tokens as usize,
        false => 0,
    };
    let mut transcript = Transcript::new(output, record.ends.clone(), scored, 0);
    let unknown = TokenLogprob {
        token: TokenId(0),
        logprob: 0.0,
        rank: 0,
        top: Vec::new(),
    };
    transcript.push_prompt(vec![unknown; standing.prompt_logprobs as usize]);
    let mut is_cut = false;
    for (index, token) in standing.tokens.iter().enumerate() {
        let next = transcript.push(SampledToken {
            token: TokenId(*token),
            logprob: None,
        });
        if next == Next::Nothing {
            break;
        }
        if next == Next::Answer {
            let rest = standing.tokens[index + 1..].iter().copied().map(TokenId);
            let opening = transcript.answer().1.iter().copied();
            let is_open = opening.zip(rest.clone()).all(|(one, other)| one == other);
            if !is_open {
                is_cut = true;
                break;
            }
        }
    }
    let (state, end) = (standing.state(), standing.end());
    match (state, end) {
        (SequenceState::Ended, _) if is_cut => transcript.finish(FinishReason::Length),
        (SequenceState::Ended, SequenceEnd::Cancelled) => {
            transcript.finish(FinishReason::Cancelled);
        }
        (SequenceState::Ended, end) => transcript.finish_by_lead(end == SequenceEnd::Stop),
        _ => {}
    }
    let mut is_cancelled = false;
    while let Some(told) = transcript.take() {
        if let Told::Finished(outcome) = told {
            is_cancelled = outcome.reason == FinishReason::Cancelled;
        }
    }
    let state = match state {
        _ if is_cancelled => GenerationState::Cancelled,
        _ if transcript.is_told() => GenerationState::Succeeded,
        SequenceState::Failed => GenerationState::Failed,
        SequenceState::Running if transcript.num_tokens() > 0 => GenerationState::Decoding,
        SequenceState::Running => GenerationState::Prefilling,
        _ => GenerationState::Queued,
    };
    Standing {
        state,
        last_sequence: transcript.last(),
        usage: Usage {
            prompt_tokens: standing.prompt_tokens,
            cached_prompt_tokens: standing.cached_prompt_tokens,
            output_tokens: transcript.num_tokens(),
            reasoning_tokens: transcript.reasoning_tokens(),
        },
    }
}
