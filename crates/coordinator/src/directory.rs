//! Who is there, as the membership store says it: the leads of all groups, and other coordinators.
//!
//! A store that is gone says nothing, so what it said last is kept: serving goes on without it.

use std::collections::BTreeMap;
use std::time::Duration;

use proto::internal::{CoordinatorRecord, LeadRecord};
use records::Corrupt;
use store::{Change, Entry, Revision, Store};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::front::Addresses;

/// A group whose lead is missing from the store is not forgotten before this: longer than any election.
const FORGET: Duration = Duration::from_secs(60);

/// The leads that were seen, and since when one is missing.
struct Leads {
    seen: BTreeMap<String, (LeadRecord, Option<Instant>)>,
    /// How long a group is known that has no lead.
    forget: Duration,
}

impl Leads {
    /// Nobody was seen yet. Fronts hold requests for this long: meanwhile a group that has no lead is
    /// one that cannot tell what it knows, and not one that is not there.
    fn new(hold: Duration) -> Self {
        Self {
            seen: BTreeMap::new(),
            forget: FORGET.max(hold),
        }
    }

    fn put(&mut self, entry: &Entry) {
        let Some(group) = records::group_of_lead(&entry.key) else {
            return;
        };
        if let Some(lead) = read(records::read_lead, entry) {
            self.seen.insert(group.to_owned(), (lead, None));
        }
    }

    fn miss(&mut self, key: &str) {
        let group = records::group_of_lead(key);
        if let Some((_, missing)) = group.and_then(|group| self.seen.get_mut(group)) {
            missing.get_or_insert_with(Instant::now);
        }
    }

    fn forget(&mut self) {
        let forget = self.forget;
        self.seen
            .retain(|_, (_, missing)| missing.is_none_or(|since| since.elapsed() < forget));
    }

    fn addresses(&self) -> Addresses {
        let leads = self.seen.iter();
        leads
            .map(|(group, (lead, _))| (group.clone(), lead.address.clone()))
            .collect()
    }
}

/// Follows the leads of all groups until `stop`, for fronts that hold requests for this long.
pub(crate) async fn follow_leads(
    store: Store,
    hold: Duration,
    addresses: watch::Sender<Addresses>,
    stop: CancellationToken,
) {
    let mut changes = match store.watch(records::GROUPS) {
        Ok(changes) => changes,
        Err(error) => return tracing::error!(%error, "leads cannot be followed"),
    };
    let mut leads = Leads::new(hold);
    let mut tick = interval(FORGET / 12);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => leads.forget(),
            change = changes.next() => match change {
                Some(Change::Reset(entries, _)) => {
                    let groups: Vec<String> = leads.seen.keys().cloned().collect();
                    groups.iter().for_each(|group| leads.miss(&records::lead_key(group)));
                    entries.iter().for_each(|entry| leads.put(entry));
                }
                Some(Change::Put(entry)) => leads.put(&entry),
                Some(Change::Delete(key, _)) => leads.miss(&key),
                Some(Change::Connected | Change::Disconnected) => {}
                None => return,
            },
        }
        let now = leads.addresses();
        addresses.send_if_modified(|known| {
            let changed = *known != now;
            *known = now;
            changed
        });
    }
}

/// The coordinators that were seen, and when each was first put.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peers(BTreeMap<String, (CoordinatorRecord, Revision)>);

impl Peers {
    /// Says whether another coordinator could take the lead of a group over.
    pub(crate) fn could_lead(&self, group: &str, me: &str) -> bool {
        let mut others = self.0.values().map(|(record, _)| record);
        others.any(|other| {
            let leads = other.groups.iter().any(|its| its == group);
            other.name != me && leads && !other.draining
        })
    }

    /// Says whether a coordinator's record says that it is about to end.
    pub(crate) fn is_draining(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|(record, _)| record.draining)
    }

    /// Returns a coordinator that was here before us and serves something else.
    pub(crate) fn stranger(&self, me: &CoordinatorRecord) -> Option<&CoordinatorRecord> {
        let (_, since) = self.0.get(&me.name)?;
        let mut earlier = self.0.values().filter(|(_, revision)| revision < since);
        let other = earlier.find(|(its, _)| difference(its, me).is_some());
        other.map(|(its, _)| its)
    }

    fn put(&mut self, entry: &Entry) {
        if let Some(record) = read(records::read_coordinator, entry) {
            let place = (record.clone(), entry.create_revision);
            self.0.insert(record.name, place);
        }
    }
}

/// Says in words what another coordinator serves that we do not, if anything. What may change with a
/// rolling restart is no difference: whoever leads decides it.
pub(crate) fn difference(its: &CoordinatorRecord, mine: &CoordinatorRecord) -> Option<String> {
    if its.weights_fingerprint != mine.weights_fingerprint {
        return Some("other weights".into());
    }
    if its.tokenizer_fingerprint != mine.tokenizer_fingerprint {
        return Some("another tokenizer".into());
    }
    // Earlier builds do not say it.
    let says = its.ranks > 0 && mine.ranks > 0;
    (says && its.ranks != mine.ranks)
        .then(|| format!("groups of {} ranks, not of {},", its.ranks, mine.ranks))
}

/// Follows all coordinators until `stop`.
pub(crate) async fn follow_peers(
    store: Store,
    peers: watch::Sender<Peers>,
    stop: CancellationToken,
) {
    let mut changes = match store.watch(records::COORDINATORS) {
        Ok(changes) => changes,
        Err(error) => return tracing::error!(%error, "coordinators cannot be followed"),
    };
    loop {
        let change = tokio::select! {
            () = stop.cancelled() => return,
            change = changes.next() => change,
        };
        peers.send_modify(|peers| match &change {
            Some(Change::Reset(entries, _)) => {
                *peers = Peers::default();
                entries.iter().for_each(|entry| peers.put(entry));
            }
            Some(Change::Put(entry)) => peers.put(entry),
            Some(Change::Delete(key, _)) => {
                peers
                    .0
                    .retain(|name, _| records::coordinator_key(name) != *key);
            }
            Some(Change::Connected | Change::Disconnected) | None => {}
        });
        if change.is_none() {
            return;
        }
    }
}

fn read<T>(by: fn(&str, &[u8]) -> Result<T, Corrupt>, entry: &Entry) -> Option<T> {
    let read = by(&entry.key, &entry.value);
    read.inspect_err(|corrupt| tracing::error!(%corrupt, "this record is not used"))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(records: &[(&str, &str, Revision)]) -> Peers {
        let entry = |(name, weights, revision): &(&str, &str, Revision)| {
            let record = CoordinatorRecord {
                name: (*name).to_owned(),
                weights_fingerprint: (*weights).to_owned(),
                groups: vec!["0".into()],
                ..Default::default()
            };
            ((*name).to_owned(), (record, *revision))
        };
        Peers(records.iter().map(entry).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_without_a_lead_is_known_for_as_long_as_requests_are_held() {
        let key = records::lead_key("1");
        for (hold, known) in [(1, 59), (120, 119)] {
            let mut leads = Leads::new(Duration::from_secs(hold));
            leads.seen.insert("1".into(), (LeadRecord::default(), None));
            tokio::time::advance(Duration::from_secs(600)).await;
            leads.forget();
            leads.miss(&key);
            tokio::time::advance(Duration::from_secs(known)).await;
            leads.forget();
            assert!(leads.addresses().contains_key("1"), "held for {hold} s");
            tokio::time::advance(Duration::from_secs(1)).await;
            leads.forget();
            assert!(!leads.addresses().contains_key("1"), "held for {hold} s");
        }
    }

    #[test]
    fn who_came_later_with_other_weights_is_the_stranger() {
        let both = peers(&[("a", "x", 1), ("b", "y", 2)]);
        let (a, b) = (&both.0["a"].0, &both.0["b"].0);
        assert_eq!(both.stranger(a), None);
        assert_eq!(both.stranger(b), Some(a));
        assert_eq!(peers(&[("b", "y", 2)]).stranger(b), None);
        assert_eq!(peers(&[("a", "x", 1)]).stranger(b), None, "not yet put");
    }

    #[test]
    fn whose_groups_have_another_size_is_a_stranger_too() {
        let mut both = peers(&[("a", "x", 1), ("b", "x", 2)]);
        both.0.get_mut("a").unwrap().0.ranks = 2;
        let mut me = both.0["b"].0.clone();
        assert_eq!(both.stranger(&me), None, "of an earlier build");
        me.ranks = 2;
        assert_eq!(both.stranger(&me), None);
        me.ranks = 4;
        let its = both.stranger(&me).unwrap();
        let said = difference(its, &me).unwrap();
        assert_eq!(said, "groups of 2 ranks, not of 4,");
        // And so is who reads texts otherwise.
        me.ranks = 2;
        me.tokenizer_fingerprint = "t".into();
        let its = both.stranger(&me).unwrap();
        assert_eq!(difference(its, &me).unwrap(), "another tokenizer");
    }

    #[test]
    fn a_lead_is_handed_over_to_whoever_can_take_it() {
        let mut both = peers(&[("a", "x", 1), ("b", "x", 2)]);
        assert!(both.could_lead("0", "a"));
        assert!(!both.could_lead("1", "a"));
        both.0.get_mut("b").unwrap().0.draining = true;
        assert!(!both.could_lead("0", "a"));
        assert!(both.could_lead("0", "b"));
    }
}
