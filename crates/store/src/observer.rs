//! Tells whoever looks what the client sees of the store.

use std::sync::OnceLock;

use telemetry::StoreEvent;
use telemetry::labels::{StoreOp, StoreOutcome};
use tokio::time::Instant;

use crate::client::LeaseId;
use crate::link::Failure;

/// Who is told.
#[derive(Default)]
pub(crate) struct Observer(OnceLock<Box<dyn Fn(StoreEvent) + Send + Sync>>);

impl Observer {
    /// Tells this one from now on, unless somebody is told already.
    pub(crate) fn tell(&self, observer: impl Fn(StoreEvent) + Send + Sync + 'static) {
        // The first one stays: a client belongs to one process.
        _ = self.0.set(Box::new(observer));
    }

    /// Waits for an answer until `limit`, and tells how that went.
    pub(crate) async fn within<T>(
        &self,
        op: StoreOp,
        limit: Instant,
        answer: impl Future<Output = Result<T, etcd_client::Error>>,
    ) -> Result<T, Failure> {
        let began = Instant::now();
        let answered = match tokio::time::timeout_at(limit, answer).await {
            Ok(answer) => answer.map_err(Failure::from),
            Err(_) => Err(Failure::Broken(format!(
                "no answer within {:.1} s",
                began.elapsed().as_secs_f64()
            ))),
        };
        let outcome = match &answered {
            Ok(_) => StoreOutcome::Ok,
            Err(Failure::Refused(..)) => StoreOutcome::Refused,
            Err(_) => StoreOutcome::Failed,
        };
        self.sees(StoreEvent::Request {
            op,
            outcome,
            took: began.elapsed(),
        });
        answered
    }

    /// Tells that a lease is held until then, or not any more.
    pub(crate) fn lease(&self, LeaseId(id): LeaseId, until: Option<Instant>) {
        let until = until.map(Instant::into_std);
        self.sees(StoreEvent::Lease { id, until });
    }

    pub(crate) fn watch_restarts(&self) {
        self.sees(StoreEvent::WatchRestart);
    }

    fn sees(&self, event: StoreEvent) {
        if let Some(observer) = self.0.get() {
            observer(event);
        }
    }
}
