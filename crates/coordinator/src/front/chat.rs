//! GenerationService.Chat: a conversation to a prompt, and the answer's tokens to messages.

use std::sync::Arc;

use proto::v1::{self, chat_response::Event};

use super::Shared;
use super::convert::{self, reply};
use super::error::Error;
use super::generation::Clock;
use super::output::chat::{ChatOutput, Show};
use super::replies::{self, Replies};
use super::request::Request;
use super::stream::{OutputStream, Said};

/// A chat request whose every field has been checked.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) request: Request,
    pub(super) output: ChatOutput,
}

/// Checks a request and renders its conversation.
///
/// # Errors
///
/// The first field at fault.
pub(super) async fn check(
    shared: &Arc<Shared>,
    mut request: v1::ChatRequest,
) -> Result<Checked, Error> {
    let why = "the served tokenizer has no control tokens of the chat format";
    let harmony = shared
        .harmony
        .clone()
        .ok_or_else(|| Error::unsupported("messages", why))?;
    shared.model.check_name(&request.model)?;
    let conversation = convert::chat::conversation(&mut request)?;
    let ignores_eos = request.stop.as_ref().is_some_and(|stop| stop.ignore_eos);
    let token_ids = request
        .stream
        .as_ref()
        .is_some_and(|stream| stream.include_token_ids);
    let bytes = conversation.bytes;
    let renderer = harmony.clone();
    let prompt = shared
        .compute(bytes, move || conversation.render(&renderer))
        .await?;
    let mut request = convert::chat::common(request).check(prompt, &shared.model)?;
    if request.wants_prompt_logprobs() {
        let why = "a rendered prompt has no logprobs yet; use RenderChat and Generate";
        return Err(Error::unsupported("logprobs.prompt", why));
    }
    if !ignores_eos {
        let format = harmony.tokens().ends_of_generation();
        let known = &shared.model.eos_tokens;
        request
            .ends
            .eos
            .extend(format.into_iter().filter(|end| !known.contains(end)));
    }
    let show = Show {
        id: request.id.clone(),
        final_only: request.final_only,
        token_ids,
    };
    let output = ChatOutput::new(harmony, request.ends.clone(), show);
    Ok(Checked { request, output })
}

/// Starts a generation and returns its stream.
///
/// # Errors
///
/// The first field at fault; the lead's refusal comes in the stream.
pub(super) async fn start(
    shared: &Arc<Shared>,
    request: v1::ChatRequest,
    clock: Clock,
) -> Result<Replies<v1::ChatResponse>, Error> {
    let Checked { request, output } = check(shared, request).await?;
    let started = shared.started(&request);
    let front = Arc::clone(shared);
    Ok(replies::serve(shared, clock, |client| async move {
        let mut stream = OutputStream::start(&front, request, output, clock).await?;
        let numbered = |sequence, event| v1::ChatResponse {
            sequence,
            event: Some(event),
        };
        client
            .send(numbered(stream.sequence(), Event::Started(started)))
            .await?;
        while let Some(said) = stream.next().await? {
            let event = match said {
                Said::Piece(event) => event,
                Said::Idle {
                    state,
                    queue_position,
                } => Event::Heartbeat(v1::Heartbeat {
                    state: state.into(),
                    queue_position,
                }),
                Said::Finished(ending) => Event::Finished(reply::finished(ending)),
                Said::Prompt { .. } => unreachable!("a chat asks for no logprobs of its prompt"),
            };
            client.send(numbered(stream.sequence(), event)).await?;
        }
        Ok(())
    }))
}
