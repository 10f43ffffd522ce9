//! Tests of who finds room in the queue, and for how long.

use std::time::Duration;

use spec::TokenId;
use tonic::Code;

use super::{expected, follow, read, world};
use crate::lead::log::End;
use crate::lead::message::Follow;
use crate::lead::step_loop::Heard;
use crate::status::reason_of;

#[test]
fn a_full_queue_is_refused_at_once_and_with_a_delay() {
    use tonic_types::StatusExt as _;
    let mut world = world(2, 1);
    let mut followers: Vec<_> = ["a", "b"]
        .map(|id| world.follow(follow(id, 9)).unwrap())
        .into();
    let status = world.follow(follow("c", 9)).unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    assert_eq!(reason_of(&status).as_deref(), Some("QUEUE_FULL"));
    assert!(status.get_details_retry_info().is_some());
    // To attach costs no place, and what ran elsewhere is not turned away.
    followers.push(world.follow(follow("a", 9)).unwrap());
    let moved = Follow {
        generated: vec![TokenId(7)],
        ..follow("d", 9)
    };
    followers.push(world.follow(moved).unwrap());
    let accepted = |id| Follow {
        was_accepted: true,
        ..follow(id, 9)
    };
    followers.extend(["e", "f"].map(|id| world.follow(accepted(id)).unwrap()));
    // What was refused left no trace: it may come back.
    world.run(100);
    assert!(world.follow(follow("c", 9)).is_ok());
}

#[test]
fn what_has_ended_here_finds_a_full_queue_as_any_new_one_does() {
    let mut world = world(2, 1);
    let mut ended = world.follow(follow("ended", 9)).unwrap();
    world.run(3);
    assert!(!read(&mut ended).0.is_empty());
    drop(ended);
    world.hear_gone();
    let waiting = ["a", "b"].map(|id| world.follow(follow(id, 9)).unwrap());
    let status = world.follow(follow("ended", 9)).unwrap_err();
    assert_eq!(reason_of(&status).as_deref(), Some("QUEUE_FULL"));
    drop(waiting);
    world.hear_gone();
    let mut again = world.follow(follow("ended", 9)).unwrap();
    world.run(100);
    assert_eq!(read(&mut again), (expected(9), Some(End::Length)));
}

#[test]
fn what_has_run_is_not_held_to_its_wait_in_a_queue() {
    let mut world = world(8, 1);
    let held = |id, generated: &[u32]| {
        let mut follow = follow(id, 9);
        follow.terms.queue_timeout = Some(Duration::from_secs(1));
        follow.generated = generated.iter().map(|id| TokenId(*id)).collect();
        follow
    };
    let _first = world.follow(follow("first", 100)).unwrap();
    world.run(1);
    let mut fresh = world.follow(held("fresh", &[])).unwrap();
    let mut ran = world.follow(held("ran", &[103])).unwrap();
    world.step_loop.on(Heard::Due, Duration::from_secs(2));
    assert!(read(&mut fresh).1.is_some());
    assert_eq!(read(&mut ran).1, None);
}
