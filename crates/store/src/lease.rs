//! Leases: keys that end with the process that put them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use etcd_client::LeaseTimeToLiveOptions;
use telemetry::labels::StoreOp;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::Code;
use tracing::{debug, warn};

use crate::backoff::Backoff;
use crate::client::LeaseId;
use crate::error::Error;
use crate::limits::{ATTEMPT_LIMIT, MAX_LEASE_TTL};
use crate::link::{Attempts, Link, Repeat, Services};

/// A lease that keeps itself alive, every third of its time.
///
/// It counts on this machine's monotonic clock, from before a renewal was sent, so it is lost here no
/// later than in the store: whoever acts only while it is held acts alone. A process that was stopped
/// finds [`Lease::remaining`] at zero before any task has run again.
#[derive(Debug)]
pub struct Lease {
    id: LeaseId,
    ttl: Duration,
    link: Arc<Link>,
    end: Arc<End>,
    task: JoinHandle<()>,
}

/// When a lease ends, if it is not renewed.
#[derive(Debug)]
struct End {
    at: Mutex<Instant>,
    lost: CancellationToken,
}

/// What a renewal found.
enum Renewal {
    /// It was renewed, at this endpoint.
    Done(String),
    Gone,
    Failed(String),
}

impl Lease {
    pub(crate) async fn grant(link: Arc<Link>, ttl: Duration) -> Result<Self, Error> {
        if ttl < Duration::from_secs(1) || ttl > MAX_LEASE_TTL {
            return Err(Error::Ttl {
                ttl,
                limit: MAX_LEASE_TTL,
            });
        }
        let seconds =
            i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX) + i64::from(ttl.subsec_nanos() > 0);
        // A lease of an answer that was lost ends by itself, so asking twice does no harm.
        let grant = |services: Services| {
            let (mut lease, sent) = (services.lease, Instant::now());
            async move { Ok((sent, lease.grant(seconds, None).await?)) }
        };
        let (sent, answer) = link
            .call(StoreOp::Grant, "take out a lease", Repeat::Harmless, grant)
            .await?;
        let ttl = Duration::from_secs(answer.ttl().try_into().unwrap_or(0));
        let id = LeaseId(answer.id());
        let end = Arc::new(End {
            at: Mutex::new(sent + ttl),
            lost: CancellationToken::new(),
        });
        link.observer().lease(id, Some(sent + ttl));
        let keeper = Keeper {
            id,
            ttl,
            link: Arc::clone(&link),
            end: Arc::clone(&end),
        };
        Ok(Self {
            id,
            ttl,
            link,
            end,
            task: tokio::spawn(keeper.run(sent)),
        })
    }

    /// Returns the lease's name in the store.
    #[must_use]
    pub fn id(&self) -> LeaseId {
        self.id
    }

    /// Returns how long it lasts after a renewal; the store may have given more than was asked for.
    #[must_use]
    pub fn ttl(&self) -> Duration {
        self.ttl
    }

    /// Returns how long it certainly lasts yet: zero once it is lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        if self.end.lost.is_cancelled() {
            return Duration::ZERO;
        }
        self.end.at().saturating_duration_since(Instant::now())
    }

    /// Returns a token that is cancelled when the lease is held no longer: its time has passed without
    /// a renewal, the store has said that it is gone, or it was revoked or dropped. It never comes
    /// back; whoever wants to go on takes out another one.
    #[must_use]
    pub fn lost(&self) -> CancellationToken {
        self.end.lost.clone()
    }

    /// Ends it now, and its keys with it.
    ///
    /// # Errors
    ///
    /// If the store cannot be reached or refuses; then it ends with its time. One that is gone already
    /// is no error.
    pub async fn revoke(self) -> Result<(), Error> {
        self.ends();
        let LeaseId(id) = self.id;
        let revoke = |services: Services| {
            let mut lease = services.lease;
            async move { lease.revoke(id).await }
        };
        let revoked = (self.link)
            .call(StoreOp::Revoke, "revoke a lease", Repeat::Harmless, revoke)
            .await;
        match revoked {
            Ok(_) => Ok(()),
            Err(Error::Refused {
                code: Code::NotFound,
                ..
            }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Renews it no more.
    fn ends(&self) {
        self.task.abort();
        self.end.lost.cancel();
        self.link.observer().lease(self.id, None);
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.ends();
    }
}

impl End {
    fn at(&self) -> Instant {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn renewed(&self, end: Instant) {
        *self.at.lock().unwrap_or_else(PoisonError::into_inner) = end;
    }
}

/// Renews a lease until it is lost.
struct Keeper {
    id: LeaseId,
    ttl: Duration,
    link: Arc<Link>,
    end: Arc<End>,
}

impl Keeper {
    async fn run(self, granted: Instant) {
        let mut attempts = Attempts::new(Backoff::up_to(self.ttl / 10));
        let mut next = granted + self.ttl / 3;
        loop {
            let end = self.end.at();
            // Without `biased` a process that was stopped might renew what it has lost.
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(end) => {
                    return self.lost("its time has passed without a renewal");
                }
                () = tokio::time::sleep_until(next) => {}
            }
            let sent = Instant::now();
            next = match self
                .renew(end.min(sent + ATTEMPT_LIMIT.min(self.ttl / 3)))
                .await
            {
                // The answer may lie in a process that was stopped.
                Renewal::Done(endpoint) if Instant::now() < end => {
                    self.end.renewed(sent + self.ttl);
                    let observer = self.link.observer();
                    observer.lease(self.id, Some(sent + self.ttl));
                    self.link.up(&endpoint);
                    attempts.succeeded();
                    sent + self.ttl / 3
                }
                Renewal::Done(_) => continue,
                Renewal::Gone => return self.lost("the store does not know it any more"),
                Renewal::Failed(why) => {
                    debug!(lease = self.id.0, why, "a lease could not be renewed");
                    Instant::now() + attempts.failed(&self.link, &why)
                }
            };
        }
    }

    fn lost(&self, why: &str) {
        warn!(lease = self.id.0, why, "a lease is lost");
        self.link.observer().lease(self.id, None);
        self.end.lost.cancel();
    }

    async fn renew(&self, limit: Instant) -> Renewal {
        let peer = match self.link.peer().await {
            Ok(peer) => peer,
            Err(failure) => return Renewal::Failed(failure.why()),
        };
        let renewal = renew(peer.services.clone(), self.id);
        let observer = self.link.observer();
        match observer.within(StoreOp::Renew, limit, renewal).await {
            Ok(true) => Renewal::Done(peer.address),
            Ok(false) => Renewal::Gone,
            Err(failure) => {
                self.link.leave(peer.index);
                Renewal::Failed(failure.why())
            }
        }
    }
}

/// Renews once; says whether there is such a lease.
async fn renew(services: Services, LeaseId(id): LeaseId) -> Result<bool, etcd_client::Error> {
    let mut lease = services.lease;
    // One stream each: they are few, and none of them can be stuck at an endpoint that is gone.
    let error = match lease.keep_alive(id).await {
        Ok(_) => return Ok(true),
        Err(error) => error,
    };
    // The client has one word for a lease that is gone and for a stream that is.
    if matches!(error, etcd_client::Error::LeaseKeepAliveError(_)) {
        let options = LeaseTimeToLiveOptions::new();
        let left = lease.time_to_live(id, Some(options)).await?.ttl();
        if left < 0 {
            return Ok(false);
        }
    }
    Err(error)
}
