//! What every call of the public gRPC services passes before its service hears of it.
//!
//! The request is read here and not by tonic, which bounds neither the time nor how many are read at
//! once; its lists are counted before they are decoded; and the caller's deadline is kept, for tonic
//! answers with a code of its own where it passes before the answer begins.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use tokio::time::Instant;
use tonic::Status;

use super::error::Error;
use super::intake::Place;
use super::{Shared, deadline, fields, limits, meter, unreadable};

/// Begins the paths of the public API. The other services, of which one takes a stream, are tonic's.
pub(super) const PUBLIC: &str = "/conclave.v1.";

/// Bytes before a message: whether it is compressed, and its length in four bytes.
/// Source: gRPC over HTTP/2, "Length-Prefixed-Message".
pub(super) const PREFIX: usize = 5;

/// How long before tonic's our clock runs out: more than a tick of tokio's timers.
const EARLIER: Duration = Duration::from_millis(2);

/// Reads and checks a call, and passes it on.
pub(super) async fn pass(
    State(shared): State<Arc<Shared>>,
    request: Request,
    next: Next,
) -> Response {
    let path = request.uri().path().to_owned();
    let response = if path.starts_with(PUBLIC) {
        match serve(&shared, request, next).await {
            Ok(response) => response,
            Err(error) => Status::from(error).into_http(),
        }
    } else {
        next.run(request).await
    };
    meter::count_call(&shared.telemetry, &path, response)
}

async fn serve(shared: &Shared, request: Request, next: Next) -> Result<Response, Error> {
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    // Of what is refused here, no service hears.
    let refused = |error: Error| {
        meter::count_refused(&shared.telemetry, head.uri.path(), &error);
        error
    };
    let deadline = deadline::of(&head.headers, arrived).map_err(refused)?;
    let read = until(deadline, read(shared, head.uri.path(), body)).await;
    // The place is kept until the answer begins: until then the service holds the request.
    let (bytes, _place) = read.flatten().map_err(refused)?;
    let path = head.uri.path().to_owned();
    let request = Request::from_parts(head, Body::from(bytes.clone()));
    let answer = until(deadline, next.run(request)).await?;
    match unreadable::explain(&path, &bytes, answer.headers()) {
        Some(error) => {
            meter::count_refused(&shared.telemetry, &path, &error);
            Err(error)
        }
        None => Ok(answer),
    }
}

/// Does something while the caller's deadline has not passed.
async fn until<T>(deadline: Option<Instant>, work: impl Future<Output = T>) -> Result<T, Error> {
    match deadline {
        None => Ok(work.await),
        Some(deadline) => {
            let done = tokio::time::timeout_at(deadline - EARLIER, work).await;
            done.map_err(|_| Error::DeadlineEarly)
        }
    }
}

/// Reads a call's message, and counts what is in its lists.
async fn read(shared: &Shared, path: &str, body: Body) -> Result<(Bytes, Place), Error> {
    let limit = PREFIX + limits::MAX_REQUEST;
    let read = shared.intake.read(body, limit, shared.config.body_time);
    let (bytes, place) = read.await?;
    let bytes = first(bytes);
    if let Some(message) = bytes.get(PREFIX..) {
        fields::check(path, message)?;
    }
    Ok((bytes, place))
}

/// Returns the first message with its prefix, which is all that a call has. tonic would decode what
/// follows, only to drop it.
fn first(bytes: Bytes) -> Bytes {
    let length = bytes.get(1..PREFIX).and_then(|four| four.try_into().ok());
    let end = length.map_or(0, u32::from_be_bytes) as usize + PREFIX;
    bytes.slice(..end.min(bytes.len()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;
    use axum::extract::Request;
    use prost::Message as _;
    use proto::v1;
    use tokio::time::timeout as within;
    use tonic::codegen::Service as _;
    use tonic::{Code, Status};
    use tonic_types::StatusExt as _;

    use super::limits;
    use crate::front::Front;
    use crate::front::testing::shared;
    use telemetry::labels::{Api, Outcome};

    fn framed(message: &[u8]) -> Vec<u8> {
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        [&[0], &length[..], message].concat()
    }

    async fn status(front: &Front, path: &str, timeout: &str, body: impl Into<Body>) -> Status {
        let request = Request::post(path)
            .header("content-type", "application/grpc")
            .header("grpc-timeout", timeout)
            .body(body.into())
            .unwrap();
        let answer = within(Duration::from_secs(20), front.grpc().call(request)).await;
        let response = answer.expect("there is an answer soon").unwrap();
        Status::from_header_map(response.headers()).unwrap()
    }

    /// Many messages, and then bytes that are none: whoever decodes them says so.
    fn crowd() -> Vec<u8> {
        let request = v1::ChatRequest {
            messages: vec![v1::Message::default(); limits::MAX_MESSAGES + 1],
            ..Default::default()
        };
        [&request.encode_to_vec()[..], &[0xff]].concat()
    }

    #[tokio::test]
    async fn many_messages_are_refused_undecoded() {
        let front = Front { shared: shared() };
        let chat = crowd();
        let inside = [0x0a].into_iter();
        let mut length = Vec::new();
        prost::encode_length_delimiter(chat.len(), &mut length).unwrap();
        let render: Vec<u8> = inside.chain(length).chain(chat.iter().copied()).collect();
        let cases = [
            ("/conclave.v1.GenerationService/Chat", chat, "messages"),
            (
                "/conclave.v1.TokenizerService/RenderChat",
                render,
                "request.messages",
            ),
        ];
        for (path, message, field) in cases {
            let status = status(&front, path, "1M", framed(&message)).await;
            assert_eq!(status.code(), Code::InvalidArgument, "{status}");
            let violations = status.get_details_bad_request().unwrap().field_violations;
            assert_eq!(violations[0].field, field);
        }
        // Only one of the two asks for a generation.
        assert_eq!(ends(&front, Api::Chat, Outcome::ClientError), "1");
        assert_eq!(ends(&front, Api::Generate, Outcome::ClientError), "0");
    }

    /// Returns how many generations ended so.
    fn ends(front: &Front, api: Api, outcome: Outcome) -> String {
        let (api, outcome) = (api.as_str(), outcome.as_str());
        let labels = format!("api=\"{api}\",outcome=\"{outcome}\",finish_reason=\"none\"");
        let series = format!("conclave_requests_total{{model=\"\",{labels}}} ");
        let text = front.shared.telemetry.render();
        let found = text.lines().find_map(|line| line.strip_prefix(&series));
        found.unwrap().to_owned()
    }

    #[tokio::test]
    async fn what_finds_no_room_or_comes_too_slowly_is_counted_as_a_request() {
        let front = Front { shared: shared() };
        let path = "/conclave.v1.GenerationService/Generate";
        let never = Body::from_stream(tokio_stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let slow = status(&front, path, "50m", never).await;
        assert_eq!(slow.code(), Code::DeadlineExceeded, "{slow}");
        assert_eq!(ends(&front, Api::Generate, Outcome::Cancelled), "1");
        let others = front.shared.intake.fill();
        let refused = status(&front, path, "1M", framed(&[])).await;
        assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        assert_eq!(ends(&front, Api::Generate, Outcome::Rejected), "1");
        let text = front.shared.telemetry.render();
        let reason = "reason=\"too_many_requests\"} 1";
        assert!(text.contains(reason), "{text}");
        drop(others);
        let mistaken = v1::GenerateRequest {
            model: "gpt-7".into(),
            ..Default::default()
        };
        let message = framed(&mistaken.encode_to_vec());
        status(&front, path, "1M", message).await;
        // By the service that heard of it, and by nobody else.
        assert_eq!(ends(&front, Api::Generate, Outcome::ClientError), "1");
        assert_eq!(ends(&front, Api::Generate, Outcome::Rejected), "1");
    }

    #[tokio::test]
    async fn what_follows_the_first_message_is_not_decoded() {
        let front = Front { shared: shared() };
        let path = "/conclave.v1.TokenizerService/Detokenize";
        let bad = v1::DetokenizeRequest {
            model: "gpt-7".into(),
            ..Default::default()
        };
        let both = [framed(&bad.encode_to_vec()), framed(&crowd())].concat();
        let status = status(&front, path, "1M", both).await;
        assert_eq!(status.code(), Code::NotFound, "{status}");
    }

    #[tokio::test]
    async fn what_cannot_be_decoded_is_refused_by_field() {
        let front = Front { shared: shared() };
        let cases: [(&str, Vec<u8>, &str); 8] = [
            ("no UTF-8", framed(&[0x0a, 1, 0xff]), "model"),
            ("another type", framed(&[0x08, 1]), "model"),
            ("a type that is none", framed(&[0x0f, 1]), "request"),
            (
                "another type inside",
                framed(&[0x2a, 2, 0x08, 1]),
                "sampling.temperature",
            ),
            ("a message that is cut", framed(&[0x0a, 9, b'x']), "model"),
            ("a frame that is cut", vec![0, 0, 0, 0, 9, 0x0a], "request"),
            ("a compressed one", vec![1, 0, 0, 0, 0], "request"),
            ("nothing", Vec::new(), "request"),
        ];
        let path = "/conclave.v1.GenerationService/Generate";
        for (name, body, field) in cases {
            let status = status(&front, path, "1M", body).await;
            assert_eq!(status.code(), Code::InvalidArgument, "{name}: {status}");
            let violations = status.get_details_bad_request().unwrap().field_violations;
            assert_eq!(violations[0].field, field, "{name}: {status}");
            let info = status.get_details_error_info().unwrap();
            assert_eq!(info.reason, "REQUEST_UNREADABLE", "{name}");
        }
    }

    #[tokio::test]
    async fn every_call_says_what_it_cannot_decode() {
        let front = Front { shared: shared() };
        let files = prost_types::FileDescriptorSet::decode(proto::DESCRIPTORS).unwrap();
        let mut calls = 0;
        for file in files.file {
            let package = file.package().to_owned();
            for service in &file.service {
                for method in &service.method {
                    let path = format!("/{package}.{}/{}", service.name(), method.name());
                    if path.starts_with(super::PUBLIC) {
                        let status = status(&front, &path, "1M", framed(&[0xff])).await;
                        assert_eq!(status.code(), Code::InvalidArgument, "{path}: {status}");
                        calls += 1;
                    }
                }
            }
        }
        assert_eq!(calls, 9);
    }

    #[tokio::test]
    async fn a_deadline_that_passes_while_text_waits_is_one() {
        let shared = shared();
        let all = limits::MAX_LONG_TEXTS as u32;
        let _others = shared.long_texts.acquire_many(all).await.unwrap();
        let front = Front {
            shared: shared.clone(),
        };
        let text = "long ".repeat(limits::INLINE_BYTES);
        let chat = v1::ChatRequest {
            messages: vec![v1::Message {
                role: v1::Role::User.into(),
                text: text[..limits::INLINE_BYTES].to_owned(),
                ..Default::default()
            }],
            ..Default::default()
        };
        let generate = v1::GenerateRequest {
            prompt: Some(v1::generate_request::Prompt::Text(
                text[..limits::INLINE_BYTES + 1].to_owned(),
            )),
            ..Default::default()
        };
        let render = v1::RenderChatRequest {
            request: Some(chat.clone()),
        };
        let tokenize = v1::TokenizeRequest {
            text: text[..limits::INLINE_BYTES + 1].to_owned(),
            ..Default::default()
        };
        let cases = [
            ("GenerationService/Chat", chat.encode_to_vec()),
            ("GenerationService/Generate", generate.encode_to_vec()),
            ("TokenizerService/RenderChat", render.encode_to_vec()),
            ("TokenizerService/Tokenize", tokenize.encode_to_vec()),
        ];
        for (method, message) in cases {
            let path = format!("/conclave.v1.{method}");
            let status = status(&front, &path, "50m", framed(&message)).await;
            assert_eq!(status.code(), Code::DeadlineExceeded, "{method}: {status}");
            let info = status.get_details_error_info().unwrap();
            assert_eq!(info.reason, "DEADLINE_PASSED");
        }
    }
}
