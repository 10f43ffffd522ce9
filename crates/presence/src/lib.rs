//! A process's record in the membership store, put again for as long as the process lives.
//!
//! The newest start of a name has it: whoever starts takes a record over whose process does not answer
//! any more. If the other one does answer there are two, and the newcomer is refused.

mod identity;
mod record;

use std::time::Duration;

use records::quarantine_key;
use sockets::Dialer;
use store::{Change, Entry, Lease, LeaseId, Store, Txn};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

pub use identity::{Identity, identity};
pub use record::Record;

/// How long a record outlives its process in the membership store. Streams tell of a death at once;
/// this is for everybody else.
const LEASE: Duration = Duration::from_secs(10);

/// Pause after something that the store did not do. The store itself has paused between its tries.
const PAUSE: Duration = Duration::from_millis(500);

/// How long a process that ends tries to take its record back: a store on this machine may have ended before it.
const LEAVE: Duration = Duration::from_secs(2);

/// Another live process has the name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{name}' is the name of another one, which answers at {by}: give each its own --name")]
pub struct Taken {
    /// The name.
    pub name: String,
    /// Where the other one is.
    pub by: String,
}

/// Keeps one process's record.
#[derive(Debug)]
pub struct Presence {
    /// The store.
    pub store: Store,
    /// Connects to other processes, to ask who they are.
    pub dialer: Dialer,
    /// What the process says of itself.
    pub record: Record,
    /// Told of the lease under which the record lies; none while it does not.
    pub lease: watch::Sender<Option<LeaseId>>,
    /// Cancelled when the process is about to end.
    pub draining: CancellationToken,
}

/// How a claim of the name went.
enum Claim {
    Held,
    /// Another process has it, and lives.
    Taken(String),
    /// The record changed meanwhile, or the store did not answer.
    Again,
}

/// Why a record is not held, or no longer.
enum Lost {
    /// The process ends.
    Shutdown,
    /// The record or its lease is gone: it is put again.
    Gone,
    /// Another process of this name has it.
    Taken(String),
}

impl Presence {
    /// Keeps the record until `shutdown`, then takes it back.
    ///
    /// # Errors
    ///
    /// [`Taken`]; a store that is not there is waited for.
    pub async fn keep(self, shutdown: CancellationToken) -> Result<(), Taken> {
        loop {
            let lease = tokio::select! {
                lease = self.take_lease() => lease,
                () = shutdown.cancelled() => return Ok(()),
            };
            let lost = self.hold(&lease, &shutdown).await;
            self.lease.send_replace(None);
            match lost {
                Lost::Shutdown => {
                    // If it fails, or the store is gone, the record ends with its lease.
                    if !matches!(timeout(LEAVE, lease.revoke()).await, Ok(Ok(()))) {
                        tracing::debug!("the record is left to the end of its lease");
                    }
                    return Ok(());
                }
                // Whatever takes it away may do so again at once.
                Lost::Gone => tokio::select! {
                    () = sleep(PAUSE) => {}
                    () = shutdown.cancelled() => return Ok(()),
                },
                Lost::Taken(by) => {
                    let name = self.record.name().to_owned();
                    return Err(Taken { name, by });
                }
            }
        }
    }

    /// Puts the record once, and waits until it is lost.
    async fn hold(&self, lease: &Lease, shutdown: &CancellationToken) -> Lost {
        while !lease.lost().is_cancelled() {
            let claim = tokio::select! {
                claim = self.claim(lease) => claim,
                () = shutdown.cancelled() => return Lost::Shutdown,
            };
            match claim {
                Claim::Held => {
                    tracing::info!(name = self.record.name(), "in the membership store");
                    self.lease.send_replace(Some(lease.id()));
                    return self.watch(lease, shutdown).await;
                }
                Claim::Taken(by) => return Lost::Taken(by),
                Claim::Again => tokio::select! {
                    () = sleep(PAUSE) => {}
                    () = shutdown.cancelled() => return Lost::Shutdown,
                },
            }
        }
        Lost::Gone
    }

    async fn take_lease(&self) -> Lease {
        loop {
            match self.store.lease(LEASE).await {
                Ok(lease) => return lease,
                Err(error) => tracing::debug!(%error, "no lease yet"),
            }
            sleep(PAUSE).await;
        }
    }

    async fn claim(&self, lease: &Lease) -> Claim {
        let key = self.record.key();
        let before = match self.store.get(&key).await {
            Ok(before) => before,
            Err(error) => {
                tracing::warn!(%error, "not in the membership store yet");
                return Claim::Again;
            }
        };
        let mut txn = match &before {
            None => Txn::new().if_absent(&key),
            Some(before) => Txn::new().if_modified_at(&key, before.mod_revision),
        };
        if let Some(before) = &before {
            match self.other(before).await {
                Ok(Some(by)) => return Claim::Taken(by),
                Ok(None) => {}
                Err(corrupt) => {
                    tracing::error!(%corrupt, "replacing a record that cannot be read");
                    txn = txn.put(quarantine_key(&key), before.value.clone(), None);
                }
            }
        }
        let value = self.record.value(self.draining.is_cancelled());
        match self.store.txn(txn.put(&key, value, Some(lease.id()))).await {
            Ok(outcome) if outcome.succeeded => Claim::Held,
            Ok(_) => Claim::Again,
            Err(error) => {
                tracing::warn!(%error, "not in the membership store yet");
                Claim::Again
            }
        }
    }

    /// Returns where another live process of this name is.
    async fn other(&self, entry: &Entry) -> Result<Option<String>, records::Corrupt> {
        let holder = self.record.holder(&entry.key, &entry.value)?;
        if holder.incarnation == self.record.incarnation() {
            return Ok(None);
        }
        let lives = identity::ask(&self.dialer, &holder.address).await == Some(holder.incarnation);
        Ok(lives.then_some(holder.address))
    }

    /// Waits until the record is lost; meanwhile says in it that the process drains, once it does.
    async fn watch(&self, lease: &Lease, shutdown: &CancellationToken) -> Lost {
        let key = self.record.key();
        let lost = lease.lost();
        let Ok(mut changes) = self.store.watch(&key) else {
            return Lost::Gone;
        };
        let mut told = self.draining.is_cancelled();
        loop {
            let change = tokio::select! {
                () = shutdown.cancelled() => return Lost::Shutdown,
                () = lost.cancelled() => return Lost::Gone,
                () = self.draining.cancelled(), if !told => {
                    told = true;
                    // The store may be gone already, and the process is not to wait for it.
                    let claim = tokio::select! {
                        claim = self.claim(lease) => claim,
                        () = shutdown.cancelled() => return Lost::Shutdown,
                    };
                    match claim {
                        Claim::Held => continue,
                        Claim::Taken(by) => return Lost::Taken(by),
                        Claim::Again => return Lost::Gone,
                    }
                }
                change = changes.next() => change,
            };
            let entry = match change {
                Some(Change::Reset(entries, _)) => entries.into_iter().find(|e| e.key == key),
                Some(Change::Put(entry)) if entry.key == key => Some(entry),
                Some(Change::Delete(deleted, _)) if deleted == key => None,
                Some(_) => continue,
                None => return Lost::Gone,
            };
            let holder = entry.map(|entry| self.record.holder(&entry.key, &entry.value));
            match holder {
                Some(Ok(holder)) if holder.incarnation != self.record.incarnation() => {
                    return Lost::Taken(holder.address);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Lost::Gone,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::internal::CoordinatorRecord;
    use sockets::Listener;
    use store::MemoryStore;
    use tokio::runtime::Runtime;
    use tokio::time::Instant;

    use super::*;

    /// What runs a store, which ends with it, and its connections too.
    struct Server(Option<Runtime>);

    impl Drop for Server {
        fn drop(&mut self) {
            // Another runtime may not wait for it.
            if let Some(runtime) = self.0.take() {
                runtime.shutdown_background();
            }
        }
    }

    async fn store() -> (Store, Server) {
        let listener = Listener::bind("127.0.0.1:0").await.unwrap();
        let endpoints = vec![listener.local_addr().to_string()];
        let (memory, runtime) = (MemoryStore::new(), Runtime::new().unwrap());
        let server = tonic::transport::Server::builder().add_routes(memory.routes());
        runtime.spawn(server.serve_with_incoming(listener));
        runtime.spawn(async move { memory.run(CancellationToken::new()).await });
        let store = Store::new(store::Config {
            endpoints,
            cluster: "test".into(),
            dialer: Dialer::default(),
        });
        (store.unwrap(), Server(Some(runtime)))
    }

    fn presence(store: &Store, address: &str) -> Presence {
        Presence {
            store: store.clone(),
            dialer: Dialer::default(),
            record: Record::Coordinator(CoordinatorRecord {
                name: "c0".into(),
                address: address.into(),
                ..CoordinatorRecord::default()
            }),
            lease: watch::Sender::new(None),
            draining: CancellationToken::new(),
        }
    }

    #[tokio::test]
    async fn a_process_that_ends_after_its_store_does_not_wait_for_it() {
        let (store, server) = store().await;
        let presence = presence(&store, "http://127.0.0.1:1");
        let (draining, mut lease) = (presence.draining.clone(), presence.lease.subscribe());
        let end = CancellationToken::new();
        let kept = tokio::spawn(presence.keep(end.clone()));
        lease.wait_for(Option::is_some).await.unwrap();
        drop(server);
        draining.cancel();
        // It is about to say in the store that it drains.
        sleep(PAUSE).await;
        let began = Instant::now();
        end.cancel();
        kept.await.unwrap().unwrap();
        assert!(began.elapsed() < LEAVE + 2 * PAUSE, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn a_record_that_is_lost_each_time_is_put_again_with_pauses() {
        let (store, _server) = store().await;
        // Its own process cannot read it.
        let presence = presence(&store, "nowhere");
        let (record, end) = (presence.record.clone(), CancellationToken::new());
        let began = Instant::now();
        let kept = tokio::spawn(presence.keep(end.clone()));
        sleep(PAUSE * 4).await;
        end.cancel();
        kept.await.unwrap().unwrap();
        let quarantined = store.get(&quarantine_key(&record.key())).await.unwrap();
        let changes = quarantined.map_or(0, |entry| entry.mod_revision);
        // In each turn it is put, and goes with its lease.
        let turns = began.elapsed().as_millis() / PAUSE.as_millis() + 2;
        assert!(
            changes > 0 && changes as u128 <= turns * 3,
            "{changes} changes in {turns} turns"
        );
    }
}
