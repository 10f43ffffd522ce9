//! The state machine beside a model that keeps every version of everything.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::{
    ProptestConfig, Strategy, any, prop, prop_assert_eq, prop_oneof, proptest,
};

use super::super::{Compare, Done, Is, Operation, Refusal, Span, State, Target};
use super::{SECOND, absent, all, delete, put, write};

/// Key, value, created, modified, version, lease.
pub(super) type Known = (String, String, i64, i64, i64, i64);

pub(super) fn known(state: &State) -> Vec<Known> {
    let (pairs, count) = state.range(&all(), usize::MAX);
    assert_eq!(pairs.len(), count);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (pairs.iter())
        .map(|pair| {
            (
                text(&pair.key),
                text(&pair.value),
                pair.create_revision,
                pair.mod_revision,
                pair.version,
                pair.lease,
            )
        })
        .collect()
}

/// Everything that ever was: of each revision what was put or deleted, in order.
#[derive(Default)]
struct Model {
    revisions: Vec<Vec<(String, Option<Known>)>>,
    now: BTreeMap<String, Known>,
    leases: BTreeMap<i64, (Duration, Duration)>,
    time: Duration,
}

impl Model {
    fn revision(&self) -> i64 {
        1 + i64::try_from(self.revisions.len()).unwrap()
    }

    fn commit(&mut self, writes: Vec<(String, Option<(String, i64)>)>) {
        let revision = self.revision() + 1;
        let mut events = Vec::new();
        for (key, write) in writes {
            let old = self.now.remove(&key);
            let Some((value, lease)) = write else {
                events.extend(old.map(|_| (key, None)));
                continue;
            };
            let (created, version) = old.map_or((revision, 0), |old| (old.2, old.4));
            let new = (key.clone(), value, created, revision, version + 1, lease);
            self.now.insert(key.clone(), new.clone());
            events.push((key, Some(new)));
        }
        if !events.is_empty() {
            self.revisions.push(events);
        }
    }

    fn end(&mut self, lease: i64) {
        self.leases.remove(&lease);
        let held = self.now.values().filter(|known| known.5 == lease);
        let held: Vec<_> = held.map(|known| (known.0.clone(), None)).collect();
        self.commit(held);
    }

    fn advance(&mut self, time: Duration) {
        self.time += time;
        loop {
            let due = self.leases.iter().map(|(id, (_, end))| (*end, *id)).min();
            match due {
                Some((end, id)) if end <= self.time => self.end(id),
                _ => return,
            }
        }
    }

    /// What a watcher of everything sees from a revision on.
    fn changes(&self, from: i64) -> Vec<(String, i64, Option<String>)> {
        let revisions = (2..).zip(&self.revisions).filter(|(at, _)| *at >= from);
        let event = |at: i64, (key, new): &(String, Option<Known>)| {
            (key.clone(), at, new.as_ref().map(|new| new.1.clone()))
        };
        revisions
            .flat_map(|(at, events)| events.iter().map(move |one| event(at, one)))
            .collect()
    }
}

/// What a watcher of everything is brought from a revision on, some bytes at a time.
fn watched(state: &State, from: i64, bytes: usize) -> Vec<(String, i64, Option<String>)> {
    let (mut next, mut seen) = (from, Vec::new());
    while next <= state.revision() {
        let batch = state.changes(&all(), next, bytes).unwrap();
        assert!(batch.next > next, "a watcher goes on");
        for event in batch.events {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let value = (!event.is_delete).then(|| text(&event.pair.value));
            seen.push((text(&event.pair.key), event.pair.mod_revision, value));
        }
        next = batch.next;
    }
    seen
}

#[derive(Clone, Debug)]
enum Act {
    Put(u8, u8, Option<usize>),
    Delete(u8),
    DeleteRange(u8, u8),
    Create(u8, u8),
    Swap(u8, i64, u8),
    Two(u8, u8, u8),
    Grant(u32),
    Renew(usize),
    Revoke(usize),
    Wait(u64),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let (key, value) = (0..6_u8, any::<u8>());
    let act = prop_oneof![
        4 => (key.clone(), value, prop::option::of(0..4_usize))
            .prop_map(|(k, v, l)| Act::Put(k, v, l)),
        2 => key.clone().prop_map(Act::Delete),
        1 => (key.clone(), key.clone()).prop_map(|(a, b)| Act::DeleteRange(a, b)),
        2 => (key.clone(), value).prop_map(|(k, v)| Act::Create(k, v)),
        2 => (key.clone(), 0..4_i64, value).prop_map(|(k, b, v)| Act::Swap(k, b, v)),
        1 => (key.clone(), key, value).prop_map(|(a, b, v)| Act::Two(a, b, v)),
        2 => (1..5_u32).prop_map(Act::Grant),
        2 => (0..4_usize).prop_map(Act::Renew),
        1 => (0..4_usize).prop_map(Act::Revoke),
        2 => (1..3_000_u64).prop_map(Act::Wait),
    ];
    prop::collection::vec(act, 1..80)
}

fn name(key: u8) -> String {
    format!("k{key}")
}

/// Does the same to both.
fn act(state: &mut State, model: &mut Model, ids: &mut Vec<i64>, act: Act) {
    let lease = |index: usize| ids.get(index % ids.len().max(1)).copied();
    match act {
        Act::Put(key, value, held) => {
            let held = held.and_then(lease).unwrap_or(0);
            let done = write(state, put(&name(key), &value.to_string(), held));
            if held != 0 && !model.leases.contains_key(&held) {
                assert_eq!(done, Err(Refusal::LeaseNotFound));
            } else {
                model.commit(vec![(name(key), Some((value.to_string(), held)))]);
            }
        }
        Act::Delete(key) => {
            let was = usize::from(model.now.contains_key(&name(key)));
            assert_eq!(write(state, delete(&name(key))), Ok(Done::Deleted(was)));
            model.commit(vec![(name(key), None)]);
        }
        Act::DeleteRange(from, to) => {
            let span = Span::new(name(from).into(), name(to).into());
            write(state, Operation::Delete(span)).unwrap();
            model.commit((from..to).map(|key| (name(key), None)).collect());
        }
        Act::Grant(seconds) => {
            let id = state.grant(0, seconds * SECOND).unwrap();
            assert!(!ids.contains(&id), "a name is given once");
            ids.push(id);
            let end = model.time + seconds * SECOND;
            model.leases.insert(id, (seconds * SECOND, end));
        }
        Act::Renew(index) => {
            let Some(id) = lease(index) else { return };
            let known = model.leases.get_mut(&id);
            assert_eq!(state.renew(id), known.as_ref().map(|(ttl, _)| *ttl));
            if let Some((ttl, end)) = known {
                *end = model.time + *ttl;
            }
        }
        Act::Revoke(index) => {
            let Some(id) = lease(index) else { return };
            let is_there = model.leases.contains_key(&id);
            assert_eq!(state.revoke(id).is_ok(), is_there);
            model.end(id);
        }
        Act::Wait(milliseconds) => {
            // One step at a time in both, as a step decides in which order leases end.
            for _ in 0..milliseconds / 500 {
                state.advance(state.now + Duration::from_millis(500));
                model.advance(Duration::from_millis(500));
            }
        }
        transaction => act_if(state, model, transaction),
    }
}

/// Does the same transaction to both.
fn act_if(state: &mut State, model: &mut Model, act: Act) {
    match act {
        Act::Create(key, value) => {
            let then = vec![put(&name(key), &value.to_string(), 0)];
            let outcome = state.txn(&[absent(&name(key))], then, Vec::new()).unwrap();
            assert_eq!(outcome.succeeded, !model.now.contains_key(&name(key)));
            if outcome.succeeded {
                model.commit(vec![(name(key), Some((value.to_string(), 0)))]);
            }
        }
        Act::Swap(key, back, value) => {
            let expected = model.revision() - back;
            let compare = Compare {
                key: name(key).into(),
                target: Target::Modified(expected),
                is: Is::Equal,
            };
            let then = vec![put(&name(key), &value.to_string(), 0)];
            let read = vec![Operation::Range(Span::new(name(key).into(), vec![]), 1)];
            let outcome = state.txn(&[compare], then, read).unwrap();
            let modified = model.now.get(&name(key)).map(|known| known.3);
            assert_eq!(outcome.succeeded, modified.unwrap_or(0) == expected);
            if outcome.succeeded {
                model.commit(vec![(name(key), Some((value.to_string(), 0)))]);
            } else {
                let [Done::Range(pairs, _)] = &outcome.done[..] else {
                    panic!("{outcome:?}");
                };
                assert_eq!(pairs.first().map(|pair| pair.mod_revision), modified);
            }
        }
        Act::Two(one, other, value) => {
            let value = value.to_string();
            let then = vec![put(&name(one), &value, 0), delete(&name(other))];
            let done = state.txn(&[], then, Vec::new());
            if one == other {
                assert_eq!(done, Err(Refusal::DuplicateKey));
            } else {
                done.unwrap();
                model.commit(vec![(name(one), Some((value, 0))), (name(other), None)]);
            }
        }
        other => unreachable!("{other:?} is no transaction"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_store_does_what_the_model_does(acts in acts(), from in 2..40_i64, cut in 1..60_i64) {
        let (mut state, mut model, mut ids) = (State::new(7), Model::default(), Vec::new());
        for one in acts {
            act(&mut state, &mut model, &mut ids, one);
            prop_assert_eq!(state.revision(), model.revision());
            prop_assert_eq!(known(&state), model.now.values().cloned().collect::<Vec<_>>());
        }
        for bytes in [0, 300, usize::MAX] {
            prop_assert_eq!(watched(&state, from, bytes), model.changes(from));
        }
        let compacted = state.compact(cut);
        prop_assert_eq!(compacted.is_ok(), cut <= model.revision());
        let first = if compacted.is_ok() { cut } else { 0 };
        prop_assert_eq!(state.changes(&all(), from, 0).is_err(), from < first);
        if from >= first {
            prop_assert_eq!(watched(&state, from, 0), model.changes(from));
        }
    }
}
