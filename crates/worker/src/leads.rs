//! Who leads this worker's group, as the membership store says it.

use proto::internal::LeadRecord;
use store::{Change, Entry, Store};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Follows the group's lead until `shutdown`.
///
/// A store that is gone says nothing, so the last lead it named is kept: serving goes on without it.
pub(crate) async fn follow(
    store: Store,
    group: String,
    leads: watch::Sender<Option<LeadRecord>>,
    shutdown: CancellationToken,
) {
    let key = records::lead_key(&group);
    let mut changes = match store.watch(&key) {
        Ok(changes) => changes,
        Err(error) => {
            tracing::error!(%error, "the group's lead cannot be followed");
            return;
        }
    };
    loop {
        let change = tokio::select! {
            change = changes.next() => change,
            () = shutdown.cancelled() => return,
        };
        let lead = match change {
            Some(Change::Reset(entries, _)) => {
                let entry = entries.into_iter().find(|entry| entry.key == key);
                entry.and_then(|entry| read(&entry))
            }
            Some(Change::Put(entry)) if entry.key == key => read(&entry),
            // Nobody leads, as far as the store knows; if the lead lives it is about to put its key
            // again, and if it does not its stream has ended.
            Some(_) => continue,
            None => return,
        };
        if lead.is_some() {
            leads.send_if_modified(|known| {
                let changed = *known != lead;
                *known = lead;
                changed
            });
        }
    }
}

fn read(entry: &Entry) -> Option<LeadRecord> {
    let record = records::read_lead(&entry.key, &entry.value);
    record
        .inspect_err(|corrupt| tracing::warn!(%corrupt, "this record is not used"))
        .ok()
}
