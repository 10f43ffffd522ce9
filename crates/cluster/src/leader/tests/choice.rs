//! Whom a new lead takes, and whom it waits for.

use super::*;
use crate::leader::choice::MAX_TAKEN;

/// The lead after four others.
fn fifth() -> Leader {
    let Leader { config, .. } = leader(2);
    Leader::new(config, Term(5))
}

/// A worker that was part of this epoch of the last lead, if of any, and obeyed it in any case.
fn of(name: &str, stepped: Option<u64>) -> Registration {
    let at = |epoch| Fence {
        term: Term(4),
        epoch: Epoch(epoch),
    };
    Registration {
        term: Term(4),
        lead: 6,
        stepped: stepped.map(at),
        ..worker(name, 1)
    }
}

fn names(actions: &[Action]) -> Vec<&str> {
    let [.., Action::Prepare(plan)] = actions else {
        panic!("no epoch is prepared: {actions:?}")
    };
    let names = plan.members.iter();
    names.map(|(member, _)| member.name.as_str()).collect()
}

#[test]
fn a_new_lead_waits_for_all_of_the_last_epoch() {
    let mut leader = fifth();
    // One that had been asked to get ready, and one that was never asked.
    assert_eq!(leader.register(of("c", None), NOW), Ok(Vec::new()));
    assert_eq!(leader.register(worker("d", 1), NOW), Ok(Vec::new()));
    assert_eq!(leader.register(of("a", Some(3)), NOW), Ok(Vec::new()));
    assert_eq!(leader.on(Event::Tick, LATER), []);
    assert!(leader.status().text.contains("last lead"));
    let actions = leader.register(of("b", Some(3)), LATER).unwrap();
    assert_eq!(names(&actions), ["a", "b"]);
}

#[test]
fn a_new_lead_does_not_wait_for_long() {
    let mut leader = fifth();
    assert_eq!(leader.register(of("c", None), LATER), Ok(Vec::new()));
    assert_eq!(leader.register(of("a", Some(3)), LATER), Ok(Vec::new()));
    let end = LATER + GRACE;
    assert_eq!(
        leader.on(Event::Tick, end - Duration::from_millis(1)),
        [],
        "from when somebody is here"
    );
    assert_eq!(names(&leader.on(Event::Tick, end)), ["a", "c"]);
}

#[test]
fn who_was_in_the_latest_epoch_goes_before_who_was_sent_away_from_one_before() {
    let mut leader = fifth();
    assert_eq!(leader.register(of("a", Some(1)), NOW), Ok(Vec::new()));
    assert_eq!(leader.register(of("b", Some(2)), NOW), Ok(Vec::new()));
    let actions = leader.register(of("c", Some(2)), NOW).unwrap();
    assert_eq!(names(&actions), ["b", "c"]);
}

#[test]
fn who_was_away_for_a_whole_term_may_not_know_the_last_epoch() {
    let mut leader = fifth();
    let before = |name| Registration {
        term: Term(3),
        stepped: Some(Fence {
            term: Term(3),
            epoch: Epoch(9),
        }),
        ..of(name, None)
    };
    assert_eq!(leader.register(before("a"), NOW), Ok(Vec::new()));
    assert_eq!(leader.register(before("b"), NOW), Ok(Vec::new()));
    assert_eq!(names(&leader.on(Event::Tick, NOW + GRACE)), ["a", "b"]);
}

#[test]
fn one_of_the_last_epoch_that_comes_late_takes_the_seat_of_one_that_only_gets_ready() {
    let mut leader = fifth();
    assert_eq!(leader.register(of("c", None), NOW), Ok(Vec::new()));
    assert_eq!(leader.register(of("a", Some(3)), NOW), Ok(Vec::new()));
    let late = NOW + GRACE;
    let fence = fence_of(&leader.on(Event::Tick, late));
    assert_eq!(leader.register(worker("d", 1), late), Ok(Vec::new()));
    let actions = leader.register(of("b", Some(3)), late).unwrap();
    assert!(matches!(actions[0], Action::Stop { fence: ended, .. } if ended == fence));
    assert_eq!(names(&actions), ["a", "b"]);
    let next = fence_of(&actions);
    leader.on(prepared(next, "a", false), late);
    leader.on(prepared(next, "b", false), late);
    // Once it serves it has asked all it needs, and nobody is exchanged.
    assert_eq!(leader.register(of("e", Some(3)), late), Ok(Vec::new()));
    assert!(leader.status().serving);
}

#[test]
fn one_that_comes_and_goes_takes_no_seat_for_ever() {
    let mut leader = fifth();
    assert_eq!(leader.register(of("c", None), NOW), Ok(Vec::new()));
    assert_eq!(leader.register(of("a", Some(3)), NOW), Ok(Vec::new()));
    // A model may take minutes to load: who is worth waiting for may come as late.
    let mut late = NOW + Duration::from_secs(60);
    let mut fence = fence_of(&leader.on(Event::Tick, late));
    for _ in 0..MAX_TAKEN {
        assert_eq!(
            names(&leader.register(of("b", Some(3)), late).unwrap()),
            ["a", "b"]
        );
        let left = Event::Left {
            name: "b".into(),
            incarnation: 7,
        };
        leader.on(left, late);
        late += RETRY;
        fence = fence_of(&leader.on(Event::Tick, late));
    }
    assert_eq!(leader.register(of("b", Some(3)), late), Ok(Vec::new()));
    leader.on(prepared(fence, "a", false), late);
    leader.on(prepared(fence, "c", false), late);
    assert!(leader.status().serving);
}

#[test]
fn a_lead_that_has_served_waits_for_nobody() {
    let mut leader = fifth();
    leader.register(of("a", Some(3)), NOW).unwrap();
    let fence = fence_of(&leader.register(of("b", Some(3)), NOW).unwrap());
    leader.on(prepared(fence, "a", false), NOW);
    leader.on(prepared(fence, "b", false), NOW);
    leader.register(worker("c", 1), NOW).unwrap();
    let left = Event::Left {
        name: "a".into(),
        incarnation: 7,
    };
    leader.on(left, NOW);
    assert_eq!(names(&leader.on(Event::Tick, NOW + RETRY)), ["b", "c"]);
}

#[test]
fn a_step_of_a_term_above_the_obeyed_one_is_refused() {
    let mut leader = fifth();
    let impossible = Registration {
        term: Term(3),
        ..of("a", Some(1))
    };
    let error = leader.register(impossible, NOW).unwrap_err().to_string();
    assert!(error.contains("stepped"), "{error}");
}

#[test]
fn only_who_had_a_rank_when_steps_last_ran_holds_it() {
    let held = |actions: &[Action]| match actions {
        [.., Action::Prepare(plan)] => plan.held.clone(),
        other => panic!("no epoch is prepared: {other:?}"),
    };
    let (mut leader, fence) = serving();
    let (of_a, of_b) = (leader.seats.of("a")[0], leader.seats.of("b")[0]);
    leader.register(worker("c", 1), NOW).unwrap();
    // Here a rank's place tells whose it is, and c gets that of a.
    let failed = Event::StepFailed {
        fence,
        why: "silent".into(),
        silent: Some(of_a),
    };
    leader.on(failed, NOW);
    let actions = leader.on(Event::Tick, LATER);
    assert_eq!(
        (names(&actions), held(&actions)),
        (vec!["b", "c"], vec![of_b])
    );
    let fence = fence_of(&actions);
    leader.on(prepared(fence, "b", true), LATER);
    leader.on(prepared(fence, "c", false), LATER);
    // It comes back and sits where it sat, where another has been since.
    leader.register(worker("a", 1), LATER).unwrap();
    let failed = Event::StepFailed {
        fence,
        why: "silent".into(),
        silent: Some(of_a),
    };
    leader.on(failed, LATER);
    let actions = leader.on(Event::Tick, LATER + RETRY);
    assert_eq!(
        (names(&actions), held(&actions)),
        (vec!["a", "b"], vec![of_b])
    );
}
