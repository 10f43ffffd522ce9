//! What goes into a step, and who gives way when blocks run out.

use std::sync::Arc;

use engine::{Finish, RankLoad};
use spec::{Sampling, SequenceId, TokenId};

use crate::world::{World, request, roomy, text};

#[test]
fn chunks_of_a_prompt_fill_the_budget_behind_the_rows_that_decode() {
    let mut config = roomy();
    config.max_in_flight = 1;
    config.max_step_rows = 64;
    let mut world = World::new(config, 1000, 1);
    world.submit(request(1, text(1, 40), 100)).unwrap();
    world.step();
    world.submit(request(2, text(2, 150), 100)).unwrap();
    for (chunk, samples) in [(63, false), (63, false), (24, true), (1, true)] {
        let (step, _) = world.step();
        let lines = &step.parts[0].lines;
        assert_eq!((lines[0].len, lines[0].samples), (1, true));
        assert_eq!((lines[1].len, lines[1].samples), (chunk, samples));
    }
}

#[test]
fn a_step_is_planned_while_the_one_before_still_samples_its_input() {
    let mut world = World::new(roomy(), 1000, 1);
    world.submit(request(1, text(1, 40), 100)).unwrap();
    let first = world.plan().unwrap().clone();
    let second = world.plan().unwrap().clone();
    assert_eq!(first.parts[0].opens.len(), 1);
    assert_eq!(
        (first.parts[0].lines[0].start, first.parts[0].lines[0].len),
        (0, 40)
    );
    assert!(second.parts[0].opens.is_empty());
    assert_eq!(
        (second.parts[0].lines[0].start, second.parts[0].lines[0].len),
        (40, 1)
    );
    assert!(world.plan().is_none(), "two are in flight");
    world.drain();
}

#[test]
fn a_line_carries_only_what_changed() {
    let mut world = World::new(roomy(), 1000, 1);
    world.submit(request(1, text(1, 4000), 100)).unwrap();
    while world.requests[&SequenceId(1)].got.is_empty() {
        world.step();
    }
    let mut blocks = 0;
    for _ in 0..64 {
        let (step, _) = world.step();
        assert!(step.parts[0].opens.is_empty());
        blocks += step.parts[0].lines[0].full.blocks.len();
        blocks += step.parts[0].lines[0].window.blocks.len();
    }
    assert_eq!(blocks, 2 * 64 / 16);
}

#[test]
fn spreads_over_the_ranks() {
    let mut config = roomy();
    config.num_ranks = 4;
    let mut world = World::new(config, 1000, 1);
    for id in 1..=8 {
        world
            .submit(request(u64::from(id), text(id, 50), 100))
            .unwrap();
    }
    let step = world.plan().unwrap();
    assert!(step.parts.iter().all(|part| part.lines.len() == 2));
}

#[test]
fn preempts_the_youngest_when_blocks_run_out_and_it_goes_on_later() {
    let mut config = roomy();
    config.kv.full_blocks = 40;
    let mut world = World::new(config, 1000, 1);
    for id in 1..=3 {
        world
            .submit(request(u64::from(id), text(id, 100), 400))
            .unwrap();
        world.step();
    }
    assert_eq!(world.engine.num_running(), 3);
    let mut order = Vec::new();
    while world.engine.has_work() {
        while world.plan().is_some() {}
        for event in world.complete(false).unwrap().events {
            order.extend(event.finished.map(|_| event.sequence.0));
        }
    }
    assert_eq!(order, [1, 2, 3]);
    // The third at 3 * 213 tokens, the second at 2 * 320, the third again beside the second.
    assert_eq!(world.total.preemptions, 3);
}

#[test]
fn waits_for_blocks_on_their_way_back_before_it_preempts_another() {
    // Over sixteen lengths each of the three is the first to want a block that is not there.
    for length in 100..116 {
        let mut config = roomy();
        config.kv.full_blocks = 40;
        let mut world = World::new(config, 1000, 1);
        for id in 1..=3 {
            let prompt = text(id, if id == 1 { length } else { 100 });
            world.submit(request(u64::from(id), prompt, 130)).unwrap();
            world.step();
        }
        world.drain();
        assert!(world.total.preemptions <= 1, "length {length}");
    }
}

#[test]
fn a_long_prompt_leaves_the_others_their_window_blocks() {
    let mut config = roomy();
    config.kv.window_blocks = 40;
    config.max_step_rows = 1024;
    let mut world = World::new(config, 1000, 1);
    // They reach the end of a block in steps of both parities.
    world.submit(request(1, text(1, 100), 300)).unwrap();
    world.submit(request(2, text(2, 101), 300)).unwrap();
    world.step();
    world.submit(request(3, text(3, 4000), 10)).unwrap();
    while world.output_of(3).is_empty() {
        while let Some(step) = world.plan() {
            let decode = step.parts[0].lines.iter().filter(|line| line.samples);
            assert!(decode.count() >= 2, "both go on in every step");
        }
        world.complete(false).unwrap();
    }
    world.drain();
    assert_eq!(world.total.preemptions, 0);
}

#[test]
fn lets_nobody_in_on_blocks_that_those_inside_need_next() {
    let mut config = roomy();
    config.kv.full_blocks = 16;
    let mut world = World::new(config, 1000, 1);
    // Eight blocks and soon nine; the other would fit beside it for two tokens only.
    world.submit(request(1, text(1, 127), 60)).unwrap();
    world.submit(request(2, text(2, 112), 10)).unwrap();
    world.step();
    assert_eq!(
        (world.engine.num_running(), world.engine.num_waiting()),
        (1, 1)
    );
    world.drain();
    assert_eq!(world.total.preemptions, 0);
}

#[test]
fn a_cancelled_sequence_frees_its_blocks_at_once_or_after_the_step_in_flight() {
    let mut world = World::new(roomy(), 1000, 1);
    let held = |world: &World| {
        let RankLoad { full, window, .. } = world.engine.load().ranks[0];
        full.held + window.held
    };
    world.submit(request(1, text(1, 100), 300)).unwrap();
    world.step();
    assert!(held(&world) > 0);
    world.cancel(SequenceId(1));
    assert_eq!(held(&world), 0);

    world.submit(request(2, text(2, 100), 300)).unwrap();
    world.plan().unwrap();
    world.cancel(SequenceId(2));
    assert!(held(&world) > 0, "the step may still write");
    world.complete(false).unwrap();
    assert_eq!(held(&world), 0);
    assert!(!world.engine.has_work());
}

#[test]
fn ends_at_the_context_and_drops_what_came_after_a_stop() {
    let mut config = roomy();
    config.max_context = 100;
    config.max_in_flight = 4;
    let mut world = World::new(config, 1000, 1);
    world.submit(request(1, text(1, 90), 300)).unwrap();
    world.drain();
    assert_eq!(world.output_of(1).len(), 10);
    assert_eq!(world.total.wasted_rows, 0, "its end was known beforehand");
    let mut stops = request(2, text(2, 50), 300);
    let (output, _) = world.undisturbed(&stops);
    stops.stop.stop_tokens = vec![TokenId(5_000), output[7]];
    world.submit(stops).unwrap();
    world.drain();
    assert_eq!(world.output_of(2), &output[..8]);
    let ended = world.requests[&SequenceId(2)].expected_finish;
    assert_eq!(ended, Finish::Stop { token: output[7] });
    assert!(world.total.wasted_rows > 0);
}

#[test]
fn a_full_context_can_be_scored() {
    let mut config = roomy();
    config.max_context = 100;
    let mut world = World::new(config, 1000, 1);
    let mut echo = request(1, text(1, 100), 16);
    echo.sampling = Arc::new(Sampling {
        prompt_logprobs: Some(0),
        ..Sampling::default()
    });
    world.submit(echo).unwrap();
    world.drain();
    assert!(world.output_of(1).is_empty());
    assert_eq!(world.requests[&SequenceId(1)].logprobs, 99);
}
