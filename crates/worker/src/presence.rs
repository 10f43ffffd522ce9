//! The worker's record in the membership store, put again for as long as the worker lives.
//!
//! The newest start of a name has it: whoever starts takes a record over whose worker does not answer
//! any more. If the other one does answer there are two, and the newcomer is refused.

use std::time::Duration;

use prost::Message;
use proto::internal as wire;
use proto::internal::step_service_client::StepServiceClient;
use store::{Change, Entry, Lease, Store, Txn};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Endpoint;

use crate::error::{Error, Result};
use crate::limits::{BACKOFF_MAX, IDENTIFY_LIMIT, LEASE};

/// Keeps one worker's record.
pub(crate) struct Presence {
    pub(crate) store: Store,
    /// What the worker says about itself.
    pub(crate) registration: wire::Registration,
    /// Cancelled when the worker is about to end.
    pub(crate) draining: CancellationToken,
}

/// How a claim of the name went.
enum Claim {
    Held,
    /// Another worker has it, and lives.
    Taken(String),
    /// The record changed meanwhile, or the store did not answer.
    Again,
}

/// Why a record is not held, or no longer.
enum Lost {
    /// The worker ends.
    Shutdown,
    /// The record or its lease is gone: it is put again.
    Gone,
    /// Another worker of this name has it.
    Taken(String),
}

impl Presence {
    /// Keeps the record until `shutdown`, then takes it back.
    ///
    /// # Errors
    ///
    /// [`Error::NameTaken`]; a store that is not there is waited for.
    pub(crate) async fn keep(self, shutdown: CancellationToken) -> Result<()> {
        loop {
            let lease = tokio::select! {
                lease = self.lease() => lease,
                () = shutdown.cancelled() => return Ok(()),
            };
            let lost = self.hold(&lease, &shutdown).await;
            match lost {
                Lost::Shutdown => {
                    if let Err(error) = lease.revoke().await {
                        tracing::debug!(%error, "the record ends with its lease");
                    }
                    return Ok(());
                }
                Lost::Gone => {}
                Lost::Taken(by) => return Err(self.taken(by)),
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
                    tracing::info!(name = self.registration.name, "in the membership store");
                    return self.watch(lease, shutdown).await;
                }
                Claim::Taken(by) => return Lost::Taken(by),
                Claim::Again => sleep(BACKOFF_MAX / 4).await,
            }
        }
        Lost::Gone
    }

    async fn lease(&self) -> Lease {
        loop {
            match self.store.lease(LEASE).await {
                Ok(lease) => return lease,
                // The store itself has paused between its tries and said so.
                Err(error) => tracing::debug!(%error, "no lease yet"),
            }
            sleep(BACKOFF_MAX / 4).await;
        }
    }

    async fn claim(&self, lease: &Lease) -> Claim {
        let key = records::member_key(&self.registration.name);
        let before = match self.store.get(&key).await {
            Ok(before) => before,
            Err(error) => {
                tracing::warn!(%error, "not in the membership store yet");
                return Claim::Again;
            }
        };
        if let Some(by) = self.other(before.as_ref()).await {
            return Claim::Taken(by);
        }
        let txn = match before {
            None => Txn::new().if_absent(&key),
            Some(before) => Txn::new().if_modified_at(&key, before.mod_revision),
        };
        let value = self.value();
        match self.store.txn(txn.put(&key, value, Some(lease.id()))).await {
            Ok(outcome) if outcome.succeeded => Claim::Held,
            Ok(_) => Claim::Again,
            Err(error) => {
                tracing::warn!(%error, "not in the membership store yet");
                Claim::Again
            }
        }
    }

    fn value(&self) -> Vec<u8> {
        let record = wire::MemberRecord {
            registration: Some(self.registration.clone()),
            draining: self.draining.is_cancelled(),
        };
        record.encode_to_vec()
    }

    /// Returns where another live worker of this name is.
    async fn other(&self, entry: Option<&Entry>) -> Option<String> {
        let entry = entry?;
        let other = match records::read_member(&entry.key, &entry.value) {
            Ok(record) => record.registration?,
            Err(corrupt) => {
                tracing::warn!(%corrupt, "replacing a record that cannot be read");
                return None;
            }
        };
        if other.incarnation == self.registration.incarnation {
            return None;
        }
        let lives = identify(&other.address).await == Some(other.incarnation);
        lives.then_some(other.address)
    }

    /// Waits until the record is lost; meanwhile says in it that the worker drains, once it does.
    async fn watch(&self, lease: &Lease, shutdown: &CancellationToken) -> Lost {
        let key = records::member_key(&self.registration.name);
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
                    match self.claim(lease).await {
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
            match entry.map(|entry| records::read_member(&entry.key, &entry.value)) {
                Some(Ok(record)) if !self.is_mine(&record) => {
                    let by = record.registration.map(|other| other.address);
                    return Lost::Taken(by.unwrap_or_default());
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Lost::Gone,
            }
        }
    }

    fn is_mine(&self, record: &wire::MemberRecord) -> bool {
        let theirs = record.registration.as_ref().map(|other| other.incarnation);
        theirs == Some(self.registration.incarnation)
    }

    fn taken(&self, by: String) -> Error {
        Error::NameTaken {
            name: self.registration.name.clone(),
            by,
        }
    }
}

/// Asks a worker which start it is; `None` if it does not answer in time.
async fn identify(address: &str) -> Option<u64> {
    let endpoint = Endpoint::from_shared(address.to_owned()).ok()?;
    let endpoint = endpoint.connect_timeout(IDENTIFY_LIMIT);
    let ask = async {
        let channel = endpoint.connect().await.ok()?;
        let request = wire::IdentifyRequest {};
        let answer = StepServiceClient::new(channel).identify(request).await;
        Some(answer.ok()?.into_inner().incarnation)
    };
    let limit: Duration = IDENTIFY_LIMIT;
    timeout(limit, ask).await.ok().flatten()
}
