//! What the leader does, event by event.

use super::*;
use crate::event::Standing;

mod choice;

const NOW: Duration = Duration::from_secs(1);
const LATER: Duration = Duration::from_secs(2);

fn leader(num_ranks: usize) -> Leader {
    let config = LeaderConfig {
        lead: 7,
        num_ranks,
        num_layers: 2,
        num_experts: 8,
        weights: "w".into(),
        tokenizer: "t".into(),
        numerics: "exact".into(),
        wire: 1,
    };
    Leader::new(config, Term(1))
}

fn worker(name: &str, num_ranks: usize) -> Registration {
    Registration {
        name: name.into(),
        incarnation: 7,
        address: format!("http://{name}:1"),
        wire: (1, 1),
        build: "test".into(),
        weights: "w".into(),
        tokenizer: "t".into(),
        numerics: "exact".into(),
        num_ranks,
        term: Term(0),
        lead: 0,
        stepped: None,
        draining: false,
    }
}

fn fence_of(actions: &[Action]) -> Fence {
    match actions {
        [.., Action::Prepare(plan)] => plan.fence,
        other => panic!("no epoch is prepared: {other:?}"),
    }
}

fn prepared(fence: Fence, name: &str, kept: bool) -> Event {
    Event::Prepared {
        fence,
        name: name.into(),
        kept_kv: vec![kept],
    }
}

/// Two workers of one rank each, serving.
fn serving() -> (Leader, Fence) {
    let mut leader = leader(2);
    assert_eq!(leader.register(worker("a", 1), NOW), Ok(Vec::new()));
    let actions = leader.register(worker("b", 1), NOW).unwrap();
    let fence = fence_of(&actions);
    assert_eq!(leader.on(prepared(fence, "a", false), NOW), []);
    let actions = leader.on(prepared(fence, "b", false), NOW);
    assert_eq!(
        actions,
        [Action::Serve {
            fence,
            kept_kv: vec![false, false]
        }]
    );
    (leader, fence)
}

#[test]
fn serves_once_all_ranks_are_here_and_ready() {
    let (leader, _) = serving();
    assert!(leader.status().serving);
    assert_eq!(leader.status().ranks_present, 2);
}

#[test]
fn tells_how_each_rank_is() {
    let mut leader = leader(2);
    leader.register(worker("a", 1), NOW).unwrap();
    assert!((leader.standings()).eq([Standing::Standby, Standing::Lost]));
    let fence = fence_of(&leader.register(worker("b", 1), NOW).unwrap());
    leader.on(prepared(fence, "b", false), NOW);
    assert!((leader.standings()).eq([Standing::Loading, Standing::Standby]));
    leader.on(prepared(fence, "a", false), NOW);
    let (name, incarnation) = ("a".to_owned(), 7);
    leader.on(Event::Draining { name, incarnation }, NOW);
    assert!((leader.standings()).eq([Standing::Draining, Standing::Active]));
    let (name, incarnation) = ("a".to_owned(), 7);
    leader.on(Event::Left { name, incarnation }, NOW);
    assert!((leader.standings()).eq([Standing::Lost, Standing::Standby]));
}

#[test]
fn a_worker_that_leaves_ends_the_epoch_and_is_waited_for() {
    let (mut leader, fence) = serving();
    let actions = leader.on(
        Event::Left {
            name: "a".into(),
            incarnation: 7,
        },
        NOW,
    );
    assert_eq!(
        actions,
        [Action::Stop {
            fence,
            why: "worker 'a' left".into()
        }]
    );
    assert_eq!(leader.status().missing, ["a"]);
    assert_eq!(leader.on(Event::Tick, LATER), [], "rank 0 has nobody");

    let back = Registration {
        incarnation: 8,
        ..worker("a", 1)
    };
    let actions = leader.register(back, LATER).unwrap();
    let next = fence_of(&actions);
    assert!(next > fence);
    leader.on(prepared(next, "a", false), LATER);
    let actions = leader.on(prepared(next, "b", true), LATER);
    assert_eq!(
        actions,
        [Action::Serve {
            fence: next,
            kept_kv: vec![false, true]
        }]
    );
}

#[test]
fn another_holder_of_a_rank_is_not_believed_to_have_its_kv() {
    let (mut leader, _) = serving();
    let left = Event::Left {
        name: "a".into(),
        incarnation: 7,
    };
    leader.on(left, NOW);
    let back = Registration {
        incarnation: 8,
        ..worker("a", 1)
    };
    let next = fence_of(&leader.register(back, LATER).unwrap());
    leader.on(prepared(next, "a", true), LATER);
    let actions = leader.on(prepared(next, "b", true), LATER);
    let kept_kv = vec![false, true];
    assert_eq!(
        actions,
        [Action::Serve {
            fence: next,
            kept_kv
        }]
    );
}

#[test]
fn what_an_older_epoch_says_is_not_heard() {
    let (mut leader, old) = serving();
    let why = String::from("reset");
    let failed = Event::StepFailed {
        fence: old,
        why: why.clone(),
        silent: None,
    };
    assert_eq!(
        leader.on(failed.clone(), NOW),
        [Action::Stop { fence: old, why }]
    );
    let next = fence_of(&leader.on(Event::Tick, LATER));
    assert_eq!(leader.on(failed, LATER), []);
    assert_eq!(leader.on(prepared(old, "a", true), LATER), []);
    assert_eq!(leader.status().fence, next);
}

#[test]
fn a_silent_rank_is_sent_away() {
    let (mut leader, fence) = serving();
    let failed = Event::StepFailed {
        fence,
        why: "silent".into(),
        silent: Some(Rank(1)),
    };
    let actions = leader.on(failed, NOW);
    let why = String::from("silent");
    assert_eq!(
        actions,
        [
            Action::Evict {
                name: "b".into(),
                incarnation: 7,
                why: why.clone()
            },
            Action::Stop { fence, why },
        ]
    );
    assert_eq!(leader.status().missing, ["b"]);
}

#[test]
fn a_failed_preparation_is_tried_again_after_a_rest() {
    let mut leader = leader(1);
    let fence = fence_of(&leader.register(worker("a", 1), NOW).unwrap());
    let failed = Event::PrepareFailed {
        fence,
        name: "a".into(),
        why: "disk".into(),
    };
    assert_eq!(leader.on(failed, NOW).len(), 1);
    assert_eq!(leader.on(Event::Tick, NOW), [], "a rest first");
    assert!(leader.status().text.contains("disk"));
    assert!(fence_of(&leader.on(Event::Tick, LATER)) > fence);
}

#[test]
fn a_spare_takes_the_seat_of_one_who_left() {
    let (mut leader, _) = serving();
    assert_eq!(leader.register(worker("c", 1), NOW), Ok(Vec::new()));
    leader.on(
        Event::Left {
            name: "a".into(),
            incarnation: 7,
        },
        NOW,
    );
    let actions = leader.on(Event::Tick, LATER);
    let [Action::Prepare(plan)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    let names: Vec<&str> = plan
        .members
        .iter()
        .map(|(member, _)| member.name.as_str())
        .collect();
    assert_eq!(names, ["b", "c"]);
}

#[test]
fn processors_that_round_differently_are_told_how_to_compute_alike() {
    let mut leader = leader(2);
    leader.config.numerics = "fast".into();
    let of = |name, numerics: &str| Registration {
        numerics: numerics.into(),
        ..worker(name, 1)
    };
    leader.register(of("a", "fast-2"), NOW).unwrap();
    let refused = leader.register(of("b", "fast-2-dots"), NOW).unwrap_err();
    let said = refused.to_string();
    assert!(said.contains("'b' has numerics fast-2-dots, this group has fast-2"));
    assert!(said.ends_with("start all of the group with --numerics exact"));
    let refused = leader.register(of("b", "fast-2-tiles"), NOW).unwrap_err();
    let said = refused.to_string();
    assert!(said.ends_with("start all of the group with --numerics exact"));
    let refused = leader.register(of("b", "exact-2"), NOW).unwrap_err();
    assert!(
        refused
            .to_string()
            .ends_with("start it with the same numerics")
    );
}

#[test]
fn refuses_what_does_not_fit_and_says_both_sides() {
    let (mut leader, _) = serving();
    let cases = [
        (
            Registration {
                weights: "x".into(),
                ..worker("c", 1)
            },
            "model x",
        ),
        (
            Registration {
                tokenizer: "x".into(),
                ..worker("c", 1)
            },
            "tokenizer x",
        ),
        (
            Registration {
                numerics: "fast".into(),
                ..worker("c", 1)
            },
            "numerics fast",
        ),
        (
            // Of the same kind, and yet other bits than those of the members.
            Registration {
                numerics: "exact-2".into(),
                ..worker("c", 1)
            },
            "numerics exact-2",
        ),
        (
            Registration {
                wire: (2, 3),
                ..worker("c", 1)
            },
            "wire version 2 to 3",
        ),
        (
            Registration {
                incarnation: 9,
                ..worker("a", 1)
            },
            "'a' is already here",
        ),
        (
            Registration {
                num_ranks: 0,
                ..worker("c", 1)
            },
            "num_ranks is 0",
        ),
        (
            Registration {
                name: String::new(),
                ..worker("c", 1)
            },
            "name must",
        ),
    ];
    for (registration, said) in cases {
        let error = leader.register(registration, NOW).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
}

#[test]
fn a_term_is_above_every_term_a_worker_obeyed() {
    let mut leader = leader(1);
    let obeyed = Registration {
        term: Term(41),
        ..worker("a", 1)
    };
    let actions = leader.register(obeyed, NOW).unwrap();
    assert_eq!(actions, [Action::Raise { above: Term(41) }]);
    assert_eq!(leader.on(Event::Tick, LATER), [], "no epoch before that");
    assert_eq!(leader.on(Event::Raised(Term(41)), LATER), []);
    let fence = fence_of(&leader.on(Event::Raised(Term(42)), NOW + GRACE));
    assert_eq!(
        fence,
        Fence {
            term: Term(42),
            epoch: Epoch(1)
        }
    );
}

#[test]
fn workers_that_cannot_get_ready_take_turns() {
    let mut leader = leader(1);
    leader.register(worker("a", 1), NOW).unwrap();
    leader.register(worker("b", 1), NOW).unwrap();
    let mut now = NOW;
    let mut tried = Vec::new();
    for _ in 0..12 {
        now += RETRY;
        leader.on(Event::Tick, now);
        let (name, fence) = match leader.seated().first() {
            Some((member, _)) => (member.name.clone(), leader.fence().unwrap()),
            None => panic!("nobody is seated"),
        };
        tried.push(name.clone());
        let why = "disk".into();
        leader.on(Event::PrepareFailed { fence, name, why }, now);
    }
    assert_eq!(tried.concat(), "aaabbbbbbaaa");
}

#[test]
fn a_term_that_cannot_be_is_refused_and_one_of_ours_never() {
    let mut leader = leader(1);
    let with = |term| Registration {
        term,
        ..worker("a", 1)
    };
    let error = leader.register(with(MAX_TERM), NOW).unwrap_err();
    assert!(error.to_string().contains("term"), "{error}");
    let highest = Term(MAX_TERM.0 - 1);
    let asked = leader.register(with(highest), NOW).unwrap();
    assert_eq!(asked, [Action::Raise { above: highest }]);
    let fence = fence_of(&leader.on(Event::Raised(MAX_TERM), NOW + GRACE));
    assert_eq!(fence.term, MAX_TERM);
    let obeyed_us = Registration {
        lead: 7,
        ..with(MAX_TERM)
    };
    leader.register(obeyed_us, NOW).unwrap();
}

#[test]
fn a_term_is_shared_with_no_other_lead() {
    let mut leader = leader(1);
    let with = |lead| Registration {
        term: Term(1),
        lead,
        ..worker("a", 1)
    };
    fence_of(&leader.register(with(7), NOW).unwrap());
    let left = Event::Left {
        name: "a".into(),
        incarnation: 7,
    };
    leader.on(left, NOW);
    let actions = leader.register(with(8), LATER).unwrap();
    assert_eq!(actions, [Action::Raise { above: Term(1) }]);
}

#[test]
fn a_worker_that_does_not_say_whom_it_obeys_is_known_again_when_it_returns() {
    let (mut leader, fence) = serving();
    let left = Event::Left {
        name: "a".into(),
        incarnation: 7,
    };
    leader.on(left, NOW);
    // Another takes its place, and an epoch is planned without it.
    let next = fence_of(&leader.register(worker("c", 1), LATER).unwrap());
    assert!(next > fence);
    let with = |incarnation| Registration {
        term: Term(1),
        incarnation,
        ..worker("a", 1)
    };
    assert_eq!(leader.register(with(7), LATER), Ok(Vec::new()));
    let left = Event::Left {
        name: "a".into(),
        incarnation: 7,
    };
    leader.on(left, LATER);
    let actions = leader.register(with(8), LATER).unwrap();
    assert_eq!(actions, [Action::Raise { above: Term(1) }], "another start");
}

#[test]
fn who_obeys_another_lead_is_sent_away_to_say_so() {
    let (mut leader, fence) = serving();
    let (name, why) = ("a".to_owned(), "term 1 is another's".to_owned());
    let overtaken = |fence| Event::Overtaken {
        fence,
        name: name.clone(),
        why: why.clone(),
    };
    assert_eq!(
        leader.on(overtaken(Fence::default()), NOW),
        [],
        "of an epoch that is over"
    );
    let (incarnation, evicted, stopped) = (7, why.clone(), why.clone());
    let expected = [
        Action::Evict {
            name: name.clone(),
            incarnation,
            why: evicted,
        },
        Action::Stop {
            fence,
            why: stopped,
        },
    ];
    assert_eq!(leader.on(overtaken(fence), NOW), expected);
}

fn draining(name: &str) -> Event {
    Event::Draining {
        name: name.into(),
        incarnation: 7,
    }
}

#[test]
fn a_worker_that_drains_is_needed_while_its_group_computes() {
    let (mut leader, _) = serving();
    assert_eq!(leader.on(draining("a"), NOW), []);
    assert!(leader.is_draining() && leader.status().serving);
    assert_eq!(leader.status().draining, ["a"]);
    assert_eq!(leader.released(false), [""; 0]);
    assert_eq!(leader.released(true), ["a"]);
    // A spare that comes meanwhile is as good.
    let actions = leader.register(worker("c", 1), NOW).unwrap();
    let [Action::Stop { .. }, Action::Prepare(plan)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    let names = plan.members.iter().map(|(member, _)| member.name.as_str());
    assert_eq!(names.collect::<Vec<_>>(), ["b", "c"]);
    assert_eq!(leader.released(false), ["a"]);
    assert!(!leader.is_draining());
}

#[test]
fn a_spare_takes_the_seat_of_one_who_drains_at_once_and_without_a_rest() {
    let (mut leader, fence) = serving();
    assert_eq!(leader.register(worker("c", 1), NOW), Ok(Vec::new()));
    assert_eq!(leader.on(draining("c"), NOW), []);
    assert_eq!(leader.released(false), ["c"], "a spare is needed by nobody");
    assert_eq!(leader.register(worker("d", 1), NOW), Ok(Vec::new()));
    let actions = leader.on(draining("b"), NOW);
    let why = "worker 'b' drains".to_owned();
    assert_eq!(actions[0], Action::Stop { fence, why });
    assert!(fence_of(&actions) > fence);
}

#[test]
fn an_epoch_is_prepared_with_nobody_who_drains() {
    let mut leader = leader(2);
    leader.register(worker("a", 1), NOW).unwrap();
    let fence = fence_of(&leader.register(worker("b", 1), NOW).unwrap());
    let why = "worker 'a' drains".to_owned();
    assert_eq!(leader.on(draining("a"), NOW), [Action::Stop { fence, why }]);
    assert_eq!(leader.released(false), ["a"]);
    // The next lead hears it with the registration.
    let mut next = self::leader(2);
    let drains = Registration {
        draining: true,
        ..worker("a", 1)
    };
    assert_eq!(next.register(drains, NOW), Ok(Vec::new()));
    assert_eq!(next.register(worker("b", 1), NOW), Ok(Vec::new()));
    assert_eq!(next.on(Event::Tick, LATER), []);
}

#[test]
fn all_may_drain_at_once() {
    let (mut leader, _) = serving();
    assert_eq!(leader.on(draining("a"), NOW), []);
    assert_eq!(leader.on(draining("b"), NOW), []);
    assert_eq!(leader.released(false), [""; 0]);
    assert_eq!(leader.released(true), ["a", "b"]);
}
