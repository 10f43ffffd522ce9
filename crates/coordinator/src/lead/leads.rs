//! The leads that run in this process, by group: whom a call that names a group is for.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use tonic::{Code, Status};

use super::Lead;
use crate::limits;
use crate::status::{reason, status};

/// How long a call waits for a lead that the store may have named before it has begun.
const BEGINNING: Duration = Duration::from_millis(500);

/// The running leads. Clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Leads {
    running: watch::Sender<BTreeMap<String, Lead>>,
}

impl Leads {
    /// Enters a lead that has begun.
    pub(crate) fn enter(&self, group: &str, lead: Lead) {
        let name = group.to_owned();
        self.running
            .send_modify(|running| drop(running.insert(name, lead)));
    }

    /// Takes a lead out that is over.
    pub(crate) fn leave(&self, group: &str) {
        self.running
            .send_modify(|running| drop(running.remove(group)));
    }

    /// Waits until a group is not led here.
    pub(crate) async fn until_left(&self, group: &str) {
        let mut running = self.running.subscribe();
        let left = running.wait_for(|running| !running.contains_key(group));
        // Whoever waits keeps the other end.
        left.await.ok();
    }

    /// Returns the lead of a group.
    ///
    /// # Errors
    ///
    /// UNAVAILABLE with NOT_LEADER if it is not led here; whoever leads is in the membership store.
    pub(crate) async fn of(&self, group: &str) -> Result<Lead, Status> {
        let mut running = self.running.subscribe();
        let entered = running.wait_for(|running| running.contains_key(group));
        let entered = timeout(BEGINNING, entered).await;
        let lead = entered
            .ok()
            .and_then(Result::ok)
            .and_then(|running| running.get(group).cloned());
        lead.ok_or_else(|| {
            let why = format!("group '{group}' is not led here");
            let retry = Some(limits::RETRY_AFTER);
            status(Code::Unavailable, reason::NOT_LEADER, why, retry)
        })
    }
}
