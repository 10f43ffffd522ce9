//! Fields of a generation's delivery and schedule, and its times.

use proto::v1;
use tonic::Code;
use tonic::codegen::Service;

use super::{Case, check, scheduling, stage, stop, stream};
use crate::generate::request;
use crate::stage::{MAX_OUTPUT, soon};

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

fn delivery_cases() -> Vec<Case<v1::GenerateRequest>> {
    let none = v1::StreamParams::default;
    let named = |params| v1::GenerateRequest {
        request_id: "n".into(),
        ..stream(params)
    };
    let keep_for = |keep_for| named(v1::StreamParams { keep_for, ..none() });
    let cancel_kept = v1::StreamParams {
        on_disconnect: v1::DisconnectPolicy::Cancel.into(),
        keep_for: seconds(3),
        ..none()
    };
    let resumed = v1::StreamParams {
        resume_after: Some(3),
        ..none()
    };
    let policy = v1::StreamParams {
        on_disconnect: 9,
        ..none()
    };
    let coalesce = |coalesce| stream(v1::StreamParams { coalesce, ..none() });
    vec![
        ("kept for no time", keep_for(seconds(0)), "stream.keep_for"),
        ("kept for less", keep_for(seconds(-1)), "stream.keep_for"),
        ("kept for ever", keep_for(seconds(601)), "stream.keep_for"),
        ("kept and not", named(cancel_kept), "stream.keep_for"),
        (
            "a policy of the future",
            named(policy),
            "stream.on_disconnect",
        ),
        (
            "resumed without a name",
            stream(resumed),
            "stream.resume_after",
        ),
        ("held for long", coalesce(seconds(6)), "stream.coalesce"),
        ("held for less", coalesce(seconds(-1)), "stream.coalesce"),
    ]
}

fn scheduling_cases() -> Vec<Case<v1::GenerateRequest>> {
    let none = v1::SchedulingParams::default;
    let priority = |priority| scheduling(v1::SchedulingParams { priority, ..none() });
    let timeout = |queue_timeout| {
        scheduling(v1::SchedulingParams {
            queue_timeout,
            ..none()
        })
    };
    vec![
        ("a priority too high", priority(101), "scheduling.priority"),
        ("a priority too low", priority(-101), "scheduling.priority"),
        ("no time", timeout(seconds(0)), "scheduling.queue_timeout"),
        (
            "as long ago as can be",
            timeout(seconds(i64::MIN)),
            "scheduling.queue_timeout",
        ),
        ("ages", timeout(seconds(601)), "scheduling.queue_timeout"),
        (
            "a raw generation that reasons",
            stop(v1::StopParams {
                max_reasoning_tokens: Some(5),
                ..Default::default()
            }),
            "stop.max_reasoning_tokens",
        ),
        (
            "nothing to generate",
            stop(v1::StopParams {
                max_output_tokens: Some(0),
                ..Default::default()
            }),
            "stop.max_output_tokens",
        ),
        (
            "more output than the server gives",
            stop(v1::StopParams {
                max_output_tokens: Some(MAX_OUTPUT + 1),
                ..Default::default()
            }),
            "stop.max_output_tokens",
        ),
    ]
}

#[tokio::test]
async fn bad_deliveries_and_schedules_are_refused_by_field() {
    let stage = stage().await;
    for (name, request, field) in delivery_cases().into_iter().chain(scheduling_cases()) {
        let status = stage.client().generate(request).await.expect_err(name);
        check(name, &status, Code::InvalidArgument, field);
    }
}

#[tokio::test]
async fn a_deadline_in_the_past_is_refused_at_once() {
    let stage = stage().await;
    // Without a client: it would give up by itself. The body would never come.
    let request = axum::http::Request::post("/conclave.v1.GenerationService/Generate")
        .header("content-type", "application/grpc")
        .header("grpc-timeout", "0n")
        .body(axum::body::Body::from_stream(tokio_stream::pending::<
            Result<Vec<u8>, std::io::Error>,
        >()))
        .unwrap();
    let answer = soon(Service::call(&mut stage.front.grpc(), request)).await;
    let answer = answer.unwrap();
    assert_eq!(answer.headers()["grpc-status"], "4", "DEADLINE_EXCEEDED");
}

#[tokio::test]
async fn a_timeout_that_is_none_is_refused() {
    let stage = stage().await;
    let mut call = tonic::Request::new(request("x"));
    call.metadata_mut()
        .insert("grpc-timeout", "soon".parse().unwrap());
    let status = stage.client().generate(call).await.unwrap_err();
    check("a timeout", &status, Code::InvalidArgument, "grpc-timeout");
}
