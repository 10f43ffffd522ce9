//! Joins a [`Candidate`] to the membership store: what it is told, and what it asks for.
//!
//! One task per group holds the candidate; it watches the group's two keys, carries bids out, and says
//! on a channel whether this coordinator leads, and in which term.

use std::time::Duration;

use cluster::{Ask, Candidate, Heard, LeadRecord, Revision, Seat, record};
use spec::Term;
use store::{Change, Entry, LeaseId, Store, Txn};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::limits;

/// Whether this coordinator leads a group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Office {
    /// Its term, if it leads.
    pub(crate) term: Option<Term>,
    /// Who leads, as far as is known; it may be this coordinator.
    pub(crate) lead: Option<LeadRecord>,
}

/// A group whose lead is elected.
pub(crate) struct Election {
    pub(crate) store: Store,
    pub(crate) group: String,
    pub(crate) candidate: Candidate,
    /// The coordinator's lease.
    pub(crate) lease: watch::Receiver<Option<LeaseId>>,
    /// Terms that workers have obeyed, as the running lead hears of them.
    pub(crate) outranked: mpsc::Receiver<Term>,
    pub(crate) office: watch::Sender<Office>,
    /// Cancelled when the coordinator is about to end.
    pub(crate) draining: CancellationToken,
}

/// The group's keys as they were seen last.
#[derive(Default)]
struct View {
    seat: Seat,
    /// Keys that hold something unreadable, and when it was put: bids replace it.
    unreadable: Vec<(String, Revision)>,
}

impl Election {
    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let prefix = record::group_prefix(&self.group);
        let mut changes = match self.store.watch(&prefix) {
            Ok(changes) => changes,
            Err(error) => {
                tracing::error!(group = self.group, %error, "its lead cannot be elected");
                return;
            }
        };
        let began = Instant::now();
        let mut tick = interval(limits::TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut view, mut bids) = (View::default(), JoinSet::new());
        let (mut drains, mut outranks) = (false, true);
        loop {
            let heard = tokio::select! {
                () = stop.cancelled() => return,
                change = changes.next() => match change {
                    Some(change) => self.see(&mut view, change),
                    None => return,
                },
                Ok(()) = self.lease.changed() => {
                    let lease = *self.lease.borrow_and_update();
                    Some(Heard::Lease(lease.map(|lease| lease.0)))
                }
                term = self.outranked.recv(), if outranks => {
                    outranks = term.is_some();
                    term.map(Heard::Outranked)
                }
                () = self.draining.cancelled(), if !drains => {
                    drains = true;
                    Some(Heard::Draining)
                }
                Some(_) = bids.join_next() => Some(Heard::Decided),
                _ = tick.tick() => Some(Heard::Tick),
            };
            if let Some(heard) = heard {
                let asks = self.candidate.on(heard, began.elapsed());
                for ask in asks {
                    self.obey(ask, &view, &mut bids);
                }
                self.publish(&view);
            }
        }
    }

    fn see(&self, view: &mut View, change: Change) -> Option<Heard> {
        match change {
            Change::Reset(entries, _) => {
                *view = View::default();
                for entry in entries {
                    view.put(&self.group, entry);
                }
            }
            Change::Put(entry) => view.put(&self.group, entry),
            Change::Delete(key, _) => view.remove(&self.group, &key),
            Change::Disconnected => return Some(Heard::Disconnected),
            // What follows brings the seat.
            Change::Connected => {}
        }
        Some(Heard::Seat(view.seat.clone()))
    }

    fn obey(&self, ask: Ask, view: &View, bids: &mut JoinSet<()>) {
        let (lead_key, last_key) = (record::lead_key(&self.group), record::last_key(&self.group));
        let txn = match ask {
            Ask::Bid {
                record,
                lease,
                lead,
                last,
            } => {
                let value = record::write_lead(&record);
                let (lead, last) = (view.at(&lead_key, lead), view.at(&last_key, last));
                let txn = unchanged(Txn::new(), &lead_key, lead);
                unchanged(txn, &last_key, last)
                    .put(&lead_key, value.clone(), Some(LeaseId(lease)))
                    .put(&last_key, value, None)
            }
            Ask::Leave { lead } => unchanged(Txn::new(), &lead_key, lead).delete(&lead_key),
            Ask::Lead(term) => {
                return tracing::info!(group = self.group, %term, "this coordinator leads");
            }
            Ask::StepDown { why } => {
                return tracing::info!(group = self.group, why, "this coordinator leads no more");
            }
        };
        let (store, group) = (self.store.clone(), self.group.clone());
        bids.spawn(async move {
            match store.txn(txn).await {
                Ok(outcome) => tracing::debug!(group, won = outcome.succeeded, "a bid is decided"),
                Err(error) => tracing::warn!(group, %error, "a bid has no answer"),
            }
        });
    }

    fn publish(&self, view: &View) {
        let office = Office {
            term: self.candidate.leading(),
            lead: view.seat.lead.as_ref().map(|(lead, _)| lead.clone()),
        };
        self.office.send_if_modified(|known| {
            let changed = *known != office;
            *known = office;
            changed
        });
    }
}

/// Demands that a key is as it was at a revision; 0 for no key.
fn unchanged(txn: Txn, key: &str, revision: Revision) -> Txn {
    match revision {
        0 => txn.if_absent(key),
        revision => txn.if_modified_at(key, revision),
    }
}

impl View {
    fn put(&mut self, group: &str, entry: Entry) {
        self.remove(group, &entry.key);
        let (is_lead, is_last) = (
            entry.key == record::lead_key(group),
            entry.key == record::last_key(group),
        );
        if !is_lead && !is_last {
            return;
        }
        match record::read_lead(&entry.key, &entry.value) {
            Ok(lead) if is_lead => {
                self.seat.lease = entry.lease.map_or(0, |lease| lease.0);
                self.seat.lead = Some((lead, entry.mod_revision));
            }
            Ok(last) => self.seat.last = Some((last, entry.mod_revision)),
            Err(corrupt) => {
                tracing::error!(%corrupt, "this record is not used; the next lead replaces it");
                self.unreadable.push((entry.key, entry.mod_revision));
            }
        }
    }

    fn remove(&mut self, group: &str, key: &str) {
        self.unreadable.retain(|(unreadable, _)| unreadable != key);
        if key == record::lead_key(group) {
            (self.seat.lead, self.seat.lease) = (None, 0);
        }
        if key == record::last_key(group) {
            self.seat.last = None;
        }
    }

    /// Returns the revision a bid has to find: the candidate takes what cannot be read for nothing.
    fn at(&self, key: &str, revision: Revision) -> Revision {
        let mut unreadable = self.unreadable.iter();
        let found = unreadable.find(|(unreadable, _)| unreadable == key);
        found.map_or(revision, |(_, revision)| *revision)
    }
}

/// Keeps the coordinator's own lease and record: takes a lease out, puts the record under it, and
/// begins anew when it is lost.
pub(crate) async fn keep_lease(
    store: Store,
    record: (String, Vec<u8>),
    lease: watch::Sender<Option<LeaseId>>,
    stop: CancellationToken,
) {
    let (key, value) = record;
    loop {
        let granted = tokio::select! {
            granted = store.lease(limits::COORDINATOR_LEASE) => granted,
            () = stop.cancelled() => return,
        };
        let held = match granted {
            Ok(held) => held,
            Err(error) => {
                tracing::debug!(%error, "no lease yet");
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        };
        let put = Txn::new().put(&key, value.clone(), Some(held.id()));
        if let Err(error) = store.txn(put).await {
            tracing::warn!(%error, "not in the membership store yet");
            continue;
        }
        lease.send_replace(Some(held.id()));
        tokio::select! {
            () = held.lost().cancelled_owned() => {}
            () = stop.cancelled() => {
                lease.send_replace(None);
                drop(held.revoke().await);
                return;
            }
        }
        lease.send_replace(None);
    }
}
