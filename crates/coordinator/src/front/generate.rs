//! GenerationService.Generate: a checked request to a stream of tokens.

use std::sync::Arc;

use proto::v1::{self, generate_request::Prompt, generate_response::Event};
use spec::TokenId;

use super::Shared;
use super::convert::{self, reply};
use super::error::Error;
use super::generation::Clock;
use super::output::raw::{Chunk, RawOutput};
use super::replies::{self, Replies};
use super::request::Request;
use super::stream::{OutputStream, Said};

/// Checks a request and turns its prompt into tokens.
///
/// # Errors
///
/// The first field at fault.
pub(super) async fn check(
    shared: &Arc<Shared>,
    request: v1::GenerateRequest,
) -> Result<Request, Error> {
    let (prompt, common) = convert::generate(request)?;
    let prompt = match prompt {
        Prompt::TokenIds(list) => convert::token_ids(&list.ids, "token_ids.ids", &shared.model)?,
        Prompt::Text(text) => shared.encode(text).await,
    };
    common.check(prompt, &shared.model)
}

/// Enters a checked request at the lead.
///
/// # Errors
///
/// As [`OutputStream::start`].
pub(super) async fn follow(
    shared: &Arc<Shared>,
    request: Request,
    clock: Clock,
) -> Result<OutputStream<RawOutput>, Error> {
    let tokenizer = Arc::clone(&shared.tokenizer);
    let output = RawOutput::new(tokenizer, request.ends.clone(), request.final_only);
    OutputStream::start(shared, request, output, clock).await
}

/// Starts a generation and returns its stream.
///
/// # Errors
///
/// The first field at fault; the lead's refusal comes in the stream.
pub(super) async fn start(
    shared: &Arc<Shared>,
    request: v1::GenerateRequest,
    clock: Clock,
) -> Result<Replies<v1::GenerateResponse>, Error> {
    let request = check(shared, request).await?;
    let started = shared.started(&request);
    let prompt = request.prompt.clone();
    let front = Arc::clone(shared);
    // The lead's answer is awaited inside the stream: for a call whose deadline passes before the
    // stream begins, tonic would answer with a code of its own.
    Ok(replies::serve(shared, clock, |client| async move {
        let mut stream = follow(&front, request, clock).await?;
        let numbered = |sequence, event| v1::GenerateResponse {
            sequence,
            event: Some(event),
        };
        client
            .send(numbered(stream.sequence(), Event::Started(started)))
            .await?;
        while let Some(said) = stream.next().await? {
            let said = event(&front, &prompt, said);
            client.send(numbered(stream.sequence(), said)).await?;
        }
        Ok(())
    }))
}

/// Converts an event.
fn event(shared: &Shared, prompt: &[TokenId], said: Said<Chunk>) -> Event {
    match said {
        Said::Prompt {
            first_position,
            logprobs,
        } => {
            let tokens = prompt[first_position as usize..].iter();
            let logprobs = tokens.zip(logprobs);
            Event::PromptLogprobs(v1::PromptLogprobs {
                first_position,
                logprobs: logprobs
                    .map(|(&token, logprob)| {
                        reply::token_logprob(&shared.tokenizer, token, logprob)
                    })
                    .collect(),
            })
        }
        Said::Piece(chunk) => Event::Tokens(tokens(shared, chunk)),
        Said::Idle {
            state,
            queue_position,
        } => Event::Heartbeat(v1::Heartbeat {
            state: state.into(),
            queue_position,
        }),
        Said::Finished(ending) => Event::Finished(reply::finished(ending)),
    }
}

fn tokens(shared: &Shared, chunk: Chunk) -> v1::TokenChunk {
    let token_ids = chunk.tokens.iter().map(|sampled| sampled.token.0).collect();
    let logprobs = chunk.tokens.into_iter().filter_map(|sampled| {
        let logprob = sampled.logprob?;
        Some(reply::token_logprob(
            &shared.tokenizer,
            sampled.token,
            Some(logprob),
        ))
    });
    v1::TokenChunk {
        token_ids,
        logprobs: logprobs.collect(),
        text: chunk.text,
    }
}
