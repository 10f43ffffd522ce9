//! GenerationService.Generate: a checked request to a stream of tokens.

use std::sync::Arc;

use proto::v1::{self, generate_request::Prompt, generate_response::Event};
use spec::TokenId;
use telemetry::labels::{Api, Stream};

use super::Shared;
use super::convert::{self, reply};
use super::error::Error;
use super::generation::Clock;
use super::meter::Meter;
use super::output::raw::{Chunk, RawOutput};
use super::replies::Replies;
use super::request::Request;
use super::stream::{self, Said};
use super::transcript::Told;

/// Where a raw request comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    /// Generate: its client may have named it, and wants output.
    Grpc,
    /// HTTP: the name is the server's own, and a prompt may be scored without any output.
    Http,
}

/// Checks a request and turns its prompt into tokens.
///
/// # Errors
///
/// The first field at fault.
pub(super) async fn check(
    shared: &Arc<Shared>,
    request: v1::GenerateRequest,
    origin: Origin,
) -> Result<Request, Error> {
    let model = &shared.model;
    let (prompt, common) = convert::generate(request, origin)?;
    // A long prompt costs far more than all else: it is read once nothing else is at fault.
    let parameters = common.check(model)?;
    let prompt = match prompt {
        Prompt::TokenIds(list) => {
            convert::prompt_room(list.ids.len(), model)?;
            convert::token_ids(&list.ids, "token_ids.ids", model)?
        }
        Prompt::Text(text) => shared.encode_prompt(text).await?,
    };
    parameters.with_prompt(prompt, model)
}

/// Begins the output of a checked request.
pub(super) fn output(shared: &Shared, request: &Request) -> RawOutput {
    let tokenizer = Arc::clone(&shared.tokenizer);
    RawOutput::new(tokenizer, request.ends.clone(), request.delivery.final_only)
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
    let mut meter = Meter::new(&shared.telemetry, Api::Generate, Stream::Yes);
    let request = meter.watch(check(shared, request, Origin::Grpc).await)?;
    let output = output(shared, &request);
    let numbered = |sequence, event| v1::GenerateResponse {
        sequence,
        event: Some(event),
    };
    let opening = move |started| numbered(1, Event::Started(started));
    let (front, prompt) = (Arc::clone(shared), Arc::clone(&request.prompt));
    let message = move |sequence, said| numbered(sequence, event(&front, &prompt, said));
    Ok(stream::serve(
        shared,
        request,
        output,
        (clock, meter),
        opening,
        message,
    ))
}

/// Converts an event.
fn event(shared: &Shared, prompt: &[TokenId], said: Said<Chunk>) -> Event {
    match said {
        Said::Told(Told::Prompt {
            first_position,
            logprobs,
        }) => {
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
        Said::Told(Told::Piece(chunk)) => Event::Tokens(tokens(shared, chunk)),
        Said::Told(Told::Finished(_)) => unreachable!("an end comes with its figures"),
        Said::Resumed => Event::Warning(reply::resumed()),
        Said::Idle(heartbeat) => Event::Heartbeat(heartbeat),
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
