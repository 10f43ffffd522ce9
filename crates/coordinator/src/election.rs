//! Joins a [`Candidate`] to the membership store: what it is told, and what it asks for.
//!
//! One task per group holds the candidate; it watches the group's two keys, carries bids out, and says
//! on a channel whether this coordinator leads, and in which term.

use std::time::Duration;

use cluster::{Ask, Candidate, Heard, Revision, Seat};
use prost::Message as _;
use spec::Term;
use store::{Change, Entry, LeaseId, Store, Txn};
use telemetry::CoordinatorTelemetry;
use telemetry::labels::{Election as Outcome, Group};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::lead::HandOver;
use crate::limits;
use crate::tenure::{Office, from_record, to_record};

/// A group whose lead is elected.
pub(crate) struct Election {
    pub(crate) store: Store,
    pub(crate) group: String,
    /// What shows operators the election, and the group's place in it.
    pub(crate) shown: (CoordinatorTelemetry, usize),
    pub(crate) candidate: Candidate,
    /// The coordinator's lease.
    pub(crate) lease: watch::Receiver<Option<LeaseId>>,
    /// Terms that workers have obeyed, as the running lead hears of them.
    pub(crate) outranked: watch::Receiver<Term>,
    /// Where this coordinator's lead is told, while it leads.
    pub(crate) office: watch::Sender<Option<Office>>,
    /// How often it has stepped down.
    pub(crate) resigned: u64,
    /// Orders that another coordinator shall lead.
    pub(crate) orders: mpsc::Receiver<HandOver>,
    /// Cancelled when the coordinator is about to end.
    pub(crate) draining: CancellationToken,
}

/// Returns how long a group's seat has to be empty before this coordinator bids for it, at most 300 ms.
/// It differs from group to group, so that one coordinator does not get all leads.
pub(crate) fn patience(name: &str, group: &str) -> Duration {
    let letters = name.bytes().chain(group.bytes());
    let mixed = letters.fold(0_u64, |sum, letter| {
        sum.wrapping_mul(131) + u64::from(letter)
    });
    Duration::from_millis(mixed % 300)
}

/// The group's keys as they were seen last.
#[derive(Default)]
struct View {
    seat: Seat,
    /// What cannot be read under our keys: bids put it aside and replace it.
    unreadable: Vec<Entry>,
}

impl Election {
    /// Runs until `stop`.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let prefix = records::group_prefix(&self.group);
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
        let mut drains = false;
        let vitals = self.shown.0.vitals();
        let pulse = vitals.pulse("election", limits::LIVENESS);
        loop {
            pulse.beat();
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
                Ok(()) = self.outranked.changed() => {
                    let term = *self.outranked.borrow_and_update();
                    Some(Heard::Outranked(term))
                }
                Some(HandOver { to, lease }) = self.orders.recv() => {
                    tracing::info!(group = self.group, to = to.name, "the lead is handed over");
                    Some(Heard::HandOver { to, lease: lease.0 })
                }
                () = self.draining.cancelled(), if !drains => {
                    drains = true;
                    Some(Heard::Draining)
                }
                Some(decided) = bids.join_next() => {
                    // A bid without an answer may have been won; the seat will show.
                    if decided.is_ok_and(|won: bool| !won) {
                        self.count(Outcome::Lost);
                    }
                    Some(Heard::Decided)
                }
                _ = tick.tick() => Some(Heard::Tick),
            };
            if let Some(heard) = heard {
                let asks = self.candidate.on(heard, began.elapsed());
                for ask in asks {
                    self.obey(ask, &view, &mut bids);
                }
                self.publish(&view.seat);
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

    fn obey(&mut self, ask: Ask, view: &View, bids: &mut JoinSet<bool>) {
        let (lead_key, last_key) = (
            records::lead_key(&self.group),
            records::last_key(&self.group),
        );
        let txn = match ask {
            Ask::Bid {
                record,
                lease,
                lead,
                last,
            } => {
                let value = to_record(&record).encode_to_vec();
                let (lead, last) = (view.at(&lead_key, lead), view.at(&last_key, last));
                let txn = unchanged(Txn::new(), &lead_key, lead);
                // In this order: who sees its term in the last key first would take it for used before.
                view.put_aside(unchanged(txn, &last_key, last))
                    .put(&lead_key, value.clone(), Some(LeaseId(lease)))
                    .put(&last_key, value, None)
            }
            Ask::Leave { lead } => unchanged(Txn::new(), &lead_key, lead).delete(&lead_key),
            Ask::Lead(term) => {
                let office = *self.office.borrow();
                if office.is_none_or(|office| office.tenure != self.resigned) {
                    self.count(Outcome::Won);
                }
                return tracing::info!(group = self.group, %term, "this coordinator leads");
            }
            Ask::StepDown { why } => {
                self.resigned += 1;
                self.count(Outcome::Resigned);
                return tracing::info!(group = self.group, why, "this coordinator leads no more");
            }
        };
        let (store, group) = (self.store.clone(), self.group.clone());
        bids.spawn(async move {
            match store.txn(txn).await {
                Ok(outcome) => {
                    tracing::debug!(group, won = outcome.succeeded, "a bid is decided");
                    outcome.succeeded
                }
                Err(error) => {
                    tracing::warn!(group, %error, "a bid has no answer");
                    true
                }
            }
        });
    }

    fn count(&self, outcome: Outcome) {
        let (telemetry, group) = &self.shown;
        let elections = &telemetry.metrics().elections;
        elections.add((Group(*group), outcome), 1);
    }

    fn publish(&self, seat: &Seat) {
        let term = self.candidate.leading();
        let (telemetry, group) = (&self.shown.0, Group(self.shown.1));
        let metrics = telemetry.metrics();
        metrics
            .leader
            .set(group, f64::from(u8::from(term.is_some())));
        let led = seat.lead.as_ref().or(seat.last.as_ref());
        if let Some(known) = term.or(led.map(|(lead, _)| lead.term)) {
            metrics.term.set(group, known.0 as f64);
        }
        let office = term.map(|term| Office {
            tenure: self.resigned,
            term,
        });
        self.office
            .send_if_modified(|known| std::mem::replace(known, office) != office);
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
            entry.key == records::lead_key(group),
            entry.key == records::last_key(group),
        );
        if !is_lead && !is_last {
            return;
        }
        match records::read_lead(&entry.key, &entry.value) {
            Ok(lead) if is_lead => {
                self.seat.lease = entry.lease.map_or(0, |lease| lease.0);
                self.seat.lead = Some((from_record(lead), entry.mod_revision));
            }
            Ok(last) => self.seat.last = Some((from_record(last), entry.mod_revision)),
            Err(corrupt) => {
                tracing::error!(%corrupt, "this record is not used; the next lead replaces it");
                self.unreadable.push(entry);
            }
        }
    }

    fn remove(&mut self, group: &str, key: &str) {
        self.unreadable.retain(|unreadable| unreadable.key != key);
        if key == records::lead_key(group) {
            (self.seat.lead, self.seat.lease) = (None, 0);
        }
        if key == records::last_key(group) {
            self.seat.last = None;
        }
    }

    /// Keeps what cannot be read under keys of its own, for whoever wants to know what happened.
    fn put_aside(&self, txn: Txn) -> Txn {
        self.unreadable.iter().fold(txn, |txn, entry| {
            txn.put(
                records::quarantine_key(&entry.key),
                entry.value.clone(),
                None,
            )
        })
    }

    /// Returns the revision a bid has to find: the candidate takes what cannot be read for nothing.
    fn at(&self, key: &str, revision: Revision) -> Revision {
        let mut unreadable = self.unreadable.iter();
        let found = unreadable.find(|unreadable| unreadable.key == key);
        found.map_or(revision, |unreadable| unreadable.mod_revision)
    }
}
