//! How the rows of a step are shared when not all prompts go in at once, and who goes by whom.

use engine::{Engine, EngineConfig};
use spec::{
    Epoch, Fence, LineResult, Part, PartResult, SampledToken, SequenceId, Step, Term, TokenId,
};

use crate::world::{World, request, roomy, text};

/// An engine whose ranks answer at once: stub ranks would read each of 100,000 positions again for
/// every row.
struct Blank {
    engine: Engine,
    steps: usize,
}

impl Blank {
    fn new(config: EngineConfig) -> Self {
        let fence = Fence {
            term: Term(1),
            epoch: Epoch(1),
        };
        Self {
            engine: Engine::new(config, fence).expect("a configuration that holds"),
            steps: 0,
        }
    }

    fn submit(&mut self, id: u64, prompt: u32) {
        let key = u32::try_from(id).expect("ids are small");
        self.submit_text(id, text(key, prompt));
    }

    fn submit_text(&mut self, id: u64, prompt: Vec<TokenId>) {
        let submitted = self.engine.submit(request(id, prompt, 2));
        submitted.expect("it is not refused");
    }

    /// Runs one step; returns it, and who has ended.
    fn step(&mut self) -> (Step, Vec<u64>) {
        self.steps += 1;
        let step = self.engine.next_step().expect("there is work");
        let answer = |part: &Part| {
            let lines = part.lines.iter().map(|line| {
                let (token, logprob) = (TokenId(1), None);
                let sampled = line.samples.then_some(SampledToken { token, logprob });
                LineResult {
                    ran: true,
                    tokens: sampled.into_iter().collect(),
                    prompt_logprobs: Vec::new(),
                }
            });
            PartResult {
                rank: part.rank,
                lines: lines.collect(),
            }
        };
        let results = step.parts.iter().map(answer).collect();
        let completed = self.engine.complete(step.number, results);
        let completed = completed.expect("the results answer the step");
        let ended = completed.events.iter().filter(|e| e.finished.is_some());
        (step, ended.map(|event| event.sequence.0).collect())
    }

    /// Runs until a sequence ends; returns in how many steps.
    fn steps_of(&mut self, id: u64) -> usize {
        let before = self.steps;
        while !self.step().1.contains(&id) {
            assert!(self.steps < before + 5_000, "sequence {id} does not end");
        }
        self.steps - before
    }
}

fn rows(part: &Part) -> usize {
    part.lines.iter().map(|line| line.len as usize).sum()
}

fn long() -> EngineConfig {
    let mut config = roomy();
    config.kv.full_blocks = 32_768;
    config.kv.num_slots = 16;
    config.max_step_rows = 128;
    config.max_context = 131_072;
    config
}

#[test]
fn a_short_prompt_is_answered_at_once_beside_long_ones() {
    for num_long in 1..=4 {
        let mut world = Blank::new(long());
        for id in 1..=num_long {
            world.submit(id, 100_000);
            world.step();
        }
        // 200 rows at 64 a step, and one for its second token.
        world.submit(9, 200);
        assert_eq!(world.steps_of(9), 4 + 1, "beside {num_long}");
    }
}

#[test]
fn a_long_prompt_gets_half_of_the_rows_whoever_else_comes() {
    let mut world = Blank::new(long());
    world.submit(1, 100_000);
    let mut id = 2;
    loop {
        if world.engine.num_waiting() < 4 {
            world.submit(id, 300);
            id += 1;
        }
        let (step, ended) = world.step();
        assert_eq!(rows(&step.parts[0]), 128, "no row is wasted");
        if ended.contains(&1) {
            break;
        }
    }
    // Those that decode take a row each of the 128, and what is left is halved in whole blocks.
    assert!(world.steps < 100_000 / 48 + 10, "{} steps", world.steps);
    assert!(id > 250, "{id} others had their turn meanwhile");
}

#[test]
fn a_prompt_of_middling_length_is_not_kept_waiting_for_ever_by_shorter_ones() {
    let mut world = Blank::new(long());
    world.submit(1, 20_000);
    world.submit(2, 2_000);
    let mut id = 3;
    loop {
        if world.engine.num_waiting() < 4 {
            world.submit(id, 100);
            id += 1;
        }
        if world.step().1.contains(&2) {
            break;
        }
        assert!(world.steps < 600, "it still waits");
    }
}

#[test]
fn who_waits_without_room_slows_nobody() {
    let mut config = long();
    config.kv.full_blocks = 2_000;
    let mut world = Blank::new(config);
    world.submit(1, 25_600);
    world.submit(2, 25_600);
    assert_eq!(world.steps_of(1), 200 + 1);
    // The other could not come in for want of blocks.
    assert_eq!(world.steps_of(2), 200 + 1);
}

/// Walks through long prefixes cost milliseconds each.
#[test]
fn long_hits_that_come_together_are_looked_for_in_several_steps() {
    const LONG: u32 = 100_000;
    const RANKS: usize = 4;
    let mut config = long();
    config.num_ranks = RANKS;
    config.max_step_rows = 4_096;
    let mut world = Blank::new(config);
    // All at once, so that every rank computes and keeps the prefix.
    for id in 1..=RANKS as u64 {
        world.submit_text(id, text(0, LONG));
    }
    world.steps_of(RANKS as u64);
    while world.engine.num_running() > 0 {
        world.step();
    }
    // One that decodes, and the next turns of four chats.
    let submitted = world.engine.submit(request(9, text(9, 100), 1_000));
    submitted.expect("it is not refused");
    world.step();
    for id in 10..14 {
        let mut turn = text(0, LONG);
        turn.extend(text(id, 100));
        world.submit_text(u64::from(id), turn);
    }
    let opened = |step: &Step| {
        step.parts
            .iter()
            .map(|part| part.opens.len())
            .sum::<usize>()
    };
    let mut steps = Vec::new();
    while steps.iter().sum::<usize>() < 4 {
        steps.push(opened(&world.step().0));
        assert!(steps.len() < 100, "all have their turn");
    }
    // A walk counts 2 blocks for each 16 tokens. Two are enough for a step, and a turn needs one on
    // each rank.
    assert_eq!(steps[0], 0, "{steps:?}");
    assert!(steps.len() >= 4 * RANKS / 2, "{steps:?}");
}

#[test]
fn who_wants_a_rank_without_rows_lets_those_behind_it_go_elsewhere() {
    let mut config = roomy();
    config.num_ranks = 2;
    config.max_step_rows = 32;
    let mut world = World::new(config, 1000, 1);
    world.hit_of(request(1, text(1, 2000), 1));
    let turn = |id: u32, more: u32| {
        let mut prompt = text(1, 2000);
        prompt.extend(text(id, more));
        request(u64::from(id), prompt, 40)
    };
    // All of one principal: both want the first rank, and the first of them takes all its rows.
    world.submit(turn(2, 100)).unwrap();
    world.submit(turn(3, 10)).unwrap();
    for id in 4..=20 {
        world
            .submit(request(u64::from(id), text(id, 60), 40))
            .unwrap();
    }
    let opens = |step: &Step, rank: usize| {
        let opens = step.parts[rank].opens.iter().map(|open| open.sequence.0);
        opens.collect::<Vec<_>>()
    };
    let (step, _) = world.step();
    assert_eq!((opens(&step, 0), opens(&step, 1)), (vec![2], vec![4]));
    // The one passed over is next, though many wait that the other rank alone could serve.
    let (step, _) = world.step();
    assert_eq!((opens(&step, 0)[0], opens(&step, 1)), (3, vec![5]));
    world.drain();
}

#[test]
fn who_waits_finds_a_prefix_that_another_computes_meanwhile() {
    let mut config = roomy();
    config.kv.full_blocks = 72;
    let mut world = World::new(config, 1000, 1);
    world.submit(request(1, text(1, 1000), 60)).unwrap();
    world.step();
    // By itself it takes 64 blocks; with the whole prefix shared, two.
    let mut prompt = text(1, 1000);
    prompt.extend(text(2, 10));
    world.submit(request(2, prompt, 5)).unwrap();
    world.step();
    assert_eq!(world.engine.num_waiting(), 1);
    while !world.requests[&SequenceId(2)].finished {
        world.step();
    }
    assert!(!world.requests[&SequenceId(1)].finished);
    assert_eq!((world.total.preemptions, world.total.hit_rows), (0, 992));
    world.drain();
}
