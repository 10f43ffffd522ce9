//! What recording does to a series.

use std::time::Duration;

use telemetry::labels::{Call, GrpcCode, HttpCode, Seat};

use crate::{coordinator, worker};

/// Returns the value of the only series whose text begins so.
fn value(text: &str, series: &str) -> f64 {
    let mut found = text.lines().filter(|line| line.starts_with(series));
    let line = found.next().unwrap_or_else(|| panic!("no {series}"));
    assert_eq!(found.next(), None);
    line.rsplit_once(' ').unwrap().1.parse().unwrap()
}

#[test]
fn times_are_shown_in_seconds() {
    let telemetry = worker(1);
    let wait = &telemetry.metrics().straggler_wait;
    wait.add(Seat(0), Duration::from_micros(1500));
    wait.add(Seat(0), Duration::from_secs(2));
    let shown = value(
        &telemetry.render(),
        "conclave_ep_straggler_wait_seconds_total{",
    );
    assert!((shown - 2.0015).abs() < 1e-9, "{shown}");
}

#[test]
fn threads_lose_nothing_of_each_other() {
    let telemetry = coordinator(&["0"], 1);
    let metrics = telemetry.metrics();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..1000 {
                    metrics.queue_wait.observe((), 0.5);
                    metrics.prompt_tokens.add((), 2);
                    metrics.waiting.add(telemetry::labels::Group(0), 1.0);
                    metrics.waiting.add(telemetry::labels::Group(0), -1.0);
                }
            });
        }
    });
    let text = telemetry.render();
    assert!((value(&text, "conclave_queue_wait_seconds_sum") - 2000.0).abs() < 1e-9);
    assert!((value(&text, "conclave_queue_wait_seconds_count") - 4000.0).abs() < 1e-9);
    assert!((value(&text, "conclave_prompt_tokens_total") - 8000.0).abs() < 1e-9);
    assert!(value(&text, "conclave_requests_waiting").abs() < 1e-9);
}

#[test]
fn what_a_client_chooses_becomes_a_known_value() {
    assert_eq!(
        Call::of("/conclave.v1.ModelService/GetModel"),
        Call::GetModel
    );
    assert_eq!(Call::of("/conclave.v1.ModelService/GetModels"), Call::Other);
    assert_eq!(Call::of("/grpc.health.v1.Health/Check"), Call::Other);
    assert_eq!(HttpCode::of(413), HttpCode::C413);
    assert_eq!(HttpCode::of(418), HttpCode::Other);
    assert_eq!(GrpcCode::of(14), GrpcCode::Unavailable);
    assert_eq!(GrpcCode::of(-1), GrpcCode::Unknown);
    assert_eq!(GrpcCode::of(99), GrpcCode::Unknown);
}
