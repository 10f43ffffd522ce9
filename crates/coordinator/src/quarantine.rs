//! Puts records aside that nobody can read and nobody's process will replace.
//!
//! A record with a lease is its process's matter: that one replaces it, or it goes with the process. One
//! without is some stranger's doing and would stay for ever; every coordinator looks for it, and the first
//! one moves it.
//!
//! This is about workers and coordinators alone. Keys of a group are replaced by whoever is elected to lead it; of
//! a group that nobody here leads they are named in the log, and stay.

use std::collections::BTreeMap;

use records::Corrupt;
use store::{Change, Entry, Store, Txn};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::limits;

/// What is looked through, and how its records are read.
const LOOKED_THROUGH: [(&str, Reads); 2] = [
    (records::MEMBERS, |key, bytes| {
        records::read_member(key, bytes).map(drop)
    }),
    (records::COORDINATORS, |key, bytes| {
        records::read_coordinator(key, bytes).map(drop)
    }),
];

type Reads = fn(&str, &[u8]) -> Result<(), Corrupt>;

/// Looks through workers and coordinators until `stop`.
pub(crate) async fn keep(store: Store, stop: CancellationToken) {
    let [members, coordinators] = LOOKED_THROUGH.map(|of| look_through(&store, of));
    tokio::select! {
        () = async { tokio::join!(members, coordinators); } => {}
        () = stop.cancelled() => {}
    }
}

async fn look_through(store: &Store, (prefix, reads): (&str, Reads)) {
    let mut changes = match store.watch(prefix) {
        Ok(changes) => changes,
        Err(error) => return tracing::error!(%error, prefix, "records cannot be looked through"),
    };
    let mut unreadable: BTreeMap<String, Entry> = BTreeMap::new();
    let mut again = interval(limits::PUT_ASIDE_AGAIN);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            _ = again.tick(), if !unreadable.is_empty() => {
                for entry in unreadable.values() {
                    put_aside(store, entry).await;
                }
                continue;
            }
        };
        let put = match change {
            Some(Change::Reset(entries, _)) => {
                unreadable.clear();
                entries
            }
            Some(Change::Put(entry)) => vec![entry],
            Some(Change::Delete(key, _)) => {
                unreadable.remove(&key);
                continue;
            }
            Some(Change::Connected | Change::Disconnected) => continue,
            None => return,
        };
        for entry in put {
            unreadable.remove(&entry.key);
            let Err(corrupt) = reads(&entry.key, &entry.value) else {
                continue;
            };
            tracing::error!(%corrupt, "a record that cannot be read");
            if entry.lease.is_none() {
                put_aside(store, &entry).await;
                unreadable.insert(entry.key.clone(), entry);
            }
        }
    }
}

/// Moves a record, if it is still as it was.
async fn put_aside(store: &Store, entry: &Entry) {
    let aside = records::quarantine_key(&entry.key);
    let txn = Txn::new()
        .if_modified_at(&entry.key, entry.mod_revision)
        .put(aside.clone(), entry.value.clone(), None)
        .delete(&entry.key);
    match store.txn(txn).await {
        Ok(outcome) if outcome.succeeded => {
            tracing::warn!(key = entry.key, aside, "it was put aside");
        }
        // Somebody else has done so, or has replaced it: the watch will tell.
        Ok(_) => {}
        Err(error) => tracing::debug!(%error, key = entry.key, "it is not put aside yet"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use prost::Message as _;
    use proto::internal::CoordinatorRecord;
    use sockets::{Dialer, Listener};
    use store::MemoryStore;
    use tokio::time::{sleep, timeout};
    use tonic::transport::Server;

    use super::*;

    async fn store() -> Store {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let endpoints = vec![listener.local_addr().to_string()];
        let memory = MemoryStore::new();
        let server = Server::builder().add_routes(memory.routes());
        tokio::spawn(server.serve_with_incoming(listener));
        tokio::spawn(async move { memory.run(CancellationToken::new()).await });
        let (cluster, dialer) = ("test".into(), Dialer::default());
        Store::new(store::Config {
            endpoints,
            cluster,
            dialer,
        })
        .unwrap()
    }

    async fn value(store: &Store, key: &str) -> Option<Vec<u8>> {
        store.get(key).await.unwrap().map(|entry| entry.value)
    }

    #[tokio::test]
    async fn what_nobody_can_read_and_nobody_holds_is_put_aside() {
        let (store, spoilt) = (store().await, b"\xff not a record".to_vec());
        let good = CoordinatorRecord {
            name: "good".into(),
            address: "http://good:7101".into(),
            ..CoordinatorRecord::default()
        };
        let good = good.encode_to_vec();
        let lease = store.lease(Duration::from_secs(60)).await.unwrap();
        let before = Txn::new()
            .put("members/ghost", spoilt.clone(), None)
            .put("members/held", spoilt.clone(), Some(lease.id()))
            .put("coordinators/good", good.clone(), None);
        store.txn(before).await.unwrap();
        let stop = CancellationToken::new();
        let kept = tokio::spawn(keep(store.clone(), stop.clone()));
        // This one comes later.
        let after = Txn::new().put("coordinators/ghost", spoilt.clone(), None);
        store.txn(after).await.unwrap();
        for key in ["members/ghost", "coordinators/ghost"] {
            let aside = records::quarantine_key(key);
            let moved = async {
                while value(&store, &aside).await.is_none() {
                    sleep(Duration::from_millis(10)).await;
                }
            };
            let moved = timeout(Duration::from_secs(20), moved).await;
            assert!(moved.is_ok(), "{key} stays");
            assert_eq!(value(&store, &aside).await, Some(spoilt.clone()));
            assert_eq!(value(&store, key).await, None);
        }
        assert_eq!(value(&store, "members/held").await, Some(spoilt));
        assert_eq!(value(&store, "coordinators/good").await, Some(good));
        stop.cancel();
        kept.await.unwrap();
    }
}
