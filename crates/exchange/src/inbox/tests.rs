//! What an inbox takes, refuses and wakes up for.

use std::sync::Arc;
use std::thread;

use spec::{Epoch, StepNumber, Term};

use super::*;

const FENCE: Fence = Fence {
    term: Term(3),
    epoch: Epoch(7),
};

/// Exchange `n` of a model of one layer.
fn key(n: u64) -> Key {
    let phase = if n.is_multiple_of(2) {
        Phase::Dispatch
    } else {
        Phase::Combine
    };
    (
        Moment {
            fence: FENCE,
            step: StepNumber(n / 2),
            layer: 0,
        },
        phase,
    )
}

fn frame(n: u64, from: u32) -> Frame {
    let (moment, phase) = key(n);
    let payload = Bytes::from(vec![n as u8, from as u8]);
    Frame {
        moment,
        phase,
        from: Rank(from),
        to: Rank(1),
        payload,
    }
}

fn inbox() -> Inbox {
    Inbox::with_patience(FENCE, Rank(1), 3, Duration::from_secs(20))
}

fn take(inbox: &Inbox, n: u64, from: u32) -> Result<Vec<u8>, ExchangeError> {
    inbox
        .take(key(n), Rank(from))
        .map(|payload| payload.to_vec())
}

/// Waits until the inbox's own rank waits for `from`.
fn until_waiting(inbox: &Inbox, from: u32) {
    while inbox.waiting_for() != Some(Rank(from)) {
        thread::yield_now();
    }
}

/// Lets a thread wait for exchange 0 of rank 0 and returns what it gets after `act`.
fn woken_by(act: impl FnOnce(&Inbox)) -> Result<Vec<u8>, ExchangeError> {
    let inbox = Arc::new(inbox());
    let waiter = thread::spawn({
        let inbox = Arc::clone(&inbox);
        move || take(&inbox, 0, 0)
    });
    until_waiting(&inbox, 0);
    act(&inbox);
    let outcome = waiter.join().expect("taking does not panic");
    assert_eq!(inbox.waiting_for(), None);
    outcome
}

#[test]
fn gives_frames_by_sender_whatever_their_order_of_arrival() {
    let inbox = inbox();
    for (n, from) in [(0, 2), (1, 2), (0, 0), (1, 0)] {
        inbox.deliver(frame(n, from)).unwrap();
    }
    for (n, from) in [(0, 0), (0, 2), (1, 0), (1, 2)] {
        assert_eq!(take(&inbox, n, from).unwrap(), [n as u8, from as u8]);
    }
}

#[test]
fn wakes_who_waits_when_the_frame_comes() {
    let got = woken_by(|inbox| inbox.deliver(frame(0, 0)).unwrap());
    assert_eq!(got.unwrap(), [0, 0]);
}

#[test]
fn a_frame_of_another_rank_does_not_end_the_wait() {
    let got = woken_by(|inbox| {
        inbox.deliver(frame(0, 2)).unwrap();
        inbox.deliver(frame(0, 0)).unwrap();
    });
    assert_eq!(got.unwrap(), [0, 0]);
}

#[test]
fn refuses_frames_of_another_term_or_epoch() {
    let inbox = inbox();
    for fence in [
        Fence {
            epoch: Epoch(6),
            ..FENCE
        },
        Fence {
            epoch: Epoch(8),
            ..FENCE
        },
        Fence {
            term: Term(2),
            ..FENCE
        },
        Fence {
            term: Term(4),
            ..FENCE
        },
    ] {
        let mut other = frame(0, 0);
        other.moment.fence = fence;
        let refusal = inbox.deliver(other).unwrap_err();
        assert_eq!(
            refusal,
            Refusal::OtherEpoch {
                rank: Rank(1),
                have: FENCE,
                got: fence
            }
        );
        assert!(
            refusal.to_string().contains("3.7") && refusal.to_string().contains(&fence.to_string())
        );
    }
}

#[test]
fn refuses_frames_that_are_repeated_or_late() {
    let inbox = inbox();
    inbox.deliver(frame(0, 0)).unwrap();
    assert!(matches!(
        inbox.deliver(frame(0, 0)),
        Err(Refusal::Repeated { .. })
    ));
    inbox.deliver(frame(1, 0)).unwrap();
    take(&inbox, 0, 0).unwrap();
    take(&inbox, 1, 0).unwrap();
    // Also once they have been taken.
    for n in [0, 1] {
        assert!(matches!(
            inbox.deliver(frame(n, 0)),
            Err(Refusal::Repeated { .. })
        ));
    }
}

#[test]
fn refuses_a_sender_that_runs_ahead() {
    let inbox = inbox();
    inbox.deliver(frame(0, 0)).unwrap();
    inbox.deliver(frame(1, 0)).unwrap();
    let refusal = inbox.deliver(frame(2, 0)).unwrap_err();
    assert!(matches!(
        refusal,
        Refusal::TooFarAhead {
            from: Rank(0),
            waiting: 2,
            ..
        }
    ));
    // Room is made by taking, and other senders have their own.
    inbox.deliver(frame(0, 2)).unwrap();
    take(&inbox, 0, 0).unwrap();
    inbox.deliver(frame(2, 0)).unwrap();
}

#[test]
fn refuses_frames_from_nobody_or_for_others() {
    let inbox = inbox();
    let strays = [(3, 1), (u32::MAX, 1), (1, 1), (0, 0), (0, 2)];
    for (from, to) in strays {
        let stray = Frame {
            from: Rank(from),
            to: Rank(to),
            ..frame(0, 0)
        };
        assert!(
            matches!(inbox.deliver(stray), Err(Refusal::NotOurs { .. })),
            "{from} to {to}"
        );
    }
}

#[test]
fn refuses_a_frame_over_the_limit() {
    let large = Frame {
        payload: vec![0; MAX_FRAME_BYTES + 1].into(),
        ..frame(0, 0)
    };
    let bytes = MAX_FRAME_BYTES + 1;
    assert_eq!(
        inbox().deliver(large),
        Err(Refusal::TooLarge {
            from: Rank(0),
            bytes
        })
    );
}

#[test]
fn abort_wakes_who_waits_and_stays() {
    let (moment, phase) = key(0);
    let aborted = ExchangeError::Aborted {
        peer: Rank(0),
        phase,
        moment,
    };
    let got = woken_by(|inbox| {
        inbox.abort();
        assert_eq!(inbox.deliver(frame(0, 0)), Err(Refusal::Aborted));
        assert_eq!(take(inbox, 0, 0), Err(aborted.clone()));
    });
    assert_eq!(got, Err(aborted.clone()));
}

#[test]
fn a_lost_peer_wakes_who_waits_for_it() {
    let (moment, phase) = key(0);
    let got = woken_by(|inbox| {
        inbox.peer_lost(Rank(0), "reset");
        inbox.peer_lost(Rank(0), "a later reason");
    });
    let why = "reset".to_owned();
    assert_eq!(
        got,
        Err(ExchangeError::PeerLost {
            peer: Rank(0),
            why,
            phase,
            moment
        })
    );
}

#[test]
fn a_lost_peer_wakes_who_waits_for_another() {
    let got = woken_by(|inbox| inbox.peer_lost(Rank(2), "reset"));
    assert!(
        matches!(got, Err(ExchangeError::PeerLost { peer: Rank(2), .. })),
        "{got:?}"
    );
}

#[test]
fn a_peer_lost_after_its_frame_does_not_hinder_the_exchange() {
    let inbox = inbox();
    inbox.deliver(frame(0, 2)).unwrap();
    inbox.peer_lost(Rank(2), "reset");
    inbox.deliver(frame(0, 0)).unwrap();
    assert_eq!(take(&inbox, 0, 0).unwrap(), [0, 0]);
    assert_eq!(take(&inbox, 0, 2).unwrap(), [0, 2]);
    let next = take(&inbox, 1, 0);
    assert!(
        matches!(next, Err(ExchangeError::PeerLost { peer: Rank(2), .. })),
        "{next:?}"
    );
}

#[test]
fn a_peer_lost_after_its_frame_does_not_end_the_wait_for_another() {
    let inbox = Inbox::with_patience(FENCE, Rank(1), 3, Duration::from_millis(5));
    inbox.deliver(frame(0, 2)).unwrap();
    inbox.peer_lost(Rank(2), "reset");
    let got = take(&inbox, 0, 0);
    assert!(
        matches!(got, Err(ExchangeError::TimedOut { peer: Rank(0), .. })),
        "{got:?}"
    );
}

#[test]
fn losing_nobody_changes_nothing() {
    let inbox = inbox();
    inbox.peer_lost(Rank(99), "no such rank");
    inbox.deliver(frame(0, 0)).unwrap();
    assert_eq!(take(&inbox, 0, 0).unwrap(), [0, 0]);
}

#[test]
fn a_frame_of_another_exchange_than_the_one_waited_for_is_bad() {
    let got = woken_by(|inbox| inbox.deliver(frame(1, 0)).unwrap());
    let error = got.unwrap_err();
    assert!(matches!(
        error,
        ExchangeError::BadFrame { peer: Rank(0), .. }
    ));
    assert!(
        error
            .to_string()
            .contains("it is at combine of epoch 3.7 step 0"),
        "{error}"
    );
}

#[test]
fn waiting_has_a_limit() {
    let inbox = Inbox::with_patience(FENCE, Rank(1), 3, Duration::from_millis(5));
    let error = take(&inbox, 0, 2).unwrap_err();
    let ExchangeError::TimedOut {
        peer: Rank(2),
        waited,
        ..
    } = error
    else {
        panic!("timed out, but got: {error}");
    };
    assert!(waited >= Duration::from_millis(5));
    assert_eq!(inbox.waiting_for(), None);
}

#[test]
fn an_epoch_that_a_lead_watches_sets_no_limit_to_a_wait() {
    assert_eq!(Inbox::enter(FENCE, Rank(1), 3).patience, None);
    let inbox = Arc::new(Inbox::enter(FENCE, Rank(1), 3));
    let waiter = thread::spawn({
        let inbox = Arc::clone(&inbox);
        move || (take(&inbox, 0, 0), take(&inbox, 0, 2))
    });
    until_waiting(&inbox, 0);
    // What wakes it without being for it does not end the wait either.
    inbox.peer_lost(Rank(99), "no such rank");
    inbox.deliver(frame(0, 0)).unwrap();
    until_waiting(&inbox, 2);
    inbox.abort();
    let (first, second) = waiter.join().expect("taking does not panic");
    assert_eq!(first.unwrap(), [0, 0]);
    assert!(matches!(second, Err(ExchangeError::Aborted { .. })));
}

#[test]
fn a_group_that_nobody_watches_does_not_wait_for_ever() {
    let group = crate::local_group(2);
    assert_eq!(group[0].inbox().patience, Some(PATIENCE));
}

#[test]
fn only_waits_are_counted_as_such() {
    let inbox = inbox();
    inbox.deliver(frame(0, 0)).unwrap();
    take(&inbox, 0, 0).unwrap();
    assert_eq!(inbox.waited(), Duration::ZERO, "it was there already");
    let began = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| take(&inbox, 1, 0).unwrap());
        until_waiting(&inbox, 0);
        inbox.deliver(frame(1, 0)).unwrap();
    });
    let waited = inbox.waited();
    assert!(waited > Duration::ZERO && waited <= began.elapsed());
}
