//! Stores that are not there, or not all of them.

use std::time::{Duration, Instant};

use store::{Change, Error, OPERATION_LIMIT, Txn};
use tokio::net::TcpListener;

use crate::keys::put;
use crate::server::{Server, client, within};
use crate::watches::Follow;

/// Nobody listens there.
const DEAD: &str = "127.0.0.1:1";

pub(crate) async fn a_store_that_is_not_there_is_waited_for(server: Server) {
    server.proxy.cut();
    let store = server.store("a");
    let mut health = store.health();
    let fresh = health.borrow().clone();
    assert!(!fresh.connected && fresh.last_error.is_none(), "{fresh:?}");
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.ready().await }
    });
    let mut watch = store.watch("").unwrap();
    within(health.wait_for(|health| health.last_error.is_some()))
        .await
        .unwrap();
    assert!(!waiting.is_finished());
    server.proxy.mend();
    within(waiting).await.unwrap();
    assert_eq!(within(watch.next()).await, Some(Change::Connected));
    let now = health.borrow().clone();
    assert!(
        now.connected && now.last_error.is_none() && now.since > fresh.since,
        "{now:?}"
    );
    assert_eq!(now.endpoint.as_deref(), Some(server.proxy.address()));

    server.proxy.cut();
    let start = Instant::now();
    let error = within(store.get("k")).await.unwrap_err();
    assert!(start.elapsed() < OPERATION_LIMIT + Duration::from_secs(1));
    assert!(
        matches!(error, Error::Unreachable { .. }) && error.is_transient(),
        "{error}"
    );
    assert!(
        error.to_string().contains(server.proxy.address()),
        "{error}"
    );
}

pub(crate) async fn a_dead_endpoint_is_passed_over(server: Server) {
    let endpoints = [DEAD, "no-such-host.invalid:1", server.proxy.address()];
    // A client each, so that each operation meets the dead ones first.
    let store = || client(&endpoints, "a");
    let start = Instant::now();
    put(&store(), "k", "1").await;
    assert_eq!(store().get("k").await.unwrap().unwrap().value, b"1");
    assert_eq!(store().list("").await.unwrap().entries.len(), 1);
    let lease = store().lease(Duration::from_secs(60)).await.unwrap();
    within(lease.revoke()).await.unwrap();
    let watching = store();
    let watch = Follow::of(&watching, "").await;
    assert_eq!(watch.first.len(), 1);
    assert!(watching.health().borrow().connected);
    assert!(start.elapsed() < OPERATION_LIMIT, "{:?}", start.elapsed());
}

pub(crate) async fn a_silent_endpoint_is_passed_over(server: Server) {
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    put(&server.store("a"), "k", "1").await;
    let store = client(&[&silent, server.proxy.address()], "a");
    let start = Instant::now();
    let read = within(store.get("k")).await.unwrap();
    assert_eq!(read.unwrap().value, b"1");
    // Before the connection is found to be dead, which takes four.
    assert!(
        start.elapsed() < Duration::from_millis(3500),
        "{:?}",
        start.elapsed()
    );
    // From then on the one that answers is asked first.
    let start = Instant::now();
    store.get("k").await.unwrap();
    assert!(start.elapsed() < Duration::from_secs(1));
}

pub(crate) async fn a_transaction_without_an_answer_is_not_sent_again(server: Server) {
    let store = server.store("a");
    put(&store, "k", "1").await;
    server.proxy.freeze();
    let count = Txn::new().put("k", "2", None);
    let sent = tokio::spawn({
        let store = store.clone();
        async move { store.txn(count).await }
    });
    within(server.proxy.has_kept()).await;
    server.proxy.cut();
    let error = within(sent).await.unwrap().unwrap_err();
    assert!(
        matches!(error, Error::Unknown { .. }) && error.is_transient(),
        "{error}"
    );
    assert!(error.to_string().contains("put k"), "{error}");
    server.proxy.mend();
    within(store.ready()).await;
    assert_eq!(store.get("k").await.unwrap().unwrap().value, b"1");
}

pub(crate) async fn a_lease_of_a_wiped_store_is_lost(mut server: Server) {
    let store = server.store("a");
    let lease = store.lease(Duration::from_secs(6)).await.unwrap();
    server.wipe().await;
    // Another client's lease of the new store is not taken for the old one.
    let other = server.behind("a");
    within(other.ready()).await;
    let new = other.lease(Duration::from_secs(60)).await.unwrap();
    assert_ne!(new.id(), lease.id());
    server.proxy.mend();
    let start = Instant::now();
    within(lease.lost().cancelled()).await;
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "only when its time had passed"
    );
    assert!(!new.lost().is_cancelled());
}
