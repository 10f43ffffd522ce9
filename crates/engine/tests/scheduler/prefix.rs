//! What the prefix cache finds again, and what it must not.

use std::sync::Arc;

use spec::{Sampling, SequenceId};

use crate::world::{World, request, roomy, text};

#[test]
fn the_next_turn_of_a_chat_hits_prompt_and_answer() {
    let mut world = World::new(roomy(), 1000, 1);
    assert_eq!(world.hit_of(request(1, text(1, 100), 60)), 0);
    let mut prompt = text(1, 100);
    prompt.extend(world.output_of(1));
    prompt.extend(text(2, 20));
    // 159 of the 160 tokens were computed: nine whole blocks.
    assert_eq!(world.hit_of(request(2, prompt.clone(), 60)), 144);
    prompt.extend(world.output_of(2));
    prompt.extend(text(3, 20));
    assert_eq!(world.hit_of(request(3, prompt, 5)), 224);
}

#[test]
fn a_shared_prefix_hits_though_the_first_sequence_went_far_on_and_after_it_ended() {
    let mut config = roomy();
    // Too few window blocks for all that passes, enough for the checkpoints.
    config.kv.window_blocks = 64;
    let mut world = World::new(config, 1000, 1);
    world.submit(request(1, text(1, 1000), 5000)).unwrap();
    while world.requests[&SequenceId(1)].got.len() < 3000 {
        world.step();
    }
    let mut prompt = text(1, 1000);
    prompt.extend(text(2, 50));
    world.submit(request(2, prompt, 5)).unwrap();
    world.step();
    assert_eq!(world.total.hit_rows, 992);
    world.drain();

    let mut prompt = text(1, 1000);
    prompt.extend(text(3, 50));
    assert_eq!(world.hit_of(request(3, prompt, 5)), 992);
    // And every 1,024 positions: this one leaves the first text 2,100 tokens on.
    let mut prompt = text(1, 1000);
    prompt.extend(&world.output_of(1)[..1100]);
    prompt.extend(text(4, 50));
    assert_eq!(world.hit_of(request(4, prompt, 5)), 2048);
}

#[test]
fn a_prefix_that_is_no_prompts_end_hits_while_nobody_needs_the_room() {
    let mut world = World::new(roomy(), 1000, 1);
    for (id, hit) in [(1, 0), (2, 992), (3, 992)] {
        let mut prompt = text(1, 1000);
        prompt.extend(text(id + 1, 300));
        assert_eq!(world.hit_of(request(u64::from(id), prompt, 1200)), hit);
    }
}

#[test]
fn a_branch_seen_once_is_kept_where_room_is_short() {
    let mut config = roomy();
    config.kv.window_blocks = 48;
    let mut world = World::new(config, 1000, 1);
    // The second finds the full layers' blocks alone; it leaves the window's there for the third.
    for (id, hit) in [(1, 0), (2, 0), (3, 992)] {
        let mut prompt = text(1, 1000);
        prompt.extend(text(id + 1, 300));
        assert_eq!(world.hit_of(request(u64::from(id), prompt, 600)), hit);
    }
}

#[test]
fn the_same_prompt_again_computes_at_least_one_token() {
    let mut world = World::new(roomy(), 1000, 1);
    world.hit_of(request(1, text(1, 320), 1));
    assert_eq!(world.hit_of(request(2, text(1, 320), 1)), 304);
    assert_eq!(world.hit_of(request(3, text(1, 321), 1)), 320);
}

#[test]
fn principals_and_salts_share_nothing() {
    let mut world = World::new(roomy(), 1000, 1);
    world.hit_of(request(1, text(1, 100), 1));
    let mut other = request(2, text(1, 100), 1);
    other.principal = 1;
    assert_eq!(world.hit_of(other), 0);
    let mut other = request(3, text(1, 100), 1);
    other.cache_salt = 1;
    assert_eq!(world.hit_of(other.clone()), 0);
    other.sequence = SequenceId(4);
    assert_eq!(world.hit_of(other), 96);
}

#[test]
fn a_prompt_whose_logprobs_are_asked_for_is_computed_whole() {
    let mut world = World::new(roomy(), 1000, 1);
    world.hit_of(request(1, text(1, 100), 1));
    let mut echo = request(2, text(1, 100), 0);
    echo.sampling = Arc::new(Sampling {
        prompt_logprobs: Some(5),
        ..Sampling::default()
    });
    assert_eq!(world.hit_of(echo), 0);
    assert_eq!(world.requests[&SequenceId(2)].logprobs, 99);
}

#[test]
fn a_sequence_goes_where_its_prefix_is_unless_too_many_are_there() {
    let mut config = roomy();
    config.num_ranks = 2;
    config.kv.num_slots = 64;
    config.kv.full_blocks = 16_384;
    let mut world = World::new(config, 1000, 1);
    world.hit_of(request(1, text(1, 1000), 1));
    let running = |world: &World| {
        let load = world.engine.load();
        load.ranks.iter().map(|r| r.running).collect::<Vec<_>>()
    };
    for id in 2..40 {
        let mut prompt = text(1, 1000);
        prompt.extend(text(id, 10));
        world.submit(request(u64::from(id), prompt, 200)).unwrap();
        world.step();
        assert!(id > 10 || running(&world)[1] == 0);
    }
    assert!(running(&world)[1] > 5, "{:?}", running(&world));
    // The other rank computed the prefix once, then had it too.
    assert!(world.total.hit_rows >= 36 * 992, "{:?}", world.total);
}
