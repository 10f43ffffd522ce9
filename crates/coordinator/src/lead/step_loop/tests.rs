//! Tests of the loop as fronts see it, with an engine whose ranks are played here.

mod forced;
mod queue;

use std::sync::Arc;

use bytes::Bytes;
use engine::{EngineConfig, Stop};
use spec::{Fence, KvPlan, LineResult, PartResult, Sampling, Step, TokenId};
use tokio::sync::oneshot;
use tonic::{Code, Status};

use super::*;
use crate::lead::ledger::{Found, Record, Terms, Work};
use crate::lead::log::{Cursor, End, Read};
use crate::lead::message::{Ask, Follow, Follower};
use crate::lead::workers::Kept;
use crate::status::reason_of;

const PROMPT: u32 = 4;

/// Workers that are never there.
struct Nobody;

impl Workers for Nobody {
    fn prepare(&mut self, _: &EpochPlan, _: &KvPlan, _: usize) {}

    fn send(&mut self, _: &Step, _: Kept<'_>) -> Result<(), String> {
        Ok(())
    }

    fn end(&mut self) {}
}

/// The loop, and what it hears of followers that go.
pub(super) struct World {
    pub(super) step_loop: StepLoop,
    gone: mpsc::UnboundedReceiver<(Name, u64)>,
}

pub(super) fn world(max_waiting: usize, num_slots: usize) -> World {
    let engine = EngineConfig {
        num_ranks: 1,
        kv: KvPlan {
            block_size: 4,
            full_blocks: 256,
            window_blocks: 64,
            num_slots,
        },
        sliding_window: 8,
        max_step_rows: 64,
        max_in_flight: 1,
        max_waiting,
        max_context: 256,
        checkpoint_interval: 64,
    };
    let leader = LeaderConfig {
        lead: 1,
        num_ranks: 1,
        num_layers: 1,
        num_experts: 1,
        weights: String::new(),
        tokenizer: String::new(),
        numerics: "exact".into(),
        wire: 1,
    };
    let (going, gone) = mpsc::unbounded_channel();
    let step_loop = StepLoop::new(Setup {
        leader,
        term: Term(1),
        outranked: watch::Sender::new(Term(0)),
        engine: Engine::new(engine, Fence::default()).unwrap(),
        max_step_rows: 64,
        vocab_size: 1000,
        workers: Box::new(Nobody),
        gone: going,
        hold: Duration::from_secs(120),
        meter: LeadMeter::new(
            telemetry::Telemetry::unseen_coordinator(vec!["0".into()], 1),
            0,
            (1, 1),
        ),
        state: watch::channel(wire::WatchResponse::default()).0,
    });
    World { step_loop, gone }
}

/// The token at a position: what a model would say, whatever came before.
fn token_at(position: usize) -> u32 {
    100 + position as u32
}

pub(super) fn follow(id: &str, max_tokens: usize) -> Follow {
    Follow {
        name: Name {
            principal: "p".into(),
            request_id: id.into(),
        },
        record: Some(Record {
            fingerprint: [max_tokens as u8; 32],
            front: Bytes::new(),
            kept: Bytes::new(),
            work: Work {
                prompt: (0..PROMPT).map(TokenId).collect::<Vec<_>>().into(),
                sampling: Arc::new(Sampling::default()),
                stop: Stop {
                    max_tokens,
                    stop_tokens: vec![TokenId(999)],
                },
                cache_salt: 0,
                priority: 0,
            },
        }),
        fingerprint: Some([max_tokens as u8; 32]),
        generated: Vec::new(),
        was_accepted: false,
        terms: Terms::default(),
    }
}

impl World {
    pub(super) fn follow(&mut self, follow: Follow) -> Result<Follower, Status> {
        let (reply, mut answer) = oneshot::channel();
        self.step_loop.answer(Ask::Follow(Box::new(follow), reply));
        answer.try_recv().unwrap()
    }

    pub(super) fn force(&mut self, id: &str, keep: usize, tokens: &[u32]) -> Result<(), Status> {
        let (reply, mut answer) = oneshot::channel();
        let ids = |tokens: &[u32]| tokens.iter().copied().map(TokenId).collect();
        let (generated, tokens) = (ids(&expected(keep)), ids(tokens));
        let name = follow(id, 0).name;
        self.step_loop
            .answer(Ask::Force(name, generated, tokens, reply));
        answer.try_recv().unwrap()
    }

    pub(super) fn stop(&mut self, id: &str, end: End) -> Result<wire::SequenceStanding, Status> {
        let (reply, mut answer) = oneshot::channel();
        self.step_loop
            .answer(Ask::Stop(follow(id, 0).name, end, reply));
        answer.try_recv().unwrap()
    }

    /// Hears of followers that went.
    pub(super) fn hear_gone(&mut self) {
        while let Ok((name, follower)) = self.gone.try_recv() {
            let now = self.step_loop.now;
            let unwanted = self.step_loop.ledger.unfollow(&name, follower, now);
            self.step_loop.give_up(unwanted);
        }
    }

    /// Runs steps as the ranks would, as long as there are any, and at most so many.
    pub(super) fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            let Some(step) = self.step_loop.engine.next_step() else {
                return;
            };
            for admitted in self.step_loop.engine.take_admitted() {
                let now = self.step_loop.now;
                self.step_loop.ledger.run(admitted.sequence, 0, now);
            }
            let result = |line: &spec::Line| {
                let position = (line.start + line.len) as usize;
                let sampled = spec::SampledToken {
                    token: TokenId(token_at(position)),
                    logprob: None,
                };
                LineResult {
                    ran: true,
                    tokens: if line.samples {
                        vec![sampled]
                    } else {
                        Vec::new()
                    },
                    prompt_logprobs: Vec::new(),
                }
            };
            let parts = step.parts.iter().map(|part| PartResult {
                rank: part.rank,
                lines: part.lines.iter().map(result).collect(),
            });
            let completed = self.step_loop.engine.complete(step.number, parts.collect());
            let now = self.step_loop.now;
            for event in completed.unwrap().events {
                self.step_loop.ledger.tell(event, now);
            }
        }
    }
}

/// Reads what there is: the tokens, and the end.
pub(super) fn read(follower: &mut Follower) -> (Vec<u32>, Option<End>) {
    let following = &mut follower.following;
    let log = following.log.borrow_and_update();
    let (mut tokens, mut ended) = (Vec::new(), None);
    while let Some(read) = log.read(&mut following.cursor) {
        match read {
            Read::Tokens { tokens: said, .. } => tokens.extend(said.iter().map(|t| t.token.0)),
            Read::End { end, .. } => ended = Some(end.clone()),
            Read::Rewritten => break,
            _ => {}
        }
    }
    (tokens, ended)
}

pub(super) fn expected(count: usize) -> Vec<u32> {
    (0..count).map(|n| token_at(PROMPT as usize + n)).collect()
}

#[test]
fn a_repeated_request_is_generated_once() {
    let mut world = world(8, 4);
    let mut first = world.follow(follow("a", 6)).unwrap();
    world.run(3);
    let mut second = world.follow(follow("a", 6)).unwrap();
    assert!(second.attached && !first.attached);
    assert_eq!(world.step_loop.engine.load().running, 1);
    world.run(10);
    let all = (expected(6), Some(End::Length));
    assert_eq!(read(&mut first), all);
    assert_eq!(read(&mut second), all);
    let mut late = world.follow(follow("a", 6)).unwrap();
    assert_eq!(read(&mut late), all);
    assert!(!world.step_loop.engine.has_work());
    let other = world.follow(follow("a", 7)).unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
    assert_eq!(reason_of(&other).as_deref(), Some("REQUEST_ID_REUSED"));
}

#[test]
fn attaching_to_the_unknown_begins_nothing() {
    let mut world = world(8, 4);
    let attach = Follow {
        record: None,
        ..follow("a", 6)
    };
    let status = world.follow(attach).unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert!(!world.step_loop.engine.has_work());
}

#[test]
fn what_was_generated_elsewhere_is_not_generated_again() {
    let mut world = world(8, 4);
    let elsewhere = Follow {
        generated: [71, 72, 73].map(TokenId).to_vec(),
        terms: Terms {
            cursor: Cursor {
                tokens: 2,
                ..Cursor::default()
            },
            ..Terms::default()
        },
        ..follow("a", 5)
    };
    let mut follower = world.follow(elsewhere).unwrap();
    world.run(10);
    let (tokens, end) = read(&mut follower);
    assert_eq!(tokens, [vec![73], expected(5)[3..].to_vec()].concat());
    assert_eq!(end, Some(End::Length));
    let whole = Follow {
        generated: [71, 999].map(TokenId).to_vec(),
        ..follow("b", 5)
    };
    let mut follower = world.follow(whole).unwrap();
    assert_eq!(read(&mut follower), (vec![71, 999], Some(End::Stop)));
}

#[test]
fn a_follower_that_goes_frees_its_place_at_once() {
    let mut world = world(8, 4);
    let follower = world.follow(follow("a", 100)).unwrap();
    world.run(3);
    drop(follower);
    world.hear_gone();
    assert!(!world.step_loop.engine.has_work());
    // The same request goes on where it was.
    let mut again = world.follow(follow("a", 100)).unwrap();
    let (before, end) = read(&mut again);
    assert!(!before.is_empty() && end.is_none());
    world.run(200);
    let (after, end) = read(&mut again);
    assert_eq!([before, after].concat(), expected(100));
    assert_eq!(end, Some(End::Length));
}

#[test]
fn what_nobody_followed_is_no_generation_to_attach_to() {
    let mut world = world(8, 4);
    drop(world.follow(follow("a", 6)).unwrap());
    world.run(3);
    world.hear_gone();
    assert!(!world.step_loop.engine.has_work());
    let mut attach = follow("a", 6);
    attach.record = None;
    // To be told that it was cancelled would be wrong: its front has lost the lead for a moment.
    let status = world.follow(attach).unwrap_err();
    assert_eq!(reason_of(&status).as_deref(), Some("GENERATION_UNKNOWN"));
    let mut again = world.follow(follow("a", 6)).unwrap();
    world.run(100);
    assert_eq!(read(&mut again), (expected(6), Some(End::Length)));
}

#[test]
fn no_more_that_ended_is_remembered_than_may_be() {
    let mut world = world(8, 4);
    let name = |index: usize| follow(&index.to_string(), 1).name;
    for index in 0..limits::MAX_ENDED + 2 {
        drop(world.follow(follow(&index.to_string(), 1)).unwrap());
        world.run(10);
        world.hear_gone();
    }
    world.step_loop.on(Heard::Tick, Duration::from_secs(1));
    let ledger = world.step_loop.ledger();
    assert_eq!(ledger.find(&name(1), None), Found::Nothing);
    assert_ne!(ledger.find(&name(2), None), Found::Nothing);
}

#[test]
fn a_front_that_is_gone_before_its_answer_leaves_nothing_behind() {
    let mut world = world(8, 4);
    let (reply, answer) = oneshot::channel();
    drop(answer);
    let ask = Ask::Follow(Box::new(follow("a", 9)), reply);
    world.step_loop.answer(ask);
    assert!(!world.step_loop.engine.has_work());
}

#[test]
fn who_attaches_to_another_request_of_the_name_is_told() {
    let mut world = world(8, 4);
    let _first = world.follow(follow("a", 6)).unwrap();
    let attach = |fingerprint| Follow {
        record: None,
        fingerprint,
        ..follow("a", 6)
    };
    let status = world.follow(attach(Some([7; 32]))).unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    // Fronts of earlier builds do not tell it.
    assert!(world.follow(attach(None)).unwrap().attached);
}

#[test]
fn a_cancelled_generation_ends_for_all_who_follow_it() {
    let mut world = world(8, 4);
    let mut one = world.follow(follow("a", 100)).unwrap();
    let mut two = world.follow(follow("a", 100)).unwrap();
    world.run(4);
    for _ in 0..2 {
        let standing = world.stop("a", End::Cancelled).unwrap();
        assert_eq!(standing.end(), wire::SequenceEnd::Cancelled);
    }
    assert!(!world.step_loop.engine.has_work());
    let heard = read(&mut one);
    assert_eq!(heard.1, Some(End::Cancelled));
    assert_eq!(read(&mut two), heard);
    // For good: the same request does not go on.
    let mut again = world.follow(follow("a", 100)).unwrap();
    assert_eq!(read(&mut again), heard);
    assert!(!world.step_loop.engine.has_work());
    world.step_loop.has_served = true;
    let unknown = world.stop("b", End::Cancelled).unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[test]
fn a_generation_waits_for_the_group_for_as_long_as_it_is_held() {
    let mut world = world(8, 4);
    world.step_loop.hold = Duration::ZERO;
    let mut follower = world.follow(follow("a", 4)).unwrap();
    world.step_loop.tick();
    let (_, end) = read(&mut follower);
    let Some(End::Failed(failure)) = end else {
        panic!("{end:?}")
    };
    let status = crate::lead::follow::failed(&failure);
    assert_eq!(status.code(), Code::Unavailable);
    assert!(!world.step_loop.engine.has_work());
    world.step_loop.unserved_since = None;
    let mut again = world.follow(follow("a", 4)).unwrap();
    world.step_loop.tick();
    assert_eq!(read(&mut again).1, None);
}

#[test]
fn a_deadline_is_kept_in_the_queue() {
    let mut world = world(8, 1);
    let mut hurried = follow("a", 4);
    hurried.terms.deadline = Some(Duration::ZERO);
    let status = world.follow(hurried).unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let mut hurried = follow("a", 4);
    hurried.terms.deadline = Some(Duration::from_nanos(1));
    let mut follower = world.follow(hurried).unwrap();
    world.step_loop.on(Heard::Due, Duration::from_nanos(1));
    let failed = End::Failed(Failure::Deadline);
    assert_eq!(read(&mut follower).1, Some(failed));
    assert!(!world.step_loop.engine.has_work());
}

#[test]
fn a_new_lead_does_not_say_that_it_knows_nothing_before_it_can_know() {
    use tonic_types::StatusExt as _;
    let mut world = world(8, 4);
    world.step_loop.has_served = false;
    let get = |world: &mut World| {
        let (reply, mut answer) = oneshot::channel();
        world.step_loop.answer(Ask::Get(follow("a", 0).name, reply));
        answer.try_recv().unwrap()
    };
    for asked in [get(&mut world), world.stop("a", End::Cancelled)] {
        let status = asked.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert_eq!(reason_of(&status).as_deref(), Some("LEAD_NEW"));
        assert!(status.get_details_retry_info().is_some());
    }
    // What nobody has told of for as long as requests are held is not there.
    world.step_loop.now = world.step_loop.hold;
    assert_eq!(get(&mut world).unwrap_err().code(), Code::NotFound);
    world.step_loop.now = Duration::ZERO;
    // Who attaches only is told to submit it.
    let attach = Follow {
        record: None,
        ..follow("a", 6)
    };
    let status = world.follow(attach).unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    // What was begun here is known at once.
    let _follower = world.follow(follow("a", 6)).unwrap();
    assert!(get(&mut world).is_ok());
    world.step_loop.has_served = true;
    let status = world.stop("b", End::Cancelled).unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
}
