//! Counts requests: each generation from its request to its end, however that comes, and each answer.
//!
//! A call that is repeated counts what its client has not had, by its `resume_after`: the call before is
//! gone, maybe with its front. Without that number it may be one call more beside the first, which counts.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use proto::v1::FinishReason;
use telemetry::CoordinatorTelemetry;
use telemetry::labels::{
    Api, Call, Finish, GrpcCode, HttpCode, Outcome, Rejection, Route, Stream, Verb,
};
use tokio::time::Instant;
use tonic::Code;

use super::error::Error;
use super::intake::Unread;
use super::stream::Ending;
use crate::status::reason;

/// Counts one generation. Dropped before it has heard of an end, it has lost its client.
#[derive(Debug)]
pub(super) struct Meter {
    telemetry: CoordinatorTelemetry,
    api: Api,
    stream: Stream,
    end: Option<(Outcome, Finish)>,
    /// When tokens came last.
    last_tokens: Option<Instant>,
}

impl Meter {
    pub(super) fn new(telemetry: &CoordinatorTelemetry, api: Api, stream: Stream) -> Self {
        telemetry.metrics().in_flight.add(api, 1.0);
        Self {
            telemetry: telemetry.clone(),
            api,
            stream,
            end: None,
            last_tokens: None,
        }
    }

    /// Says whether the answer comes in pieces.
    pub(super) fn streams(&mut self, stream: Stream) {
        self.stream = stream;
    }

    /// Takes in how checking a request, or following its generation, went.
    pub(super) fn watch<T>(&mut self, outcome: Result<T, Error>) -> Result<T, Error> {
        outcome.inspect_err(|error| self.failed(error))
    }

    /// Takes in what ended the generation early, or kept it from beginning.
    pub(super) fn failed(&mut self, error: &Error) {
        if matches!(error, Error::ClientGone | Error::ClientStalled { .. }) {
            return;
        }
        count_rejection(&self.telemetry, error);
        self.end.get_or_insert((outcome(error), Finish::None));
    }

    /// The request is wrong in a way that no [`Error`] names.
    pub(super) fn refused(&mut self) {
        let refused = (Outcome::ClientError, Finish::None);
        self.end.get_or_insert(refused);
    }

    /// Takes in that tokens came that nobody has counted; the first of all after `to_first`, which is `None` where
    /// that one was counted.
    pub(super) fn tokens(&mut self, count: usize, to_first: Option<Duration>) {
        let (metrics, now) = (self.telemetry.metrics(), Instant::now());
        metrics.generated_tokens.add((), count as u64);
        match self.last_tokens.replace(now) {
            Some(before) => {
                let each = (now - before).as_secs_f64() / count.max(1) as f64;
                metrics.inter_token_latency.observe_many((), each, count);
            }
            None => {
                if let Some(to_first) = to_first {
                    let to_first_token = &metrics.time_to_first_token;
                    to_first_token.observe_time(self.api, to_first);
                }
            }
        }
    }

    /// Takes in the end. Of a generation that another call counts, that is all.
    pub(super) fn ended(&mut self, ending: &Ending, is_counted_elsewhere: bool) {
        self.end = Some(match ending.reason {
            FinishReason::Cancelled => (Outcome::Cancelled, Finish::Cancelled),
            reason => (Outcome::Ok, finish(reason)),
        });
        if is_counted_elsewhere || ending.reason == FinishReason::Cancelled {
            return;
        }
        let (metrics, usage) = (self.telemetry.metrics(), &ending.usage);
        let durations = &metrics.request_duration;
        durations.observe_time((self.api, self.stream), ending.total);
        let (prompt, output) = (usage.prompt_tokens, usage.output_tokens);
        metrics.prompt_tokens.add((), prompt.into());
        let cached = usage.cached_prompt_tokens.into();
        metrics.cached_prompt_tokens.add((), cached);
        let reasoning = usage.reasoning_tokens.into();
        metrics.reasoning_tokens.add((), reasoning);
        metrics.request_prompt_tokens.observe((), prompt.into());
        metrics.request_generated_tokens.observe((), output.into());
        if let Some(queued) = ending.queued {
            metrics.queue_wait.observe_time((), queued);
        }
        if let Some(prefill) = ending.prefill {
            metrics.prefill.observe_time((), prefill);
        }
        if let Some(first) = ending.to_first_token {
            let decode = ending.total.saturating_sub(first);
            metrics.decode.observe_time((), decode);
            if let Some(rest) = output.checked_sub(1).filter(|rest| *rest > 0) {
                let each = &metrics.time_per_output_token;
                each.observe_time((), decode / rest);
            }
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        let metrics = self.telemetry.metrics();
        metrics.in_flight.add(self.api, -1.0);
        let (outcome, finish) = self.end.unwrap_or_else(|| {
            metrics.client_disconnects.add((), 1);
            (Outcome::Cancelled, Finish::None)
        });
        metrics.requests.add((self.api, (outcome, finish)), 1);
    }
}

/// Counts a call that is refused before its service hears of it; a generation among the requests, too.
pub(super) fn count_refused(telemetry: &CoordinatorTelemetry, path: &str, error: &Error) {
    count_rejection(telemetry, error);
    let api = match Call::of(path) {
        Call::Generate => Api::Generate,
        Call::Chat => Api::Chat,
        _ => return,
    };
    let requests = &telemetry.metrics().requests;
    requests.add((api, (outcome(error), Finish::None)), 1);
}

/// Counts an error that refuses what nothing is wrong with.
fn count_rejection(telemetry: &CoordinatorTelemetry, error: &Error) {
    if let Some(reason) = rejection(error) {
        telemetry.metrics().rejections.add(reason, 1);
    }
}

fn rejection(error: &Error) -> Option<Rejection> {
    match &*error.reason() {
        reason::QUEUE_FULL => Some(Rejection::QueueFull),
        reason::QUEUE_TIMEOUT => Some(Rejection::QueueTimeout),
        reason::TOO_MANY_FOLLOWERS => Some(Rejection::TooManyRequests),
        reason::GROUP_INCOMPLETE => Some(Rejection::NoCapacity),
        reason::NOT_LEADER => Some(Rejection::NotLeader),
        reason::LEAD_ENDING => Some(Rejection::Draining),
        _ => match error {
            Error::TooManyLive { .. }
            | Error::TooManyHeld { .. }
            | Error::Unread(Unread::Crowded) => Some(Rejection::TooManyRequests),
            Error::LeadGone { .. } => Some(Rejection::NoCapacity),
            Error::Draining => Some(Rejection::Draining),
            _ => None,
        },
    }
}

fn outcome(error: &Error) -> Outcome {
    if rejection(error).is_some() {
        return Outcome::Rejected;
    }
    match error.code() {
        // The caller gave up, or its time is over.
        Code::Cancelled if matches!(error, Error::Unread(_)) => Outcome::ClientError,
        Code::Cancelled | Code::DeadlineExceeded => Outcome::Cancelled,
        Code::InvalidArgument
        | Code::NotFound
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::AlreadyExists
        | Code::FailedPrecondition => Outcome::ClientError,
        _ => Outcome::Failed,
    }
}

fn finish(reason: FinishReason) -> Finish {
    match reason {
        FinishReason::Stop => Finish::Stop,
        FinishReason::Length => Finish::Length,
        FinishReason::ToolCalls => Finish::ToolCalls,
        FinishReason::Cancelled => Finish::Cancelled,
        _ => Finish::None,
    }
}

/// Counts answers of the HTTP API, as they begin.
pub(super) async fn count_answer(
    State(telemetry): State<CoordinatorTelemetry>,
    request: Request,
    next: Next,
) -> Response {
    let route = route(request.uri().path());
    let verb = match *request.method() {
        Method::GET => Verb::Get,
        Method::POST => Verb::Post,
        _ => Verb::Other,
    };
    let response = next.run(request).await;
    let code = HttpCode::of(response.status().as_u16());
    let answers = &telemetry.metrics().http_requests;
    answers.add((route, (verb, code)), 1);
    response
}

fn route(path: &str) -> Route {
    if path.starts_with("/v1/models/") {
        return Route::Model;
    }
    let mut known = Route::ALL.iter();
    let known = known.find(|route| route.as_str() == path);
    known.copied().unwrap_or(Route::Other)
}

/// Counts a call of the gRPC API once it has ended: at once where it is refused, else with its stream.
pub(super) fn count_call(
    telemetry: &CoordinatorTelemetry,
    path: &str,
    response: Response,
) -> Response {
    let call = Call::of(path);
    if let Some(code) = code(response.headers()) {
        telemetry.metrics().grpc_requests.add((call, code), 1);
        return response;
    }
    let telemetry = telemetry.clone();
    response.map(|body| {
        Body::new(Counted {
            body,
            call,
            // Whoever drops the answer has left.
            code: GrpcCode::Cancelled,
            telemetry,
        })
    })
}

fn code(headers: &HeaderMap) -> Option<GrpcCode> {
    let status = headers.get("grpc-status")?.to_str().ok()?;
    Some(status.parse().map_or(GrpcCode::Unknown, GrpcCode::of))
}

/// An answer that is counted when it has ended.
struct Counted {
    body: Body,
    call: Call,
    code: GrpcCode,
    telemetry: CoordinatorTelemetry,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && let Some(code) = frame.trailers_ref().and_then(code)
        {
            self.code = code;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let calls = &self.telemetry.metrics().grpc_requests;
        calls.add((self.call, self.code), 1);
    }
}

#[cfg(test)]
mod tests;
