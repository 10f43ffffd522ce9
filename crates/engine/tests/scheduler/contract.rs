//! What the engine refuses, and what it tells the ranks after something failed.

use engine::{BadResult, Engine, EngineConfig, Finish, Refused};
use spec::{
    Epoch, Fence, LineResult, PartResult, Rank, SampledToken, SequenceId, StepNumber, Term, TokenId,
};

use crate::world::{World, request, roomy, text};

fn fence(epoch: u64) -> Fence {
    Fence {
        term: Term(1),
        epoch: Epoch(epoch),
    }
}

#[test]
fn refuses_what_it_could_not_run() {
    let mut config = roomy();
    config.max_waiting = 2;
    config.max_context = 1000;
    config.kv.full_blocks = 20;
    let mut world = World::new(config, 1000, 1);
    let refused = world.submit(request(1, text(1, 0), 1)).unwrap_err();
    assert!(matches!(refused, Refused::Empty { .. }));
    let refused = world.submit(request(1, text(1, 1001), 1)).unwrap_err();
    assert!(matches!(refused, Refused::TooLong { tokens: 1001, .. }));
    let refused = world.submit(request(1, text(1, 100), 222)).unwrap_err();
    assert_eq!(
        refused,
        Refused::NeverFits {
            needed: 21,
            have: 20
        }
    );
    world.submit(request(1, text(1, 100), 221)).unwrap();
    let refused = world.submit(request(1, text(1, 10), 1)).unwrap_err();
    assert!(matches!(refused, Refused::Duplicate { .. }));
    let mut resumed = request(2, text(2, 100), 5);
    resumed.prompt_len = 95;
    let refused = world.submit(resumed.clone()).unwrap_err();
    let finish = Finish::Length;
    assert_eq!(refused, Refused::Finished { finish });
    resumed.stop.max_tokens = 6;
    resumed.stop.stop_tokens = vec![resumed.tokens[99]];
    let refused = world.submit(resumed.clone()).unwrap_err();
    let token = resumed.tokens[99];
    let finish = Finish::Stop { token };
    assert_eq!(refused, Refused::Finished { finish });
    resumed.stop.stop_tokens.clear();
    world.submit(resumed).unwrap();
    let refused = world.submit(request(3, text(3, 10), 1)).unwrap_err();
    assert_eq!(refused, Refused::QueueFull { waiting: 2 });
    world.drain();
    assert_eq!(world.output_of(1).len(), 221);
}

#[test]
fn names_what_is_wrong_with_a_result() {
    let mut engine = Engine::new(roomy(), fence(1)).unwrap();
    engine.submit(request(1, text(1, 300), 5)).unwrap();
    let step = engine.next_step().unwrap();
    let number = step.number;
    let good = vec![PartResult {
        rank: Rank(0),
        lines: vec![LineResult {
            ran: true,
            ..LineResult::default()
        }],
    }];
    type Break = fn(&mut Vec<PartResult>);
    type IsNamed = fn(&BadResult) -> bool;
    let breaks: [(Break, IsNamed); 5] = [
        (|r| r.clear(), |e| matches!(e, BadResult::PartCount { .. })),
        (
            |r| r[0].rank = Rank(1),
            |e| matches!(e, BadResult::WrongRank { .. }),
        ),
        (
            |r| r[0].lines.clear(),
            |e| matches!(e, BadResult::LineCount { .. }),
        ),
        (
            |r| {
                r[0].lines[0].tokens.push(SampledToken {
                    token: TokenId(1),
                    logprob: None,
                });
            },
            |e| matches!(e, BadResult::TokenCount { most: 0, .. }),
        ),
        (
            |r| {
                r[0].lines[0].prompt_logprobs.push(spec::TokenLogprob {
                    token: TokenId(1),
                    logprob: 0.0,
                    rank: 1,
                    top: Vec::new(),
                });
            },
            |e| matches!(e, BadResult::LogprobCount { expected: 0, .. }),
        ),
    ];
    for (change, is_named) in breaks {
        let mut wrong = good.clone();
        change(&mut wrong);
        let refused = engine.complete(number, wrong).unwrap_err();
        assert!(is_named(&refused), "{refused}");
    }
    let refused = engine.complete(StepNumber(2), good.clone()).unwrap_err();
    assert!(matches!(refused, BadResult::OutOfOrder { .. }));
    engine.complete(number, good).unwrap();
}

#[test]
fn after_a_void_step_the_plan_is_complete() {
    let mut world = World::new(roomy(), 1000, 1);
    world.submit(request(1, text(1, 200), 50)).unwrap();
    world.submit(request(2, text(2, 20), 2)).unwrap();
    while !world.requests[&SequenceId(2)].finished {
        world.step();
    }
    // The step that would have closed the second one's slot is void: it is closed by the next.
    let closes = world.plan().unwrap().parts[0].closes.clone();
    assert_eq!(closes.len(), 1);
    world.plan().unwrap();
    world.void();
    let known = 200 + world.output_of(1).len();
    let part = world.plan().unwrap().parts[0].clone();
    assert_eq!(part.closes, closes);
    assert_eq!(part.opens.len(), 1);
    assert_eq!(part.opens[0].tokens.len(), known);
    let line = &part.lines[0];
    assert_eq!((line.start as usize, line.len), (known - 1, 1));
    assert_eq!(
        (line.full.first, line.full.blocks.len()),
        (0, known.div_ceil(16))
    );
    assert_eq!(line.window.first as usize, (known - 128) / 16);
    world.complete(false).unwrap();
    assert!(world.plan().unwrap().parts[0].closes.is_empty());
    world.drain();
}

#[test]
fn a_new_epoch_keeps_what_it_can_and_recomputes_the_rest_in_order() {
    let config = EngineConfig {
        num_ranks: 3,
        ..roomy()
    };
    let mut world = World::new(config, 1000, 1);
    for id in 1..=6 {
        world
            .submit(request(u64::from(id), text(id, 100), 50))
            .unwrap();
    }
    world.step();
    world.step();
    world.plan().unwrap();
    // Rank 2 is gone, and the others have changed places.
    world.begin_epoch(&[Some(Rank(1)), Some(Rank(0))]);
    assert_eq!(
        (world.engine.num_waiting(), world.engine.num_running()),
        (2, 4)
    );
    world.submit(request(7, text(7, 10), 5)).unwrap();
    let step = world.plan().unwrap().clone();
    let opens = |rank: usize| step.parts[rank].opens.iter().map(|open| open.sequence.0);
    assert_eq!(opens(0).collect::<Vec<_>>(), [2, 5, 3, 7]);
    assert_eq!(opens(1).collect::<Vec<_>>(), [1, 4, 6]);
    let computed = |line: &spec::Line| line.start > 0;
    let kept = step
        .parts
        .iter()
        .flat_map(|part| &part.lines)
        .filter(|line| computed(line));
    assert_eq!(kept.count(), 4);
    world.drain();
}

#[test]
fn refuses_an_epoch_that_is_old_or_names_a_rank_that_is_not_there() {
    let mut engine = Engine::new(roomy(), fence(2)).unwrap();
    let mut field =
        |fence, homes: &[Option<Rank>]| engine.begin_epoch(fence, homes).unwrap_err().field;
    assert_eq!(field(fence(2), &[None]), "fence");
    assert_eq!(field(fence(3), &[]), "homes");
    assert_eq!(field(fence(3), &[Some(Rank(1))]), "homes");
    assert_eq!(field(fence(3), &[Some(Rank(0)), Some(Rank(0))]), "homes");
    engine
        .begin_epoch(fence(3), &[Some(Rank(0)), None])
        .unwrap();
    assert_eq!((engine.fence(), engine.config().num_ranks), (fence(3), 2));
}
