//! What a candidate does, event by event.

use super::*;

const NOW: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(2);

fn record(name: &str, term: u64) -> LeadRecord {
    LeadRecord {
        name: name.into(),
        incarnation: 7,
        address: format!("http://{name}:1"),
        term: Term(term),
    }
}

fn held(by: &str, term: u64, revision: Revision) -> Heard {
    Heard::Seat(Seat {
        lead: Some((record(by, term), revision)),
        lease: 5,
        last: Some((record(by, term), revision)),
    })
}

fn empty(last: Option<(LeadRecord, Revision)>) -> Heard {
    Heard::Seat(Seat {
        lead: None,
        lease: 0,
        last,
    })
}

/// A coordinator named `a` whose lease is 5.
fn candidate() -> Candidate {
    let mut candidate = Candidate::new(record("a", 0), PATIENCE);
    assert_eq!(candidate.on(Heard::Lease(Some(5)), NOW), []);
    candidate
}

/// The same as the lead of term 3.
fn lead() -> Candidate {
    let mut candidate = candidate();
    assert_eq!(
        candidate.on(held("a", 3, 30), NOW),
        [Ask::Lead(Term(3))],
        "a bid was won"
    );
    candidate
}

fn bid(term: u64, lead: Revision, last: Revision) -> Ask {
    Ask::Bid {
        record: record("a", term),
        lease: 5,
        lead,
        last,
    }
}

#[test]
fn bids_for_a_seat_that_stays_empty_above_every_term_it_knows() {
    let mut candidate = candidate();
    let last = Some((record("b", 8), 20));
    assert_eq!(candidate.on(empty(last.clone()), NOW), []);
    assert_eq!(candidate.on(Heard::Outranked(Term(4)), NOW), []);
    let due = NOW + PATIENCE;
    assert_eq!(candidate.on(Heard::Tick, due), [bid(9, 0, 20)]);
    assert_eq!(candidate.on(Heard::Tick, due), [], "one bid at a time");
    assert_eq!(candidate.on(Heard::Outranked(Term(40)), due), []);
    assert_eq!(candidate.on(Heard::Decided, due), [], "the seat will tell");
    assert_eq!(candidate.on(Heard::Tick, due + REST), [bid(41, 0, 20)]);
}

#[test]
fn leads_when_the_store_says_so_even_if_the_answer_was_lost() {
    let mut candidate = candidate();
    candidate.on(empty(None), NOW);
    assert_eq!(candidate.on(Heard::Tick, LATER), [bid(1, 0, 0)]);
    assert_eq!(candidate.on(held("a", 1, 9), LATER), [Ask::Lead(Term(1))]);
    assert_eq!(candidate.leading(), Some(Term(1)));
}

#[test]
fn follows_another_and_does_not_bid_without_a_lease() {
    let mut candidate = candidate();
    assert_eq!(candidate.on(held("b", 2, 9), NOW), []);
    assert_eq!(candidate.on(Heard::Lease(None), NOW), []);
    assert_eq!(candidate.on(empty(None), NOW), []);
    assert_eq!(candidate.on(Heard::Tick, LATER), []);
    assert_eq!(candidate.on(Heard::Lease(Some(5)), LATER), [bid(3, 0, 0)]);
}

#[test]
fn leads_on_while_the_store_is_gone_and_puts_its_key_again() {
    let mut lead = lead();
    assert_eq!(lead.on(Heard::Disconnected, NOW), []);
    assert_eq!(lead.on(Heard::Lease(None), LATER), []);
    assert_eq!(lead.leading(), Some(Term(3)));
    assert_eq!(lead.on(Heard::Lease(Some(5)), LATER), []);
    let mine = Some((record("a", 3), 30));
    assert_eq!(lead.on(empty(mine), LATER), [bid(3, 0, 30)]);
    assert_eq!(lead.on(Heard::Decided, LATER), []);
    assert_eq!(lead.on(held("a", 3, 31), LATER), []);
}

#[test]
fn fills_a_store_that_has_lost_everything() {
    let mut lead = lead();
    assert_eq!(lead.on(empty(None), LATER), [bid(3, 0, 0)]);
}

#[test]
fn a_store_that_has_lost_everything_gives_no_term_again() {
    let mut candidate = candidate();
    candidate.on(held("b", 3, 30), NOW);
    assert_eq!(candidate.on(empty(None), NOW), []);
    let due = NOW + PATIENCE;
    assert_eq!(
        candidate.on(Heard::Tick, due),
        [bid(4, 0, 0)],
        "b has led in 3"
    );
}

#[test]
fn leads_in_no_term_that_it_has_seen_before() {
    let mut candidate = lead();
    candidate.on(held("b", 4, 40), NOW);
    // Handed over by somebody whose store had lost everything.
    assert_eq!(candidate.on(held("a", 3, 2), NOW), [bid(5, 2, 2)]);
    assert_eq!(candidate.leading(), None);
    assert_eq!(candidate.on(Heard::Decided, NOW), []);
    assert_eq!(candidate.on(held("a", 5, 3), NOW), [Ask::Lead(Term(5))]);
}

#[test]
fn steps_down_for_whoever_has_led_since() {
    for taken in [3, 4] {
        let mut lead = lead();
        let since = Some((record("b", taken), 40));
        let asks = lead.on(empty(since), LATER);
        assert!(
            matches!(&asks[..], [Ask::StepDown { .. }]),
            "term {taken}: {asks:?}"
        );
        assert_eq!(lead.leading(), None);
    }
    let mut lead = lead();
    let asks = lead.on(held("b", 1, 2), LATER);
    assert!(matches!(&asks[..], [Ask::StepDown { .. }]), "{asks:?}");
}

#[test]
fn raises_its_term_above_one_that_a_worker_has_obeyed() {
    let mut lead = lead();
    assert_eq!(lead.on(Heard::Outranked(Term(2)), NOW), []);
    assert_eq!(lead.on(Heard::Outranked(Term(6)), NOW), [bid(7, 30, 30)]);
    assert_eq!(lead.leading(), Some(Term(3)), "not before the store agrees");
    assert_eq!(lead.on(held("a", 7, 31), NOW), [Ask::Lead(Term(7))]);
}

#[test]
fn hangs_its_key_on_a_new_lease() {
    let mut lead = lead();
    let again = Ask::Bid {
        record: record("a", 3),
        lease: 6,
        lead: 30,
        last: 30,
    };
    assert_eq!(lead.on(Heard::Lease(Some(6)), NOW), [again]);
}

#[test]
fn leaves_its_seat_before_it_ends() {
    let mut lead = lead();
    let asks = lead.on(Heard::Draining, NOW);
    assert!(
        matches!(&asks[..], [Ask::StepDown { .. }, Ask::Leave { lead: 30 }]),
        "{asks:?}"
    );
    assert_eq!(lead.on(empty(None), LATER), []);
    assert_eq!(
        lead.on(Heard::Tick, LATER + PATIENCE),
        [],
        "it bids no more"
    );
}

#[test]
fn a_bid_whose_answer_never_comes_is_made_again() {
    let mut candidate = candidate();
    candidate.on(empty(None), NOW);
    assert_eq!(candidate.on(Heard::Tick, LATER), [bid(1, 0, 0)]);
    assert_eq!(candidate.on(Heard::Tick, LATER + BID_LIMIT), [bid(1, 0, 0)]);
}

#[test]
fn hands_over_by_writing_another_into_its_seat() {
    let mut old = lead();
    let (to, lease) = (record("b", 0), 6);
    let order = Heard::HandOver { to, lease };
    let asks = old.on(order.clone(), NOW);
    let written = Ask::Bid {
        record: record("b", 4),
        lease: 6,
        lead: 30,
        last: 30,
    };
    assert_eq!(asks, [written]);
    assert_eq!(old.leading(), Some(Term(3)), "until the store says so");
    assert_eq!(old.on(order, NOW), [], "one bid at a time");
    let seat = Heard::Seat(Seat {
        lead: Some((record("b", 4), 31)),
        lease: 6,
        last: Some((record("b", 4), 31)),
    });
    let mut new = Candidate::new(record("b", 0), PATIENCE);
    assert_eq!(new.on(Heard::Lease(Some(6)), NOW), []);
    assert_eq!(new.on(seat.clone(), NOW), [Ask::Lead(Term(4))]);
    assert!(matches!(&old.on(seat, NOW)[..], [Ask::StepDown { .. }]));
    assert_eq!(old.leading(), None);
}

#[test]
fn hands_over_also_when_it_hears_of_its_own_seat_before_the_answer_to_its_bid() {
    let mut old = lead();
    assert_eq!(old.on(Heard::Decided, NOW), []);
    let (to, lease) = (record("b", 0), 6);
    let asks = old.on(Heard::HandOver { to, lease }, NOW);
    assert!(matches!(&asks[..], [Ask::Bid { .. }]), "{asks:?}");
}

#[test]
fn hands_over_after_a_bid_that_was_on_its_way_and_only_for_a_while() {
    let (to, lease) = (record("b", 0), 6);
    let order = Heard::HandOver { to, lease };
    let to = |asks: Vec<Ask>| match &asks[..] {
        [Ask::Bid { record, .. }] => record.name.clone(),
        other => panic!("no bid: {other:?}"),
    };
    let mut old = lead();
    assert_eq!(
        to(old.on(Heard::Lease(Some(7)), NOW)),
        "a",
        "its lease is another"
    );
    assert_eq!(old.on(order.clone(), NOW), [], "one bid at a time");
    assert_eq!(
        old.on(Heard::Decided, NOW),
        [],
        "the seat is about to change"
    );
    let renewed = Heard::Seat(Seat {
        lead: Some((record("a", 3), 31)),
        lease: 7,
        last: Some((record("a", 3), 31)),
    });
    assert_eq!(to(old.on(renewed, NOW)), "b");
    assert_eq!(old.on(Heard::Decided, NOW), []);
    assert_eq!(
        to(old.on(Heard::Tick, NOW + REST)),
        "b",
        "the store has not said that it was done"
    );
    assert_eq!(old.on(Heard::Decided, NOW + HAND_OVER), []);
    assert_eq!(old.on(Heard::Tick, NOW + HAND_OVER + REST), []);
}

#[test]
fn hands_over_once_the_store_is_back() {
    let (to, lease) = (record("b", 0), 6);
    let mut old = lead();
    assert_eq!(old.on(Heard::Decided, NOW), []);
    old.on(Heard::Disconnected, NOW);
    assert_eq!(old.on(Heard::HandOver { to, lease }, NOW), []);
    let seat = held("a", 3, 30);
    let asks = old.on(seat, NOW + REST);
    assert!(
        matches!(&asks[..], [Ask::Bid { record, .. }] if record.name == "b"),
        "{asks:?}"
    );
}

#[test]
fn who_does_not_lead_hands_nothing_over() {
    let to = |name| Heard::HandOver {
        to: record(name, 0),
        lease: 6,
    };
    assert_eq!(candidate().on(to("b"), NOW), []);
    let mut other = candidate();
    assert_eq!(other.on(held("c", 3, 30), NOW), []);
    assert_eq!(other.on(to("b"), NOW), []);
    assert_eq!(lead().on(to("a"), NOW), [], "to itself");
}
