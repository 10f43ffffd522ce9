//! A worker stays registered whatever its coordinator does.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use worker::Error;

use crate::coordinator::{Coordinator, Heard, Verdict};
use crate::lead::{fence, prepare, seat};
use crate::process::{Process, config};

fn anyone() -> Verdict {
    Arc::new(|| None)
}

#[tokio::test]
async fn registers_with_a_coordinator_that_starts_later_and_starts_again() {
    // A port that nobody listens on, until the coordinator does.
    let reserved = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr().unwrap();
    drop(reserved);
    let worker = Process::start(config("a", 2, &format!("http://{address}"))).await;

    let (mut coordinator, _) = Coordinator::start(address, anyone()).await;
    let first = coordinator.registration().await;
    assert_eq!((first.name.as_str(), first.num_ranks), ("a", 2));
    assert_eq!(first.address, worker.address);
    assert_eq!(
        (first.wire_min, first.wire_max),
        (proto::WIRE_VERSION, proto::WIRE_VERSION)
    );
    assert_eq!(first.weights_fingerprint.len(), 64);
    assert!(!first.numerics.is_empty());
    assert_eq!(first.term, 0);
    for _ in 0..2 {
        assert!(matches!(
            coordinator.heard.recv().await,
            Some(Heard::Heartbeat)
        ));
    }

    // It obeys a lead meanwhile, and tells the next coordinator of that lead's term.
    prepare(&mut seat(&[&worker]).await, fence(4, 1)).await;
    coordinator.stop().await;
    let (mut coordinator, _) = Coordinator::start(address, anyone()).await;
    let second = coordinator.registration().await;
    assert_eq!(second.term, 4);
    assert_eq!(second.incarnation, first.incarnation);
    assert!(matches!(
        coordinator.heard.recv().await,
        Some(Heard::Heartbeat)
    ));

    worker.shutdown.cancel();
    worker.ended().await.unwrap();
}

#[tokio::test]
async fn a_refusal_ends_the_worker_with_the_coordinators_words() {
    let refuse: Verdict =
        Arc::new(|| Some(Status::failed_precondition("other weights: ab, not cd")));
    let (_coordinator, address) = Coordinator::start("127.0.0.1:0".parse().unwrap(), refuse).await;
    let worker = Process::start(config("a", 1, &format!("http://{address}"))).await;
    let error = worker.ended().await.unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error}");
    assert!(
        error.to_string().contains("other weights: ab, not cd"),
        "{error}"
    );
}

#[tokio::test]
async fn a_taken_name_is_asked_for_again() {
    let refusals = std::sync::atomic::AtomicUsize::new(2);
    let verdict: Verdict = Arc::new(move || {
        let left = refusals.load(std::sync::atomic::Ordering::Relaxed);
        refusals.store(left.saturating_sub(1), std::sync::atomic::Ordering::Relaxed);
        (left > 0).then(|| Status::already_exists("a live member is called a"))
    });
    let (mut coordinator, address) =
        Coordinator::start("127.0.0.1:0".parse().unwrap(), verdict).await;
    let _worker = Process::start(config("a", 1, &format!("http://{address}"))).await;
    for _ in 0..3 {
        coordinator.registration().await;
    }
    assert!(matches!(
        coordinator.heard.recv().await,
        Some(Heard::Heartbeat)
    ));
}

#[tokio::test]
async fn a_model_that_cannot_be_served_is_refused_before_anyone_is_asked() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config("a", 1, "http://127.0.0.1:1");
    config.model = checkpoint::ModelName::parse("/no/such/folder").unwrap();
    let refused = worker::start(config, listener, CancellationToken::new()).await;
    let error = refused.err().expect("there is no such folder");
    assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/folder"), "{error}");
}
