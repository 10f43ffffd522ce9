//! A worker stays registered whatever its coordinator does.

use prost::Message as _;
use proto::internal::LeadRecord;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use proto::internal::Registration;
use store::Txn;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use worker::Error;

use crate::coordinator::{Coordinator, Heard, Verdict};
use crate::lead::{fence, prepare, seat};
use crate::process::{Process, config, nowhere};

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn anyone() -> Verdict {
    Arc::new(|| None)
}

#[tokio::test]
async fn registers_with_a_coordinator_that_starts_later_and_starts_again() {
    // A port that nobody listens on, until the coordinator does.
    let reserved = sockets::Listener::bind("127.0.0.1:0").await.unwrap();
    let address = reserved.local_addr();
    drop(reserved);
    let worker = Process::start(config("a", 2, address)).await;

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
    let (_coordinator, address) = Coordinator::start(anywhere(), refuse).await;
    let worker = Process::start(config("a", 1, address)).await;
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
    let (mut coordinator, address) = Coordinator::start(anywhere(), verdict).await;
    let _worker = Process::start(config("a", 1, address)).await;
    for _ in 0..3 {
        coordinator.registration().await;
    }
    assert!(matches!(
        coordinator.heard.recv().await,
        Some(Heard::Heartbeat)
    ));
}

/// Waits until the worker's record is in the store, or gone.
async fn record_of(coordinator: &Coordinator, name: &str, there: bool) -> Option<Registration> {
    let key = records::member_key(name);
    loop {
        let entry = coordinator.store.get(&key).await.unwrap();
        if entry.is_some() == there {
            let entry = entry?;
            let record = records::read_member(&entry.key, &entry.value).unwrap();
            return record.registration;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn puts_its_record_into_the_store_and_takes_it_back_when_it_ends() {
    let (mut coordinator, address) = Coordinator::start(anywhere(), anyone()).await;
    let worker = Process::start(config("a", 1, address)).await;
    let registered = coordinator.registration().await;
    let record = record_of(&coordinator, "a", true).await.unwrap();
    assert_eq!(record.incarnation, registered.incarnation);
    assert_eq!(record.address, worker.address);

    // Somebody deletes it, as a store that has lost everything does.
    let delete = Txn::new().delete(records::member_key("a"));
    coordinator.store.txn(delete).await.unwrap();
    let again = record_of(&coordinator, "a", true).await.unwrap();
    assert_eq!(again.incarnation, registered.incarnation);

    worker.shutdown.cancel();
    worker.ended().await.unwrap();
    assert_eq!(record_of(&coordinator, "a", false).await, None);
}

#[tokio::test]
async fn of_two_live_workers_of_a_name_the_second_is_refused() {
    let (mut coordinator, address) = Coordinator::start(anywhere(), anyone()).await;
    let first = Process::start(config("a", 1, address)).await;
    coordinator.registration().await;
    record_of(&coordinator, "a", true).await;
    let second = Process::start(config("a", 1, address)).await;
    let error = second.ended().await.unwrap_err();
    assert!(matches!(error, Error::NameTaken(_)), "{error}");
    assert!(error.to_string().contains(&first.address), "{error}");
}

#[tokio::test]
async fn a_new_start_takes_over_the_record_of_a_dead_one() {
    let (coordinator, address) = Coordinator::start(anywhere(), anyone()).await;
    let mut dead = Process::start(config("a", 1, address)).await;
    let before = record_of(&coordinator, "a", true).await.unwrap();
    dead.kill();
    let _new = Process::start(config("a", 1, address)).await;
    loop {
        let record = record_of(&coordinator, "a", true).await.unwrap();
        if record.incarnation != before.incarnation {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn goes_over_to_the_next_lead() {
    let (mut first, address) = Coordinator::start(anywhere(), anyone()).await;
    let (mut second, next) = Coordinator::start(anywhere(), anyone()).await;
    let _worker = Process::start(config("a", 1, address)).await;
    let at_first = first.registration().await;
    let lead = LeadRecord {
        name: "c1".into(),
        incarnation: 1,
        address: format!("http://{next}"),
        term: 4,
    };
    let lead = Txn::new().put(records::lead_key("0"), lead.encode_to_vec(), None);
    first.store.txn(lead).await.unwrap();
    let at_second = second.registration().await;
    assert_eq!(at_first.incarnation, at_second.incarnation);
}

#[tokio::test]
async fn a_model_that_cannot_be_served_is_refused_before_anyone_is_asked() {
    let listener = sockets::Listener::bind("127.0.0.1:0").await.unwrap();
    let mut config = config("a", 1, nowhere());
    config.model = checkpoint::ModelName::parse("/no/such/folder").unwrap();
    let refused = worker::start(config, listener, CancellationToken::new()).await;
    let error = refused.err().expect("there is no such folder");
    assert!(matches!(error, Error::Checkpoint { .. }), "{error}");
    assert!(error.to_string().contains("/no/such/folder"), "{error}");
}
