//! Tokens that are put into a generation.

use spec::TokenId;
use tonic::Code;

use super::{End, expected, follow, read, world};

#[test]
fn forced_tokens_replace_what_was_generated_and_it_goes_on_after_them() {
    let mut world = world(8, 4);
    let mut follower = world.follow(follow("a", 10)).unwrap();
    world.run(6);
    read(&mut follower);
    world.force("a", 2, &[51, 52, 53]).unwrap();
    // Again, as another front would that comes to the same place.
    world.force("a", 2, &[51, 52, 53]).unwrap();
    world.run(100);
    let mut again = world.follow(follow("a", 10)).unwrap();
    let forced = [expected(2), vec![51, 52, 53], expected(10)[5..].to_vec()].concat();
    assert_eq!(read(&mut again), (forced, Some(End::Length)));
    world.force("a", 2, &[51, 52, 53]).unwrap();
    let late = world.force("a", 3, &[1]).unwrap_err();
    assert_eq!(late.code(), Code::FailedPrecondition);
    world.step_loop.has_served = true;
    let unknown = world.force("x", 3, &[1]).unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[test]
fn forced_tokens_are_taken_with_those_before_them_that_are_missing() {
    let mut world = world(8, 4);
    let _follower = world.follow(follow("a", 10)).unwrap();
    world.run(1);
    let name = follow("a", 10).name;
    let known = world
        .step_loop
        .ledger
        .standing(&name)
        .unwrap()
        .log
        .tokens()
        .len();
    assert!(known < 4, "{known} tokens are there already");
    world.force("a", 4, &[51, 52]).unwrap();
    world.run(100);
    let mut again = world.follow(follow("a", 10)).unwrap();
    let forced = [expected(4), vec![51, 52], expected(10)[6..].to_vec()].concat();
    assert_eq!(read(&mut again), (forced, Some(End::Length)));
}

#[test]
fn one_that_was_given_up_after_other_tokens_is_submitted_with_the_forced_ones() {
    let mut world = world(8, 4);
    drop(world.follow(follow("a", 10)).unwrap());
    world.run(6);
    world.hear_gone();
    let unknown = world.force("a", 2, &[51]).unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
    let forced = [expected(2), vec![51]].concat();
    let mut again = follow("a", 10);
    again.generated = forced.iter().copied().map(TokenId).collect();
    let mut again = world.follow(again).unwrap();
    world.run(100);
    let all = [forced, expected(10)[3..].to_vec()].concat();
    assert_eq!(read(&mut again), (all, Some(End::Length)));
}

#[test]
fn forced_tokens_beyond_the_limit_end_it() {
    let mut world = world(8, 4);
    world.follow(follow("a", 4)).unwrap();
    let mut follower = world.follow(follow("a", 4)).unwrap();
    world.run(3);
    world.force("a", 2, &[51, 52, 53]).unwrap();
    assert!(!world.step_loop.engine.has_work());
    follower.following.cursor.revision += 1;
    let all = [expected(2), vec![51, 52]].concat();
    assert_eq!(read(&mut follower), (all, Some(End::Length)));
    // They are there, as far as there was room.
    world.force("a", 2, &[51, 52, 53]).unwrap();
}
