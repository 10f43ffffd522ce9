//! How ends are told apart.

use axum::http::HeaderValue;
use hyper::body::Body as _;
use telemetry::{About, Telemetry};
use tonic::Status;

use super::*;
use crate::status::status;

fn telemetry() -> CoordinatorTelemetry {
    Telemetry::coordinator(About::default(), vec!["0".into()], 1)
}

fn shown(telemetry: &CoordinatorTelemetry, series: &str) -> bool {
    telemetry.render().lines().any(|line| line == series)
}

#[test]
fn an_error_has_one_outcome() {
    let lead = |code, reason| Error::Lead(Box::new(status(code, reason, "", None)));
    let cases = [
        (
            Error::field("prompt", "is empty"),
            Outcome::ClientError,
            None,
        ),
        (
            Error::Unread(Unread::TooLong { limit: 1 }),
            Outcome::ClientError,
            None,
        ),
        (
            Error::Unread(Unread::Broken { why: String::new() }),
            Outcome::ClientError,
            None,
        ),
        (
            Error::Unread(Unread::Crowded),
            Outcome::Rejected,
            Some(Rejection::TooManyRequests),
        ),
        (
            Error::TooManyLive { limit: 1 },
            Outcome::Rejected,
            Some(Rejection::TooManyRequests),
        ),
        (
            Error::Draining,
            Outcome::Rejected,
            Some(Rejection::Draining),
        ),
        (
            lead(Code::ResourceExhausted, reason::QUEUE_FULL),
            Outcome::Rejected,
            Some(Rejection::QueueFull),
        ),
        (
            lead(Code::Unavailable, reason::GROUP_INCOMPLETE),
            Outcome::Rejected,
            Some(Rejection::NoCapacity),
        ),
        (
            lead(Code::DataLoss, reason::CANNOT_BE_COMPUTED),
            Outcome::Failed,
            None,
        ),
        (
            lead(Code::AlreadyExists, reason::REQUEST_ID_REUSED),
            Outcome::ClientError,
            None,
        ),
        (Error::DeadlineEarly, Outcome::Cancelled, None),
        (Error::Cancelled, Outcome::Cancelled, None),
        (Error::Broken, Outcome::Failed, None),
    ];
    for (error, expected, reason) in cases {
        assert_eq!(outcome(&error), expected, "{error:?}");
        assert_eq!(rejection(&error), reason, "{error:?}");
    }
}

#[test]
fn a_generation_whose_client_left_is_in_flight_until_then_and_cancelled_after() {
    let telemetry = telemetry();
    let meter = Meter::new(&telemetry, Api::Chat, Stream::Yes);
    assert!(shown(
        &telemetry,
        "conclave_requests_in_flight{model=\"\",api=\"chat\"} 1"
    ));
    drop(meter);
    for series in [
        "conclave_requests_in_flight{model=\"\",api=\"chat\"} 0",
        "conclave_client_disconnects_total{model=\"\"} 1",
        "conclave_requests_total{model=\"\",api=\"chat\",outcome=\"cancelled\",finish_reason=\"none\"} 1",
    ] {
        assert!(shown(&telemetry, series), "{series}");
    }
}

#[test]
fn the_first_end_counts() {
    let telemetry = telemetry();
    let mut meter = Meter::new(&telemetry, Api::Generate, Stream::Yes);
    meter.failed(&Error::Draining);
    meter.failed(&Error::Broken);
    drop(meter);
    let outcome = "api=\"generate\",outcome=\"rejected\",finish_reason=\"none\"";
    let series = format!("conclave_requests_total{{model=\"\",{outcome}}} 1");
    assert!(shown(&telemetry, &series));
}

#[tokio::test]
async fn tokens_that_come_together_share_their_time() {
    tokio::time::pause();
    let telemetry = telemetry();
    let mut meter = Meter::new(&telemetry, Api::Generate, Stream::Yes);
    meter.tokens(1, Some(Duration::from_millis(70)));
    tokio::time::advance(Duration::from_millis(8)).await;
    meter.tokens(4, Some(Duration::from_millis(70)));
    for series in [
        "conclave_inter_token_latency_seconds_bucket{model=\"\",le=\"0.001\"} 0",
        "conclave_inter_token_latency_seconds_bucket{model=\"\",le=\"0.002\"} 4",
        "conclave_time_to_first_token_seconds_count{model=\"\",api=\"generate\"} 1",
        "conclave_time_to_first_token_seconds_bucket{model=\"\",api=\"generate\",le=\"0.06\"} 0",
        "conclave_time_to_first_token_seconds_bucket{model=\"\",api=\"generate\",le=\"0.08\"} 1",
        "conclave_generated_tokens_total{model=\"\"} 5",
    ] {
        assert!(
            shown(&telemetry, series),
            "{series}\n{}",
            telemetry.render()
        );
    }
}

#[test]
fn a_call_is_counted_by_its_trailers_or_as_dropped() {
    let telemetry = telemetry();
    let calls = |code: &str| {
        let labels = format!("method=\"GenerationService/Chat\",code=\"{code}\"");
        shown(
            &telemetry,
            &format!("conclave_grpc_requests_total{{model=\"\",{labels}}} 1"),
        )
    };
    let path = "/conclave.v1.GenerationService/Chat";
    let refused = Status::not_found("no such model").into_http();
    drop(count_call(&telemetry, path, refused));
    assert!(calls("NOT_FOUND"));
    let left = Response::new(Body::from("an answer that nobody reads to its end"));
    drop(count_call(&telemetry, path, left));
    assert!(calls("CANCELLED"));
}

#[tokio::test]
async fn the_status_of_a_stream_is_that_of_its_end() {
    let telemetry = telemetry();
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("14"));
    let ended = Response::new(Body::new(Trailers(Some(trailers))));
    let mut body = count_call(&telemetry, "/x.Y/Z", ended).into_body();
    while std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context))
        .await
        .is_some()
    {}
    drop(body);
    let labels = "method=\"other\",code=\"UNAVAILABLE\"";
    let series = format!("conclave_grpc_requests_total{{model=\"\",{labels}}} 1");
    assert!(shown(&telemetry, &series));
}

/// A body of trailers alone.
struct Trailers(Option<HeaderMap>);

impl hyper::body::Body for Trailers {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Poll::Ready(self.0.take().map(|trailers| Ok(Frame::trailers(trailers))))
    }
}

#[test]
fn a_path_is_one_of_the_api_or_another() {
    for path in ["/v1/completions", "/v1/models", "/livez", "/readyz"] {
        assert_eq!(route(path).as_str(), path);
    }
    assert_eq!(route("/v1/models/openai/gpt-oss-20b"), Route::Model);
    assert_eq!(route("/v1/completions/"), Route::Other);
}
