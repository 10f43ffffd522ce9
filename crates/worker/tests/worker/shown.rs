//! What a worker shows operators.

use std::sync::Arc;
use std::time::{Duration, Instant};

use telemetry::{About, Telemetry, WorkerTelemetry};
use tokio::net::TcpListener;
use tonic::Code;

use crate::coordinator::Coordinator;
use crate::lead::{Sequence, advance, fence, prepare, prepare_one, prepare_request, seat};
use crate::process::{Process, config, nowhere};

fn telemetry(ranks: usize) -> WorkerTelemetry {
    Telemetry::worker(About::default(), "0", ranks)
}

/// A worker that is looked at; its coordinator never answers.
async fn alone(name: &str, telemetry: &WorkerTelemetry, ranks: u32) -> Process {
    let mut config = config(name, ranks, nowhere());
    config.telemetry = Some(telemetry.clone());
    Process::start(config).await
}

/// Adds up the series of a metric that have all these labels.
fn sum(telemetry: &WorkerTelemetry, name: &str, labels: &[&str]) -> f64 {
    let text = telemetry.render();
    let series = text.lines().filter(|line| {
        let of = line.split(['{', ' ']).next();
        of == Some(name) && labels.iter().all(|label| line.contains(label))
    });
    let values = series.map(|line| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap());
    values.sum()
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(20), "in time: {what}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn steps_exchanges_and_loads_are_counted_by_rank() {
    let (first, second) = (telemetry(1), telemetry(2));
    let workers = [alone("a", &first, 1).await, alone("b", &second, 2).await];
    let mut members = seat(&[&workers[0], &workers[1]]).await;
    let (mut group, _) = prepare(&mut members, fence(4, 2)).await;
    let mut sequences = Sequence::several(4);
    for step in 1..=3 {
        advance(&mut group, step, &mut sequences, step == 1).await;
    }

    for (telemetry, rank) in [
        (&first, "rank=\"0\""),
        (&second, "rank=\"1\""),
        (&second, "rank=\"2\""),
    ] {
        let of_rank = |name: &str, label: &str| sum(telemetry, name, &[rank, label]);
        let steps = "conclave_steps_total";
        assert_eq!(of_rank(steps, ""), 3.0, "{rank}");
        // Where a prompt has but one token, the first step is as those that follow.
        let decodes = if rank == "rank=\"2\"" { 3.0 } else { 2.0 };
        assert_eq!(of_rank(steps, "kind=\"decode\""), decodes, "{rank}");
        assert_eq!(of_rank(steps, "kind=\"idle\""), 0.0, "{rank}");
        assert!(of_rank("conclave_step_last_completed_timestamp_seconds", "") > 1.6e9);
        // Two layers, and each exchange once.
        for op in ["op=\"dispatch\"", "op=\"combine\""] {
            assert_eq!(
                of_rank("conclave_ep_all_to_all_seconds_count", op),
                6.0,
                "{rank} {op}"
            );
            let bytes = "conclave_ep_all_to_all_bytes_total";
            assert!(
                sum(telemetry, bytes, &[rank, op, "transport=\"grpc\""]) > 0.0,
                "{rank} {op}"
            );
            let local = sum(telemetry, bytes, &[rank, op, "transport=\"local\""]);
            assert_eq!(local > 0.0, rank != "rank=\"0\"", "{rank} {op}");
        }
        assert!(of_rank("conclave_ep_rank_tokens_total", "") > 0.0);
        for phase in ["attention", "dispatch", "experts", "combine", "sample"] {
            let label = format!("phase=\"{phase}\"");
            let spent = of_rank("conclave_step_phase_seconds_total", &label);
            assert!(spent > 0.0, "{rank} {phase}");
        }
        assert!(of_rank("conclave_ep_experts_hosted", "") > 0.0);
    }
    for telemetry in [&first, &second] {
        assert_eq!(
            sum(telemetry, "conclave_step_duration_seconds_count", &[]),
            3.0
        );
        assert_eq!(sum(telemetry, "conclave_term", &[]), 4.0);
        assert_eq!(sum(telemetry, "conclave_epoch", &[]), 2.0);
        assert_eq!(
            sum(telemetry, "conclave_model_load_progress_ratio", &[]),
            1.0
        );
        assert!(sum(telemetry, "conclave_model_load_bytes_total", &[]) > 0.0);
    }
    // Somebody waited for somebody.
    let waited = |telemetry| sum(telemetry, "conclave_ep_straggler_wait_seconds_total", &[]);
    assert!(waited(&first) + waited(&second) > 0.0);
}

#[tokio::test]
async fn rows_of_single_experts_are_counted_where_that_is_asked_for() {
    let (asked, not_asked) = (telemetry(1), telemetry(1));
    let mut first = config("a", 1, nowhere());
    (first.telemetry, first.expert_metrics) = (Some(asked.clone()), true);
    let workers = [Process::start(first).await, alone("b", &not_asked, 1).await];
    let mut members = seat(&[&workers[0], &workers[1]]).await;
    let (mut group, _) = prepare(&mut members, fence(4, 2)).await;
    advance(&mut group, 1, &mut Sequence::several(4), true).await;
    let rows = "conclave_ep_expert_tokens_total";
    for layer in ["layer=\"0\"", "layer=\"1\""] {
        assert!(sum(&asked, rows, &[layer]) > 0.0, "{layer}");
    }
    // A row goes to several of a rank's experts, or to one.
    let came = sum(&asked, "conclave_ep_rank_tokens_total", &[]);
    assert!(sum(&asked, rows, &[]) >= came);
    assert!(!not_asked.render().contains(rows));
}

#[tokio::test]
async fn messages_of_another_epoch_are_counted() {
    let telemetry = telemetry(1);
    let worker = alone("a", &telemetry, 1).await;
    let mut members = seat(&[&worker]).await;
    drop(prepare(&mut members, fence(4, 2)).await);
    let old = prepare_request(&members, 0, fence(3, 9));
    let refused = prepare_one(&mut members[0], old).await.unwrap_err();
    assert_eq!(refused.code(), Code::Aborted);
    let stale = "conclave_stale_epoch_messages_total";
    assert_eq!(sum(&telemetry, stale, &["message=\"prepare\""]), 1.0);
    assert_eq!(sum(&telemetry, stale, &[]), 1.0);
}

#[tokio::test]
async fn is_ready_while_registered_and_loaded() {
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let telemetry = telemetry(1);
    let mut config = config("a", 1, address);
    config.telemetry = Some(telemetry.clone());
    let vitals = || telemetry.vitals();
    let worker = Process::start(config).await;
    until("it waits", || {
        vitals().startup().phase == "waiting for store"
    })
    .await;
    assert!(vitals().readiness().is_err());

    let (coordinator, _) = Coordinator::start(address, Arc::new(|| None)).await;
    until("it is registered", || {
        vitals().startup().detail.starts_with("registered")
    })
    .await;
    assert_eq!(vitals().startup().phase, "waiting for lead");
    assert!(!vitals().startup().started);
    assert_eq!(sum(&telemetry, "conclave_store_up", &[]), 1.0);
    drop(prepare(&mut seat(&[&worker]).await, fence(4, 1)).await);
    assert_eq!(vitals().startup().phase, "serving");
    assert_eq!(vitals().readiness(), Ok(()));

    coordinator.stop().await;
    until("it has noticed", || vitals().readiness().is_err()).await;
    assert!(vitals().startup().started);
    let registrations = |outcome| sum(&telemetry, "conclave_registrations_total", &[outcome]);
    assert_eq!(registrations("outcome=\"accepted\""), 1.0);
    assert!(registrations("outcome=\"failed\"") >= 1.0);

    worker.shutdown.cancel();
    worker.ended().await.unwrap();
    assert_eq!(vitals().startup().phase, "draining");
}
