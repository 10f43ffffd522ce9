//! What recording does to a series.

use std::time::{Duration, Instant};

use telemetry::StoreEvent;
use telemetry::labels::{Call, GrpcCode, HttpCode, Seat, StoreOp, StoreOutcome};

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
                    metrics.running.add(telemetry::labels::Group(0), 1.0);
                    metrics.running.add(telemetry::labels::Group(0), -1.0);
                }
            });
        }
    });
    let text = telemetry.render();
    assert!((value(&text, "conclave_queue_wait_seconds_sum") - 2000.0).abs() < 1e-9);
    assert!((value(&text, "conclave_queue_wait_seconds_count") - 4000.0).abs() < 1e-9);
    assert!((value(&text, "conclave_prompt_tokens_total") - 8000.0).abs() < 1e-9);
    assert!(value(&text, "conclave_requests_running").abs() < 1e-9);
}

#[test]
fn what_is_seen_of_the_store_is_counted() {
    let telemetry = worker(1);
    let lease = |telemetry: &telemetry::WorkerTelemetry| {
        value(
            &telemetry.render(),
            "conclave_store_lease_remaining_seconds{",
        )
    };
    assert!(lease(&telemetry).abs() < 1e-9);
    telemetry.store_sees(StoreEvent::Request {
        op: StoreOp::Renew,
        outcome: StoreOutcome::Failed,
        took: Duration::from_millis(1500),
    });
    telemetry.store_sees(StoreEvent::WatchRestart);
    let until = Some(Instant::now() + Duration::from_secs(100));
    telemetry.store_sees(StoreEvent::Lease { id: 3, until });
    assert!((50.0..=100.0).contains(&lease(&telemetry)));
    let text = telemetry.render();
    let labels = "model=\"tiny\",group=\"blue\",op=\"lease_renew\",outcome=\"failed\"";
    let sum = format!("conclave_store_request_duration_seconds_sum{{{labels}}}");
    assert!((value(&text, &sum) - 1.5).abs() < 1e-9);
    let restarts = value(&text, "conclave_store_watch_restarts_total{");
    assert!((restarts - 1.0).abs() < 1e-9);
    telemetry.store_sees(StoreEvent::Lease { id: 3, until: None });
    assert!(lease(&telemetry).abs() < 1e-9);
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
