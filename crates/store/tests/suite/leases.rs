//! Leases: kept, ended, lost.

use std::time::{Duration, Instant};

use store::{Change, Lease, Store, Txn};

use crate::server::{Server, within};
use crate::watches::Follow;

const SHORT: Duration = Duration::from_secs(1);

/// A member: a key that ends with a lease.
async fn member(store: &Store, key: &str, ttl: Duration) -> Lease {
    let lease = store.lease(ttl).await.unwrap();
    let claim = Txn::new().if_absent(key).put(key, "", Some(lease.id()));
    assert!(store.txn(claim).await.unwrap().succeeded);
    lease
}

/// Waits until a lease is lost; returns how long that took.
async fn lost(lease: &Lease) -> Duration {
    let start = Instant::now();
    within(lease.lost().cancelled()).await;
    assert_eq!(lease.remaining(), Duration::ZERO);
    start.elapsed()
}

pub(crate) async fn keys_end_with_their_lease_and_watches_see_it(server: Server) {
    let store = server.store("a");
    // Nothing happens to the store meanwhile, so it has to notice by itself.
    let stays = member(&store, "m/stays", Duration::from_secs(60)).await;
    let lease = member(&store, "m/ends", SHORT).await;
    store
        .txn(Txn::new().put("m/ends-too", "", Some(lease.id())))
        .await
        .unwrap();
    store.txn(Txn::new().put("m/free", "", None)).await.unwrap();
    let mut watch = Follow::of(&store, "m/").await;
    let lost = lease.lost();
    drop(lease);
    assert!(
        lost.is_cancelled(),
        "a lease that is dropped is held no longer"
    );
    let mut ended: Vec<String> = Vec::new();
    while ended.len() < 2 {
        match watch.next().await {
            Change::Delete(key, revision) => {
                assert!(revision > 0);
                ended.push(key);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ended, ["m/ends", "m/ends-too"]);
    assert_eq!(store.list("m/").await.unwrap().entries.len(), 2);
    assert!(!stays.lost().is_cancelled());
}

pub(crate) async fn a_lease_is_kept_alive(server: Server) {
    let store = server.store("a");
    let lease = member(&store, "m", SHORT).await;
    let created = store.get("m").await.unwrap().unwrap();
    // Three times as long as it would last.
    let lost = tokio::time::timeout(3 * lease.ttl(), lease.lost().cancelled_owned()).await;
    assert!(lost.is_err(), "it is lost");
    assert!(lease.remaining() > Duration::ZERO && lease.remaining() <= lease.ttl());
    assert_eq!(store.get("m").await.unwrap(), Some(created));
}

pub(crate) async fn a_revoked_lease_takes_its_keys_with_it(server: Server) {
    let store = server.store("a");
    let lease = member(&store, "m", Duration::from_secs(60)).await;
    let (lost, id) = (lease.lost(), lease.id());
    assert!(lease.remaining() > Duration::from_secs(50));
    lease.revoke().await.unwrap();
    assert!(lost.is_cancelled());
    assert_eq!(store.get("m").await.unwrap(), None);
    let late = store.txn(Txn::new().put("m", "", Some(id))).await;
    assert!(late.is_err(), "{late:?}");
    // One that is gone already is gone.
    let gone = store.lease(Duration::from_secs(60)).await.unwrap();
    server
        .direct()
        .await
        .lease_revoke(gone.id().0)
        .await
        .unwrap();
    gone.revoke().await.unwrap();
}

pub(crate) async fn a_lease_is_lost_with_its_store(server: Server) {
    let store = server.store("a");
    let lease = member(&store, "m", SHORT).await;
    server.proxy.cut();
    let left = lease.remaining();
    let took = lost(&lease).await;
    assert!(
        took + Duration::from_millis(50) >= left,
        "{took:?} before {left:?}"
    );
    assert!(
        took < left + Duration::from_millis(500),
        "{took:?} after {left:?}"
    );
    // The store comes back, the lease does not.
    server.proxy.mend();
    within(store.ready()).await;
    assert_eq!(lease.remaining(), Duration::ZERO);
}

pub(crate) async fn a_lease_is_lost_with_a_store_that_stands_still(server: Server) {
    let store = server.store("a");
    let lease = member(&store, "m", SHORT).await;
    server.pause();
    let took = lost(&lease).await;
    assert!(took < lease.ttl() + Duration::from_millis(500), "{took:?}");
    assert!(!store.health().borrow().connected);
    server.resume();
    within(store.ready()).await;
}

pub(crate) async fn a_lease_is_lost_when_the_store_says_so(server: Server) {
    let store = server.store("a");
    let lease = member(&store, "m", 3 * SHORT).await;
    server
        .direct()
        .await
        .lease_revoke(lease.id().0)
        .await
        .unwrap();
    let took = lost(&lease).await;
    // At the next renewal, so before its time has passed.
    assert!(took < Duration::from_millis(2500), "{took:?}");
}

pub(crate) async fn a_lease_outlives_a_short_outage(server: Server) {
    let store = server.store("a");
    let lease = member(&store, "m", 4 * SHORT).await;
    let created = store.get("m").await.unwrap().unwrap();
    let mut health = store.health();
    server.proxy.cut();
    within(health.wait_for(|health| !health.connected))
        .await
        .unwrap();
    let why = health.borrow().last_error.clone();
    assert!(why.is_some(), "an outage has a cause");
    server.proxy.mend();
    within(health.wait_for(|health| health.connected))
        .await
        .unwrap();
    assert!(!lease.lost().is_cancelled());
    assert!(lease.remaining() > 3 * SHORT, "it was renewed");
    assert_eq!(store.get("m").await.unwrap(), Some(created));
}
