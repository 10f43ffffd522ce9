//! `POST /v1/completions`: OpenAI's text completion, whole or as server-sent events.
//!
//! One body may ask for several sequences (prompts times choices); each is a raw generation of its
//! own. Dropping the response, or the wait for it, drops them all.

mod ask;
mod shape;
mod size;
mod text;

use std::future::ready;
use std::pin::Pin;
use std::sync::Arc;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use proto::v1::FinishReason;
use serde::Serialize;
use telemetry::labels::{Api, Stream};
use tokio::time::{Instant, timeout};
use tokio_stream::{StreamExt as _, StreamMap};

use self::ask::Ask;
use self::shape::{Choice, Completion, Usage};
use self::text::{ChoiceText, Echo};
use super::error::HttpError;
use super::{REQUEST_ID, body};
use crate::front::error::Error;
use crate::front::generation::Clock;
use crate::front::intake::Place;
use crate::front::meter::Meter;
use crate::front::output::raw::Chunk;
use crate::front::replies::{self, Replies};
use crate::front::request::Request as CheckedRequest;
use crate::front::stream::{self, OutputStream, Said};
use crate::front::{Shared, generate, limits};

/// A comment among server-sent events: a sign of life.
const WAITING: Bytes = Bytes::from_static(b": waiting\n\n");

/// Choices that the lead has not accepted yet, or just has.
type Starting = Pin<Box<dyn Future<Output = Result<Choices, HttpError>> + Send>>;

/// All sequences of a request, by the index of their choice.
struct Choices {
    replies: StreamMap<usize, Replies<Said<Chunk>>>,
    texts: Vec<ChoiceText>,
    /// Choices of each prompt.
    per_prompt: usize,
    usage: Usage,
}

/// Serves one request.
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    request: Request,
) -> Result<Response, HttpError> {
    let clock = Clock {
        arrived: Instant::now(),
        deadline: None,
    };
    let mut meter = Meter::new(&shared.telemetry, Api::Completions, Stream::No);
    let called = request.headers().get(REQUEST_ID).cloned();
    let asked = asked(&shared, request).await;
    let (ask, envelope, requests, place) = asked.inspect_err(|error| match error {
        HttpError::Refused(error) => meter.failed(error),
        _ => meter.refused(),
    })?;
    // Its generations have this id, with an index behind it where they are several.
    let x_request_id = called.as_ref().and_then(|id| id.to_str().ok());
    tracing::debug!(
        request_id = envelope.id,
        x_request_id,
        "completion asked for"
    );
    let (is_stream, include_usage) = (ask.stream, ask.include_usage);
    let front = Arc::clone(&shared);
    let mut start = Box::pin(async move {
        let choices = Choices::start(&front, &ask, requests, (clock, meter)).await;
        drop(place);
        choices
    });
    if is_stream {
        // What is refused at once has the status that says so. Where no lead says anything, the answer
        // begins all the same: a connection without a sign of life is closed by whoever is in between.
        let begin = |choices| events(&shared, envelope, (choices, clock), include_usage);
        return match timeout(shared.config.heartbeat, &mut start).await {
            Ok(choices) => Ok(begin(Box::pin(ready(Ok(choices?))))),
            Err(_) => Ok(begin(start)),
        };
    }
    let completion = start.await?.whole(&envelope).await?;
    let bytes = completion.bytes();
    let response = move || Json(completion).into_response();
    Ok(shared.compute(bytes, response).await?)
}

/// Reads a request and checks all sequences that it asks for; it keeps its place until they are entered.
async fn asked(
    shared: &Arc<Shared>,
    request: Request,
) -> Result<(Ask, Completion, Vec<CheckedRequest>, Place), HttpError> {
    let (body, place) = body::read(request, shared).await?;
    let max_context = shared.model.max_context as usize;
    let bytes = body.len();
    let read = move || Ask::read(&body, max_context);
    let mut ask = shared.compute(bytes, read).await??;
    let envelope = Completion::new(&shared.model, ask.include_usage);
    let requests = ask.requests(shared, &envelope.id).await?;
    Ok((ask, envelope, requests, place))
}

/// Decodes the prompt that is echoed.
async fn echo(shared: &Shared, request: &CheckedRequest) -> Result<Arc<Echo>, Error> {
    let (tokenizer, prompt) = (Arc::clone(&shared.tokenizer), Arc::clone(&request.prompt));
    let bytes = limits::TOKEN_BYTES * prompt.len();
    let decode = move || Arc::new(Echo::new(&tokenizer, &prompt));
    shared.compute(bytes, decode).await
}

impl Choices {
    /// Enters all sequences at the lead, or none.
    async fn start(
        shared: &Arc<Shared>,
        ask: &Ask,
        requests: Vec<CheckedRequest>,
        (clock, mut meter): (Clock, Meter),
    ) -> Result<Self, HttpError> {
        let stream = match ask.stream {
            true => Stream::Yes,
            false => Stream::No,
        };
        meter.streams(stream);
        let mut meter = Some(meter);
        let mut texts = Vec::new();
        let mut replies = StreamMap::new();
        let mut echoed = None;
        for (index, request) in requests.into_iter().enumerate() {
            if ask.echo && !request.wants_prompt_logprobs() && index % ask.choices() == 0 {
                echoed = Some(echo(shared, &request).await?);
            }
            texts.push(ChoiceText::new(shared, &request, ask.echo, echoed.clone()));
            let output = generate::output(shared, &request);
            let another = || Meter::new(&shared.telemetry, Api::Completions, stream);
            let metered = (clock, meter.take().unwrap_or_else(another));
            let stream = OutputStream::start(shared, request, output, metered).await?;
            let events = replies::serve(shared, |client| stream.send_all(client, |_, said| said));
            replies.insert(index, events);
        }
        Ok(Self {
            replies,
            texts,
            per_prompt: ask.choices(),
            usage: Usage::default(),
        })
    }

    /// Returns the beginning of each choice: the prompt, where it is echoed as it is.
    fn beginnings(&mut self) -> impl Iterator<Item = Choice> {
        let texts = self.texts.iter_mut().enumerate();
        texts.filter_map(|(index, text)| text.beginning(index))
    }

    /// Waits for more of any choice; `None` after the last. An empty piece is a sign of life.
    ///
    /// OpenAI's API has no reason for a choice that somebody cancelled: it is an error here.
    async fn next(&mut self) -> Result<Option<Option<Choice>>, Error> {
        let Some((index, event)) = self.replies.next().await else {
            return Ok(None);
        };
        let event = event?;
        if let Said::Finished(ending) = &event {
            if ending.reason == FinishReason::Cancelled {
                return Err(Error::Cancelled);
            }
            if index.is_multiple_of(self.per_prompt) {
                self.usage.add_prompt(&ending.usage);
            }
            self.usage.add_output(&ending.usage);
        }
        Ok(Some(self.texts[index].take(index, event)))
    }

    /// Collects everything.
    async fn whole(mut self, envelope: &Completion) -> Result<Completion, Error> {
        let mut wholes: Vec<Choice> = (0..self.texts.len()).map(Choice::empty).collect();
        for piece in self.beginnings() {
            wholes[piece.index].append(piece);
        }
        while let Some(piece) = self.next().await? {
            if let Some(piece) = piece {
                wholes[piece.index].append(piece);
            }
        }
        Ok(envelope.with(wholes, Some(self.usage)))
    }
}

/// Returns the response as server-sent events, with comments while the choices have not begun.
///
/// An error of a choice is an event with OpenAI's error object, and no `[DONE]` follows. Where not
/// even that can be sent, the connection breaks.
fn events(
    shared: &Arc<Shared>,
    envelope: Completion,
    (start, clock): (Starting, Clock),
    include_usage: bool,
) -> Response {
    let beats = (clock.arrived, shared.config.heartbeat);
    let replies = replies::serve(shared, |client| async move {
        let started = stream::accepted(start, &client, beats, || WAITING).await;
        let mut choices = match started {
            Ok(choices) => choices,
            Err(error) => return client.send(event(&error.body())).await,
        };
        let piece = |choice| envelope.with(vec![choice], None);
        for beginning in choices.beginnings() {
            client.send(event(&piece(beginning))).await?;
        }
        loop {
            let said = match choices.next().await {
                Ok(Some(Some(choice))) => event(&piece(choice)),
                Ok(Some(None)) => WAITING,
                Ok(None) => break,
                Err(error) => return client.send(event(&HttpError::from(error).body())).await,
            };
            client.send(said).await?;
        }
        if include_usage {
            let usage = envelope.with(Vec::new(), Some(choices.usage));
            client.send(event(&usage)).await?;
        }
        client.send(Bytes::from_static(b"data: [DONE]\n\n")).await
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, HttpBody::from_stream(replies)).into_response()
}

fn event(body: &impl Serialize) -> Bytes {
    let mut bytes = b"data: ".to_vec();
    serde_json::to_writer(&mut bytes, body).expect("our own shapes are JSON");
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}
