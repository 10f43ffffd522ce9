//! What a client tells of the store.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use store::{Change, Store, Txn};
use telemetry::StoreEvent;
use telemetry::labels::{StoreOp, StoreOutcome};

use crate::keys::put;
use crate::server::{Server, within};

/// What was told, in order.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<StoreEvent>>>);

impl Told {
    fn by(store: &Store) -> Self {
        let told = Self::default();
        let telling = told.clone();
        store.observe(move |event| telling.0.lock().unwrap().push(event));
        told
    }

    fn any(&self, is_it: impl Fn(&StoreEvent) -> bool) -> bool {
        self.0.lock().unwrap().iter().any(is_it)
    }

    fn has(&self, op: StoreOp, outcome: StoreOutcome) -> bool {
        self.any(|event| {
            matches!(event, StoreEvent::Request { op: its, outcome: came, .. }
                if *its == op && *came == outcome)
        })
    }

    fn last_lease(&self) -> Option<(i64, Option<Instant>)> {
        let told = self.0.lock().unwrap();
        told.iter().rev().find_map(|event| match event {
            StoreEvent::Lease { id, until } => Some((*id, *until)),
            _ => None,
        })
    }
}

pub(crate) async fn requests_leases_and_broken_watches_are_told(server: Server) {
    let store = server.store("a");
    let told = Told::by(&store);
    let second = Told::by(&store);
    put(&store, "k", "1").await;
    store.get("k").await.unwrap();
    let lease = store.lease(Duration::from_secs(2)).await.unwrap();
    let (id, granted) = told.last_lease().unwrap();
    assert_eq!(id, lease.id().0);
    assert!(granted.unwrap() > Instant::now());
    let mut watch = store.watch("").unwrap();
    assert_eq!(within(watch.next()).await, Some(Change::Connected));
    assert!(matches!(
        within(watch.next()).await,
        Some(Change::Reset(..))
    ));
    // A third of its time, and it is renewed.
    let renewed = async {
        while told.last_lease().unwrap().1 == granted {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(renewed).await;
    for op in [
        StoreOp::Read,
        StoreOp::Transaction,
        StoreOp::Grant,
        StoreOp::Renew,
        StoreOp::Watch,
    ] {
        assert!(told.has(op, StoreOutcome::Ok), "{op:?}");
    }
    let restarts = |told: &Told| told.any(|event| matches!(event, StoreEvent::WatchRestart));
    assert!(!restarts(&told));

    server.proxy.cut();
    assert_eq!(within(watch.next()).await, Some(Change::Disconnected));
    assert!(restarts(&told));
    store.get("k").await.unwrap_err();
    assert!(told.has(StoreOp::Read, StoreOutcome::Failed));
    within(lease.lost().cancelled()).await;
    let lost = async {
        while told.last_lease() != Some((id, None)) {
            tokio::task::yield_now().await;
        }
    };
    within(lost).await;

    server.proxy.mend();
    within(store.ready()).await;
    let unknown = Txn::new().put("k", "2", Some(store::LeaseId(7)));
    store.txn(unknown).await.unwrap_err();
    assert!(told.has(StoreOp::Transaction, StoreOutcome::Refused));
    let lease = store.lease(Duration::from_secs(60)).await.unwrap();
    let id = lease.id().0;
    assert!(matches!(told.last_lease(), Some((new, Some(_))) if new == id));
    within(lease.revoke()).await.unwrap();
    assert_eq!(told.last_lease(), Some((id, None)));
    assert!(told.has(StoreOp::Revoke, StoreOutcome::Ok));
    assert!(!second.any(|_| true), "the first one who asks is told");
}
