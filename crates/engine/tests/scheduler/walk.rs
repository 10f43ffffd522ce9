//! Random walks: everything that can happen, in any order, on small and tight configurations.

use std::sync::Arc;

use engine::{EngineConfig, Refused, Report, Stop, Submit};
use spec::{KvPlan, Rank, Sampling, SequenceId, TokenId};

use crate::world::{Rng, World};

const SEEDS: u64 = 300;
const MOVES: usize = 300;

fn config(rng: &mut Rng) -> EngineConfig {
    let block_size = rng.within(1, 5);
    let sliding_window = rng.within(1, 9);
    let num_slots = rng.within(1, 6);
    let max_context = rng.within(20, 60);
    let window_need = (sliding_window - 1).div_ceil(block_size) + 1;
    // From one sequence of full length, which then has the rank to itself, to room for several.
    let full_need = max_context.div_ceil(block_size);
    EngineConfig {
        num_ranks: rng.within(1, 4),
        kv: KvPlan {
            block_size,
            full_blocks: full_need + rng.below(full_need),
            window_blocks: window_need * rng.within(1, 4) + rng.below(window_need),
            num_slots,
        },
        sliding_window,
        max_step_rows: num_slots + rng.below(14),
        max_in_flight: rng.within(1, 4),
        max_waiting: rng.within(2, 9),
        max_context,
        checkpoint_interval: block_size * rng.within(1, 4),
    }
}

fn a_submit(world: &mut World, id: u64, principals: usize) -> Submit {
    let vocab = world.model.vocab;
    let rng = &mut world.rng;
    let mut prompt: Vec<TokenId> = Vec::new();
    match rng.below(10) {
        // The next turn of a chat.
        0..4 if !world.requests.is_empty() => {
            let turn = rng.below(world.requests.len());
            let request = world
                .requests
                .values()
                .nth(turn)
                .expect("below their number");
            prompt.extend(&request.submit.tokens);
            prompt.extend(&request.got);
        }
        // One of a few beginnings that many share.
        0..7 => {
            let beginning = rng.below(3) as u32;
            prompt.extend((0..12).map(|i| TokenId((i * i + beginning) % vocab)));
        }
        _ => {}
    }
    // Some are long, so that others run or wait beside their chunks.
    let most = if rng.chance(20) { 30 } else { 9 };
    for _ in 0..rng.within(1, most) {
        prompt.push(TokenId(rng.below(vocab as usize) as u32));
    }
    let mut stop_tokens = Vec::new();
    if rng.chance(50) {
        stop_tokens.push(TokenId(rng.below(vocab as usize) as u32));
    }
    let sampling = Sampling {
        seed: rng.below(2) as u64,
        prompt_logprobs: rng.chance(20).then_some(1),
        ..Sampling::default()
    };
    let submit = Submit {
        sequence: SequenceId(id),
        prompt_len: prompt.len(),
        tokens: prompt,
        sampling: Arc::new(sampling),
        stop: Stop {
            max_tokens: rng.below(40),
            stop_tokens,
        },
        principal: if rng.chance(30) {
            rng.below(principals) as u32
        } else {
            0
        },
        cache_salt: u64::from(rng.chance(10)),
        was_accepted: rng.chance(10),
        priority: if rng.chance(20) {
            rng.below(5) as i32 - 2
        } else {
            0
        },
    };
    let resumed = rng.chance(15);
    let mut submit = submit;
    if resumed {
        let (output, _) = world.undisturbed(&submit);
        let some = world.rng.below(output.len() + 1);
        submit.tokens.extend(&output[..some]);
    }
    submit
}

fn submit(world: &mut World, id: u64, principals: usize) {
    let submit = a_submit(world, id, principals);
    let config = world.engine.config().clone();
    let (num_tokens, resumed) = (submit.tokens.len(), submit.tokens.len() > submit.prompt_len);
    let full = world.engine.num_waiting() >= config.max_waiting;
    match world.submit(submit) {
        Ok(()) => {}
        Err(Refused::TooLong { .. }) => assert!(num_tokens > config.max_context),
        Err(Refused::QueueFull { .. }) => assert!(full),
        Err(Refused::Finished { .. }) => assert!(resumed),
        Err(refused) => panic!("{refused}"),
    }
}

/// Changes the output of a live sequence.
fn rewrite(world: &mut World) {
    let live = world
        .requests
        .iter()
        .filter(|(_, request)| !request.finished);
    let ids: Vec<_> = live.map(|(id, _)| *id).collect();
    if ids.is_empty() {
        return;
    }
    let id = ids[world.rng.below(ids.len())];
    let output = world.requests[&id].output_len();
    let keep = world.rng.below(output + 1);
    let vocab = world.model.vocab as usize;
    let count = world.rng.within(1, 6);
    let tokens: Vec<_> = (0..count)
        .map(|_| TokenId(world.rng.below(vocab) as u32))
        .collect();
    world.rewrite(id, keep, &tokens);
}

fn begin_epoch(world: &mut World) {
    let old = world.ranks.len();
    let mut homes: Vec<_> = (0..old as u32).map(|rank| Some(Rank(rank))).collect();
    let turn = world.rng.below(old);
    homes.rotate_left(turn);
    for home in &mut homes {
        if world.rng.chance(40) {
            *home = None;
        }
    }
    match world.rng.below(3) {
        0 if homes.len() > 1 => drop(homes.pop()),
        1 if homes.len() < 4 => homes.push(None),
        _ => {}
    }
    world.begin_epoch(&homes);
}

fn walk(seed: u64) -> World {
    let mut rng = Rng::new(seed);
    let config = config(&mut rng);
    let vocab = rng.within(2, 8) as u32;
    let mut world = World::new(config, vocab, seed);
    world.late_percent = [0, 5, 30][rng.below(3)];
    let calm = rng.chance(30);
    let principals = rng.within(1, 3);
    let most_at_once = rng.within(1, 4);
    for id in 0..MOVES as u64 {
        match rng.below(100) {
            0..18 => {
                for nth in 0..rng.within(1, most_at_once) as u64 {
                    submit(&mut world, 4 * id + nth, principals);
                }
            }
            18..50 => drop(world.plan()),
            50..82 => {
                let broken = rng.chance(10);
                world.complete(broken);
            }
            82..90 => {
                let rank = rng.below(world.ranks.len());
                world.run_ahead(rank);
            }
            90..94 => {
                let ids: Vec<_> = world.requests.keys().copied().collect();
                if !ids.is_empty() {
                    world.cancel(ids[rng.below(ids.len())]);
                }
            }
            94..96 => rewrite(&mut world),
            96..98 if !calm => world.void(),
            98.. if !calm => begin_epoch(&mut world),
            _ => drop(world.plan()),
        }
    }
    world.late_percent = 0;
    world.drain();
    // The last step has closed all that went before: ranks hold nothing that is over.
    let held: usize = world.ranks.iter().map(|rank| rank.slots.len()).sum();
    assert_eq!(held, 0, "slots held on ranks");
    world
}

#[test]
fn every_walk_ends_with_the_texts_of_undisturbed_runs() {
    let only = option_env!("ENGINE_WALK_SEED").map(|seed| seed.parse().expect("a number"));
    let seeds = only.map_or(0..SEEDS, |seed: u64| seed..seed + 1);
    let mut total = Report::default();
    let (mut passed_over, mut shared_parts, mut rewritten) = (0, 0, 0);
    for seed in seeds {
        println!("seed {seed} (to run it alone, build with ENGINE_WALK_SEED={seed})");
        let world = walk(seed);
        let report = &world.total;
        passed_over += world.passed_over;
        shared_parts += world.shared_parts;
        rewritten += world.rewritten;
        total.preemptions += report.preemptions;
        total.hit_rows += report.hit_rows;
        total.late_lines += report.late_lines;
        total.wasted_rows += report.wasted_rows;
        total.tokens += report.tokens;
    }
    println!("{total:?}, passed over {passed_over}, shared parts {shared_parts}");
    if only.is_none() {
        // The walks go where they are meant to.
        assert!(
            total.preemptions > 200 && total.hit_rows > 5_000,
            "{total:?}"
        );
        assert!(
            total.late_lines > 1_000 && total.wasted_rows > 1_000,
            "{total:?}"
        );
        assert!(total.tokens > 30_000, "{total:?}");
        assert!(passed_over > 0 && shared_parts > 1_000 && rewritten > 500);
    }
}
