//! Tests of [`Ledger`]: who is kept, for how long, and what is remembered.

use super::*;

const MEMORY: Memory = Memory {
    time: Duration::from_secs(600),
    count: 3,
    bytes: 1 << 20,
};

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn name(id: &str) -> Name {
    Name {
        principal: "p".into(),
        request_id: id.into(),
    }
}

fn record(fingerprint: u8) -> Record {
    Record {
        fingerprint: [fingerprint; 32],
        front: Bytes::from_static(b"front"),
        kept: Bytes::from_static(b"kept"),
        work: Work {
            prompt: Arc::from([TokenId(1), TokenId(2)]),
            sampling: Arc::default(),
            stop: Stop::default(),
            cache_salt: 0,
            priority: 0,
        },
    }
}

fn enter(ledger: &mut Ledger, id: &str, sequence: u64, terms: &Terms, now: Duration) {
    let entering = Entering {
        sequence: SequenceId(sequence),
        max_tokens: 100,
        queue_position: 0,
        generated: &[],
        terms,
        now,
    };
    ledger.enter(&name(id), &record(1), &entering);
}

fn kept(seconds: u64) -> Terms {
    Terms {
        keep: Some(at(seconds)),
        ..Terms::default()
    }
}

fn event(sequence: u64, first: u32, tokens: &[u32], finished: Option<Finish>) -> Event {
    let sampled = |token: &u32| spec::SampledToken {
        token: TokenId(*token),
        logprob: None,
    };
    Event {
        sequence: SequenceId(sequence),
        first_position: first,
        tokens: tokens.iter().map(sampled).collect(),
        first_prompt_position: 1,
        prompt_logprobs: Vec::new(),
        finished,
    }
}

fn end_of(ledger: &Ledger, id: &str) -> Option<End> {
    let standing = ledger.standing(&name(id)).unwrap();
    standing.log.end().map(|(end, _)| end.clone())
}

#[test]
fn a_name_belongs_to_one_request() {
    let mut ledger = Ledger::new(MEMORY);
    let find = |ledger: &Ledger, fingerprint: u8| ledger.find(&name("a"), Some(&[fingerprint; 32]));
    assert_eq!(find(&ledger, 1), Found::Nothing);
    enter(&mut ledger, "a", 1, &Terms::default(), at(0));
    assert_eq!(find(&ledger, 1), Found::This);
    assert_eq!(find(&ledger, 2), Found::Another);
    assert_eq!(ledger.find(&name("a"), None), Found::This);
    let other = Name {
        principal: "q".into(),
        ..name("a")
    };
    assert_eq!(ledger.find(&other, None), Found::Nothing);
}

#[test]
fn the_last_follower_takes_it_with_him_unless_it_is_kept() {
    let mut ledger = Ledger::new(MEMORY);
    enter(&mut ledger, "a", 1, &Terms::default(), at(0));
    let one = ledger.follow(&name("a"), &Terms::default(), at(0)).unwrap();
    let two = ledger.follow(&name("a"), &Terms::default(), at(1)).unwrap();
    assert_eq!(ledger.unfollow(&name("a"), one.number, at(2)), None);
    assert_eq!(ledger.unfollow(&name("a"), one.number, at(2)), None);
    let given_up = ledger.unfollow(&name("a"), two.number, at(3));
    assert_eq!(given_up, Some(SequenceId(1)));
    assert_eq!(end_of(&ledger, "a"), Some(End::Abandoned));

    enter(&mut ledger, "b", 2, &kept(30), at(0));
    let one = ledger.follow(&name("b"), &kept(30), at(0)).unwrap();
    assert_eq!(ledger.unfollow(&name("b"), one.number, at(5)), None);
    assert_eq!(ledger.next_due(), Some(at(35)));
    assert_eq!(ledger.expire(at(34)), []);
    // Who comes back in time finds it alive.
    let two = ledger.follow(&name("b"), &kept(10), at(34)).unwrap();
    assert_eq!(ledger.expire(at(100)), []);
    assert_eq!(ledger.unfollow(&name("b"), two.number, at(100)), None);
    assert_eq!(ledger.expire(at(110)), [SequenceId(2)]);
    assert_eq!(end_of(&ledger, "b"), Some(End::Abandoned));
}

#[test]
fn a_deadline_ends_it_whatever_it_does_and_another_call_puts_it_off() {
    let mut ledger = Ledger::new(MEMORY);
    let by = |seconds| Terms {
        deadline: Some(at(seconds)),
        ..kept(600)
    };
    enter(&mut ledger, "a", 1, &by(5), at(0));
    ledger.follow(&name("a"), &by(5), at(0)).unwrap();
    ledger.follow(&name("a"), &by(5), at(3)).unwrap();
    assert_eq!(ledger.expire(at(7)), []);
    assert_eq!(ledger.expire(at(8)), [SequenceId(1)]);
    assert_eq!(end_of(&ledger, "a"), Some(End::Failed(Failure::Deadline)));
    enter(&mut ledger, "b", 2, &by(5), at(10));
    ledger.follow(&name("b"), &by(5), at(10)).unwrap();
    ledger.follow(&name("b"), &kept(1), at(10)).unwrap();
    assert_eq!(ledger.expire(at(100)), [], "one of them has no deadline");
}

#[test]
fn the_follower_that_sees_its_deadline_pass_first_has_not_abandoned_it() {
    let mut ledger = Ledger::new(MEMORY);
    let terms = Terms {
        deadline: Some(at(5)),
        ..Terms::default()
    };
    enter(&mut ledger, "a", 1, &terms, at(0));
    let one = ledger.follow(&name("a"), &terms, at(0)).unwrap();
    let early = at(5) - limits::DEADLINE_SLACK / 2;
    assert!(ledger.unfollow(&name("a"), one.number, early).is_some());
    assert_eq!(end_of(&ledger, "a"), Some(End::Failed(Failure::Deadline)));
}

#[test]
fn a_queue_timeout_counts_until_it_runs() {
    let mut ledger = Ledger::new(MEMORY);
    let terms = Terms {
        queue_timeout: Some(at(5)),
        ..Terms::default()
    };
    for (id, sequence) in [("a", 1), ("b", 2)] {
        enter(&mut ledger, id, sequence, &terms, at(0));
        ledger.follow(&name(id), &terms, at(0)).unwrap();
    }
    ledger.run(SequenceId(1), 0, at(4));
    assert_eq!(ledger.expire(at(100)), [SequenceId(2)]);
    let failed = End::Failed(Failure::QueueTimeout);
    assert_eq!(end_of(&ledger, "b"), Some(failed));
    assert_eq!(end_of(&ledger, "a"), None);
}

#[test]
fn what_stopped_goes_on_after_its_tokens_and_what_was_cancelled_does_not() {
    let mut ledger = Ledger::new(MEMORY);
    enter(&mut ledger, "a", 1, &Terms::default(), at(0));
    ledger.tell(event(1, 2, &[7, 8], None), at(1));
    ledger.fail(SequenceId(1), Failure::Ending, at(2));
    let known = [TokenId(7), TokenId(8)];
    assert_eq!(
        ledger.find(&name("a"), None),
        Found::Stopped {
            tokens: known.to_vec(),
            failed: true,
        }
    );
    enter(&mut ledger, "a", 2, &Terms::default(), at(50));
    assert_eq!(ledger.find(&name("a"), None), Found::This);
    ledger.tell(event(1, 4, &[66], None), at(51));
    ledger.tell(event(2, 4, &[9], None), at(51));
    let standing = ledger.standing(&name("a")).unwrap();
    let ids: Vec<_> = standing.log.tokens().iter().map(|t| t.token.0).collect();
    assert_eq!(ids, [7, 8, 9]);
    drop(standing);
    let stopped = ledger.stop(&name("a"), End::Cancelled, at(60));
    assert_eq!(stopped, Some(Some(SequenceId(2))));
    assert_eq!(ledger.find(&name("a"), None), Found::This);
    assert_eq!(ledger.stop(&name("a"), End::Settled, at(61)), Some(None));
    assert_eq!(end_of(&ledger, "a"), Some(End::Cancelled));
    assert_eq!(ledger.stop(&name("x"), End::Cancelled, at(61)), None);
    // It was remembered once only.
    assert_eq!(ledger.expire(at(659)), []);
    assert!(ledger.standing(&name("a")).is_some());
    ledger.expire(at(660));
    assert!(ledger.standing(&name("a")).is_none());
    assert_eq!((ledger.ended_bytes, ledger.ended.len()), (0, 0));
}

#[test]
fn an_end_in_the_text_counts_even_where_its_follower_left_first() {
    let mut ledger = Ledger::new(MEMORY);
    enter(&mut ledger, "a", 1, &Terms::default(), at(0));
    let one = ledger.follow(&name("a"), &Terms::default(), at(0)).unwrap();
    ledger.unfollow(&name("a"), one.number, at(1));
    assert_eq!(ledger.stop(&name("a"), End::Settled, at(2)), Some(None));
    assert_eq!(end_of(&ledger, "a"), Some(End::Settled));
    assert_eq!(ledger.find(&name("a"), None), Found::This);
}

#[test]
fn forgets_the_oldest_by_time_by_number_and_by_bytes() {
    let mut ledger = Ledger::new(MEMORY);
    for number in 1..=4 {
        let id = number.to_string();
        enter(&mut ledger, &id, number, &Terms::default(), at(number));
        ledger.tell(
            event(number, 2, &[5], Some(Finish::Length)),
            at(10 + number),
        );
    }
    ledger.expire(at(20));
    assert!(
        ledger.standing(&name("1")).is_none(),
        "there are more than 3"
    );
    assert!(ledger.standing(&name("2")).is_some());
    assert_eq!(ledger.next_due(), Some(at(612)));
    ledger.expire(at(612));
    assert!(ledger.standing(&name("2")).is_none(), "it is too long ago");
    assert!(ledger.standing(&name("3")).is_some());
    let long: Vec<u32> = vec![5; 100_000];
    enter(&mut ledger, "long", 9, &Terms::default(), at(612));
    ledger.tell(event(9, 2, &long, Some(Finish::Length)), at(612));
    assert!(ledger.ended_bytes > MEMORY.bytes);
    ledger.expire(at(612));
    assert!(ledger.entries.is_empty(), "alone it is too large");
    assert_eq!(ledger.ended_bytes, 0);
}

#[test]
fn a_request_waits_for_a_group_for_as_long_as_any_other() {
    let mut ledger = Ledger::new(MEMORY);
    enter(&mut ledger, "a", 1, &Terms::default(), at(0));
    enter(&mut ledger, "b", 2, &Terms::default(), at(100));
    let late = |since, now| ledger.waiting_since(at(since), at(120), at(now));
    assert_eq!(late(0, 119), []);
    assert_eq!(late(0, 120), [SequenceId(1)]);
    assert_eq!(late(90, 210), [SequenceId(1)]);
    assert_eq!(late(90, 220), [SequenceId(1), SequenceId(2)]);
}

#[test]
fn few_may_follow_one_generation() {
    let mut ledger = Ledger::new(MEMORY);
    enter(&mut ledger, "a", 1, &kept(1), at(0));
    for _ in 0..limits::MAX_FOLLOWERS {
        assert!(ledger.follow(&name("a"), &kept(1), at(0)).is_some());
    }
    assert!(ledger.follow(&name("a"), &kept(1), at(0)).is_none());
}

#[test]
fn its_age_is_counted_from_its_arrival_anywhere() {
    let mut ledger = Ledger::new(MEMORY);
    let terms = Terms {
        age: at(7),
        ..Terms::default()
    };
    enter(&mut ledger, "a", 1, &terms, at(10));
    let one = ledger
        .follow(&name("a"), &Terms::default(), at(13))
        .unwrap();
    assert_eq!(one.age, at(10));
    ledger.tell(event(1, 2, &[5], Some(Finish::Length)), at(20));
    let two = ledger
        .follow(&name("a"), &Terms::default(), at(90))
        .unwrap();
    assert_eq!(two.age, at(17));
}
