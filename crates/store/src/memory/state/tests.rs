//! The state machine, case by case; the submodule puts it beside a model.

mod walk;

use std::time::Duration;

use super::lease::STANDSTILL;
use super::{
    Compare, Done, Is, KEPT_REVISIONS, MAX_BYTES, Operation, Refusal, Span, State, Target,
};
use walk::known;

const SECOND: Duration = Duration::from_secs(1);

fn all() -> Span {
    Span::new(vec![0], vec![0])
}

fn put(key: &str, value: &str, lease: i64) -> Operation {
    Operation::Put {
        key: key.into(),
        value: value.into(),
        lease,
    }
}

fn delete(key: &str) -> Operation {
    Operation::Delete(Span::new(key.into(), Vec::new()))
}

fn absent(key: &str) -> Compare {
    Compare {
        key: key.into(),
        target: Target::Created(0),
        is: Is::Equal,
    }
}

fn write(state: &mut State, operation: Operation) -> Result<Done, Refusal> {
    let mut outcome = state.txn(&[], vec![operation], Vec::new())?;
    Ok(outcome.done.pop().unwrap())
}

/// Lets time pass, as slowly as it does.
fn wait(state: &mut State, time: Duration) {
    let end = state.now + time;
    while state.now < end {
        state.advance((state.now + STANDSTILL).min(end));
    }
}

#[test]
fn a_read_sees_what_its_transaction_has_written() {
    let mut state = State::new(1);
    let then = vec![put("a", "1", 0), Operation::Range(all(), 9), delete("b")];
    let outcome = state.txn(&[absent("a")], then, Vec::new()).unwrap();
    let [Done::Put, Done::Range(pairs, 1), Done::Deleted(0)] = &outcome.done[..] else {
        panic!("{outcome:?}");
    };
    assert_eq!((pairs[0].mod_revision, state.revision()), (2, 2));
}

#[test]
fn comparisons_are_those_of_etcd() {
    let mut state = State::new(1);
    write(&mut state, put("a", "m", 0)).unwrap();
    write(&mut state, put("a", "m", 0)).unwrap();
    let holds = |key: &str, target: Target, is: Is| {
        state.holds(&Compare {
            key: key.into(),
            target,
            is,
        })
    };
    assert!(holds("a", Target::Version(2), Is::Equal));
    assert!(holds("a", Target::Created(2), Is::Equal));
    assert!(holds("a", Target::Modified(3), Is::Equal));
    assert!(holds("a", Target::Modified(2), Is::Greater));
    assert!(!holds("a", Target::Modified(3), Is::Less));
    assert!(holds("a", Target::Value("n".into()), Is::Less));
    assert!(holds("a", Target::Value("n".into()), Is::Unequal));
    assert!(holds("a", Target::Lease(0), Is::Equal));
    // A key that is not there has no value to compare, and zero of all else.
    assert!(!holds("x", Target::Value("".into()), Is::Unequal));
    assert!(holds("x", Target::Version(0), Is::Equal));
}

#[test]
fn history_is_bounded_in_revisions() {
    let mut state = State::new(1);
    for _ in 0..KEPT_REVISIONS + 10 {
        write(&mut state, put("a", "", 0)).unwrap();
    }
    assert_eq!(i64::try_from(state.history.len()), Ok(KEPT_REVISIONS));
    let oldest = state.revision() - KEPT_REVISIONS + 1;
    assert_eq!(state.changes(&all(), oldest - 1, 0), Err(oldest));
    assert_eq!(state.changes(&all(), oldest, 0).unwrap().events.len(), 1);
}

#[test]
fn history_and_keys_are_bounded_in_bytes() {
    let mut state = State::new(1);
    let large = "x".repeat(1 << 20);
    for _ in 0..100 {
        write(&mut state, put("a", &large, 0)).unwrap();
    }
    assert!(state.history_bytes <= super::KEPT_BYTES);
    assert!(state.changes(&all(), 2, 0).is_err());
    let mut refused = 0;
    for key in 0..100 {
        match write(&mut state, put(&key.to_string(), &large, 0)) {
            Ok(_) => assert!(state.bytes <= MAX_BYTES),
            Err(refusal) => {
                assert_eq!(refusal, Refusal::NoSpace);
                refused += 1;
            }
        }
    }
    assert!(refused > 30, "{refused}");
    // What is gone makes room again.
    write(&mut state, Operation::Delete(all())).unwrap();
    assert_eq!(state.bytes, 0);
    write(&mut state, put("b", &large, 0)).unwrap();
}

#[test]
fn a_refused_transaction_changes_nothing() {
    let mut state = State::new(1);
    let then = vec![put("a", "1", 0), put("b", "2", 99)];
    let refused = state.txn(&[], then, Vec::new());
    assert_eq!(refused, Err(Refusal::LeaseNotFound));
    assert_eq!((known(&state), state.revision()), (vec![], 1));
}

#[test]
fn compaction_has_its_bounds() {
    let mut state = State::new(1);
    write(&mut state, put("a", "1", 0)).unwrap();
    assert_eq!(state.compact(3), Err(Refusal::FutureRevision));
    assert_eq!(state.compact(2), Ok(()));
    assert_eq!(state.compact(2), Err(Refusal::Compacted));
}

#[test]
fn a_key_belongs_to_its_last_lease_alone() {
    let mut state = State::new(1);
    let one = state.grant(0, 2 * SECOND).unwrap();
    let other = state.grant(0, 5 * SECOND).unwrap();
    write(&mut state, put("a", "1", one)).unwrap();
    write(&mut state, put("b", "1", one)).unwrap();
    write(&mut state, put("a", "2", other)).unwrap();
    wait(&mut state, 3 * SECOND);
    assert_eq!(known(&state).len(), 1);
    assert_eq!(state.time_to_live(one), None);
    let left = state.time_to_live(other).unwrap();
    assert_eq!((left.left, left.keys), (2 * SECOND, vec![b"a".to_vec()]));
    wait(&mut state, 2 * SECOND);
    assert_eq!(known(&state), vec![]);
}

#[test]
fn a_store_that_stood_still_ends_no_lease_for_it() {
    let mut state = State::new(1);
    let lease = state.grant(0, 2 * SECOND).unwrap();
    write(&mut state, put("a", "1", lease)).unwrap();
    wait(&mut state, SECOND);
    state.advance(state.now + 100 * SECOND);
    assert_eq!(state.time_to_live(lease).unwrap().left, SECOND);
    // Time that goes back is no time.
    state.advance(Duration::ZERO);
    wait(&mut state, SECOND);
    assert_eq!(known(&state), vec![]);
}

#[test]
fn a_name_that_a_client_chose_is_not_given_again() {
    let mut state = State::new(5);
    assert_eq!(state.grant(5, SECOND), Ok(5));
    assert_eq!(state.grant(5, SECOND), Err(Refusal::LeaseExists));
    assert_eq!(state.grant(0, SECOND), Ok(6));
}
