//! `POST /v1/completions`: OpenAI's text completion, whole or as server-sent events.
//!
//! One body may ask for several sequences (prompts times choices); each is a raw generation of its
//! own. Dropping the response, or the wait for it, drops them all.

mod ask;
mod shape;
mod text;

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::body::Body as HttpBody;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use serde::Serialize;
use tokio::time::Instant;
use tokio_stream::{StreamExt as _, StreamMap};

use self::ask::Ask;
use self::shape::{Choice, Completion, Usage};
use self::text::ChoiceText;
use super::error::HttpError;
use crate::front::error::Error;
use crate::front::generation::Clock;
use crate::front::output::raw::Chunk;
use crate::front::replies::{self, Replies};
use crate::front::stream::Said;
use crate::front::{Shared, generate};

/// All sequences of a request, by the index of their choice.
struct Choices {
    replies: StreamMap<usize, Replies<Said<Chunk>>>,
    texts: Vec<ChoiceText>,
    usage: Usage,
}

/// Serves one request.
pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Response, HttpError> {
    let clock = Clock {
        arrived: Instant::now(),
        deadline: None,
    };
    let body = body.map_err(|rejection| HttpError::Body {
        status: rejection.status(),
        why: rejection.body_text(),
    })?;
    let ask = Ask::read(&body)?;
    drop(body);
    let envelope = Completion::new(&shared.model);
    let choices = Choices::start(&shared, &ask, &envelope.id, clock).await?;
    if ask.stream {
        return Ok(events(&shared, clock, envelope, choices, ask.include_usage));
    }
    let completion = choices.whole(&envelope).await?;
    Ok(Json(completion).into_response())
}

impl Choices {
    /// Checks all sequences, then enters them at the lead; all or none.
    async fn start(
        shared: &Arc<Shared>,
        ask: &Ask,
        id: &str,
        clock: Clock,
    ) -> Result<Self, HttpError> {
        let requests = ask.requests(shared, id).await?;
        let mut texts = Vec::new();
        let mut replies = StreamMap::new();
        let mut usage = Usage::default();
        for (index, request) in requests.into_iter().enumerate() {
            // The choices of one prompt share it.
            if request.sampling.choice == 0 {
                usage.add_prompt(request.prompt.len());
            }
            texts.push(ChoiceText::new(shared, &request, ask.echo));
            let mut stream = generate::follow(shared, request, clock).await?;
            let events = replies::serve(shared, clock, |client| async move {
                while let Some(event) = stream.next().await? {
                    client.send(event).await?;
                }
                Ok(())
            });
            replies.insert(index, events);
        }
        Ok(Self {
            replies,
            texts,
            usage,
        })
    }

    /// Returns the beginning of each choice: the prompt, where it is echoed as it is.
    fn beginnings(&mut self) -> Vec<Choice> {
        let texts = self.texts.iter_mut().enumerate();
        texts
            .filter_map(|(index, text)| text.beginning(index))
            .collect()
    }

    /// Waits for more of any choice; `None` after the last. An empty piece is a sign of life.
    async fn next(&mut self) -> Result<Option<Option<Choice>>, Error> {
        let Some((index, event)) = self.replies.next().await else {
            return Ok(None);
        };
        let event = event?;
        if let Said::Finished(ending) = &event {
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

/// Returns the response as server-sent events.
///
/// An error after the beginning is an event with OpenAI's error object, and no `[DONE]` follows.
fn events(
    shared: &Arc<Shared>,
    clock: Clock,
    envelope: Completion,
    mut choices: Choices,
    include_usage: bool,
) -> Response {
    let replies = replies::serve(shared, clock, |client| async move {
        let piece = |choice| envelope.with(vec![choice], None);
        for beginning in choices.beginnings() {
            client.send(event(&piece(beginning))).await?;
        }
        loop {
            let said = match choices.next().await {
                Ok(Some(Some(choice))) => event(&piece(choice)),
                Ok(Some(None)) => Bytes::from_static(b": waiting\n\n"),
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
    // What ends the task early is the client's own doing; then there is nobody to tell.
    let bytes = replies.filter_map(Result::ok).map(Ok::<_, Infallible>);
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, HttpBody::from_stream(bytes)).into_response()
}

fn event(body: &impl Serialize) -> Bytes {
    let mut bytes = b"data: ".to_vec();
    serde_json::to_writer(&mut bytes, body).expect("our own shapes are JSON");
    bytes.extend_from_slice(b"\n\n");
    bytes.into()
}
