//! GenerationService.Chat: a conversation to a prompt, and the answer's tokens to messages.

use std::sync::Arc;

use proto::v1::{self, chat_response::Event};
use telemetry::labels::{Api, Stream, TextWork};

use super::Shared;
use super::convert::{self, reply};
use super::error::Error;
use super::generation::Clock;
use super::meter::Meter;
use super::output::chat::{ChatOutput, Show};
use super::replies::Replies;
use super::request::Request;
use super::stream::{self, Said};
use super::transcript::Told;

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
    request: v1::ChatRequest,
) -> Result<Checked, Error> {
    let why = "the served tokenizer has no control tokens of the chat format";
    let harmony = shared
        .harmony
        .clone()
        .ok_or_else(|| Error::unsupported("messages", why))?;
    if request.logprobs.as_ref().is_some_and(|given| given.prompt) {
        let why = "is for Generate, which takes the prompt that RenderChat returns";
        return Err(Error::field("logprobs.prompt", why));
    }
    let ignores_eos = request.stop.as_ref().is_some_and(|stop| stop.ignore_eos);
    let (conversation, common) = convert::chat::split(request);
    let bytes = conversation.bytes();
    let parameters = common.check(&shared.model)?;
    // A chat's prompt is made of its messages.
    let in_messages = |error: Error| {
        error.rename(|name| match name {
            "prompt" => "messages".to_owned(),
            _ => name.to_owned(),
        })
    };
    let least = conversation.text_bytes().div_ceil(shared.longest_token);
    convert::prompt_room(least.max(1), &shared.model).map_err(in_messages)?;
    let renderer = harmony.clone();
    let render = move || conversation.render(&renderer);
    let prompt = shared.timed(TextWork::Template, bytes, render).await??;
    let request = parameters.with_prompt(prompt, &shared.model);
    let mut request = request.map_err(in_messages)?;
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
        final_only: request.delivery.final_only,
        token_ids: request.delivery.token_ids,
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
    let mut meter = Meter::new(&shared.telemetry, Api::Chat, Stream::Yes);
    let checked = meter.watch(check(shared, request).await);
    let Checked { request, output } = checked?;
    let numbered = |sequence, event| v1::ChatResponse {
        sequence,
        event: Some(event),
    };
    let opening = move |started| numbered(1, Event::Started(started));
    let message = move |sequence, said| numbered(sequence, event(said));
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
fn event(said: Said<Event>) -> Event {
    match said {
        Said::Told(Told::Piece(event)) => event,
        Said::Resumed => Event::Warning(reply::resumed()),
        Said::Idle(heartbeat) => Event::Heartbeat(heartbeat),
        Said::Finished(ending) => Event::Finished(reply::finished(ending)),
        Said::Told(_) => unreachable!("a chat asks for no logprobs of its prompt"),
    }
}
