//! Goes on with what the last lead has left: the home ranks have kept the records of its sequences.

use std::collections::BTreeMap;

use proto::internal as wire;
use spec::Fence;

use super::StepLoop;
use crate::lead::convert::{self, Vocabulary};
use crate::lead::kept;
use crate::lead::ledger::Found;
use crate::lead::life;
use crate::limits;

/// What workers have told of the last lead's sequences, by record: attempts to get ready may be many, and
/// each tells all.
pub(super) type Collected = BTreeMap<Vec<u8>, wire::LeftSequence>;

impl StepLoop {
    /// Keeps what a worker has kept. Once an epoch has served, clients have come back or know better.
    pub(super) fn collect(&mut self, left: wire::LeftSequence) {
        if self.has_served {
            return;
        }
        let is_full = self.collected.len() >= limits::MAX_COLLECTED;
        match self.collected.get_mut(&left.record) {
            Some(known) if of(&left) > of(known) => *known = left,
            Some(_) => {}
            None if is_full => {
                let limit = limits::MAX_COLLECTED;
                tracing::warn!(
                    limit,
                    "more sequences of the last lead are left than can be"
                );
            }
            None => drop(self.collected.insert(left.record.clone(), left)),
        }
    }

    /// Begins what was collected, except what clients have already begun again.
    pub(super) fn go_on(&mut self) {
        let collected = std::mem::take(&mut self.collected);
        let mut collected: Vec<wire::LeftSequence> = collected.into_values().collect();
        // A worker without a seat may have kept what has moved elsewhere, and has ended since.
        let newest = self.newest(&collected);
        collected.retain(|left| match left.epoch {
            // Of a worker that does not tell epochs apart.
            0 => left.term == newest.term.0,
            _ => convert::to_fence(left.term, left.epoch) >= newest,
        });
        // One that has moved its home is told of twice: the longest is the latest.
        collected.sort_by_key(|left| std::cmp::Reverse(left.tokens.len()));
        let found = collected.len();
        let begun = collected
            .into_iter()
            .filter(|left| self.begin_collected(left.clone()))
            .count();
        self.meter.take_over(begun);
        if found > 0 {
            tracing::info!(found, begun, "sequences of the last lead go on");
        }
    }

    /// Returns the latest epoch that has run steps, or the latest term where no more is known.
    fn newest(&self, collected: &[wire::LeftSequence]) -> Fence {
        let terms = collected.iter().map(|left| convert::to_fence(left.term, 0));
        terms.fold(self.stepped, Fence::max)
    }

    /// Returns whether it was begun.
    fn begin_collected(&mut self, left: wire::LeftSequence) -> bool {
        let vocabulary = Vocabulary {
            size: self.vocab_size,
            max_context: self.engine.config().max_context,
        };
        let follow = match kept::collected(left, &vocabulary) {
            Ok(follow) => follow,
            Err(malformed) => {
                tracing::warn!(%malformed, "a record of a sequence cannot be read");
                return false;
            }
        };
        if self.ledger.find(&follow.name, None) != Found::Nothing {
            return false;
        }
        if let Err(status) = self.begin(&follow, &follow.generated) {
            let (request_id, why) = (&*follow.name.request_id, status.message());
            tracing::warn!(request_id, why, "a sequence of the last lead is left out");
            return false;
        }
        let (least, now) = (limits::COLLECTED_KEEP, self.now);
        self.ledger.await_follower(&follow.name, least, now);
        life::collected(&follow.name, self.ledger.sequence(&follow.name));
        true
    }
}

/// What makes one of two reports of a sequence the later one.
fn of(left: &wire::LeftSequence) -> (Fence, usize) {
    (convert::to_fence(left.term, left.epoch), left.tokens.len())
}

#[cfg(test)]
mod tests {
    use prost::Message as _;
    use spec::Sampling;

    use super::*;
    use crate::lead::log::End;
    use crate::lead::message::Message;
    use crate::lead::step_loop::Heard;
    use crate::lead::step_loop::tests::{expected, follow, read, world};
    use crate::wire::sampling_to_wire;

    /// What a home rank has kept of [`follow`]`(id, 6)` when it had generated so many tokens.
    fn left(id: &str, term: u64, generated: usize) -> wire::LeftSequence {
        let follow = follow(id, 6);
        let record = follow.record.unwrap();
        let prompt: Vec<u32> = record.work.prompt.iter().map(|token| token.0).collect();
        let kept = wire::FollowRequest {
            record: Some(wire::SequenceRecord {
                principal: follow.name.principal.to_string(),
                request_id: id.into(),
                sampling: Some(sampling_to_wire(&Sampling::default())),
                stop: Some(wire::Stop {
                    max_tokens: 6,
                    stop_tokens: vec![999],
                }),
                fingerprint: record.fingerprint.to_vec(),
                ..Default::default()
            }),
            ..Default::default()
        };
        wire::LeftSequence {
            record: kept.encode_to_vec(),
            prompt_len: prompt.len() as u32,
            tokens: [prompt, expected(generated)].concat(),
            term,
            epoch: 0,
        }
    }

    #[test]
    fn a_sequence_of_the_last_lead_goes_on_without_its_client() {
        let mut world = world(8, 4);
        world.step_loop.collect(left("a", 1, 2));
        world.step_loop.go_on();
        world.run(10);
        let mut late = world.follow(follow("a", 6)).unwrap();
        assert!(late.attached);
        assert_eq!(read(&mut late), (expected(6), Some(End::Length)));
    }

    #[test]
    fn all_that_ran_goes_on_however_short_the_queue() {
        let mut world = world(1, 1);
        let ids = ["a", "b", "c", "d"];
        for id in ids {
            world.step_loop.collect(left(id, 1, 2));
        }
        world.step_loop.go_on();
        world.run(40);
        for id in ids {
            let mut late = world.follow(follow(id, 6)).unwrap();
            assert_eq!(read(&mut late), (expected(6), Some(End::Length)), "{id}");
        }
    }

    #[test]
    fn what_is_older_shorter_or_begun_again_is_left_out() {
        let mut world = world(8, 4);
        let _first = world.follow(follow("begun", 6)).unwrap();
        let all = [
            left("begun", 3, 5),
            left("a", 3, 2),
            left("a", 3, 4),
            left("old", 2, 5),
        ];
        for left in all {
            world.step_loop.collect(left);
        }
        world.step_loop.go_on();
        assert_eq!(world.step_loop.ledger.sequences().len(), 2);
        let mut found = world.follow(follow("a", 6)).unwrap();
        assert_eq!(read(&mut found).0, expected(4));
        assert!(!world.follow(follow("old", 6)).unwrap().attached);
    }

    #[test]
    fn what_ended_under_a_later_lead_does_not_come_back() {
        let mut world = world(8, 4);
        world.step_loop.collect(left("a", 1, 2));
        let stepped = Message::Stepped(convert::to_fence(2, 1));
        let now = std::time::Duration::ZERO;
        world.step_loop.on(Heard::Message(stepped), now);
        world.step_loop.go_on();
        assert!(!world.step_loop.engine.has_work());
    }

    #[test]
    fn what_has_moved_and_ended_in_the_last_term_does_not_come_back() {
        let mut world = world(8, 4);
        let of = |id, epoch| wire::LeftSequence {
            epoch,
            ..left(id, 1, 2)
        };
        let stepped = Message::Stepped(convert::to_fence(1, 2));
        // A rank that was ready for a later epoch which nobody has run is as good as those of the last.
        for left in [of("moved", 1), of("here", 2), of("ready", 3), of("old", 0)] {
            world.step_loop.collect(left);
        }
        let now = std::time::Duration::ZERO;
        world.step_loop.on(Heard::Message(stepped), now);
        world.step_loop.go_on();
        let known = |id| world.step_loop.ledger.sequence(&follow(id, 6).name);
        assert!(known("moved").is_none());
        assert!(
            ["here", "ready", "old"]
                .into_iter()
                .all(|id| known(id).is_some())
        );
    }

    #[test]
    fn however_often_it_is_told_a_sequence_is_kept_once() {
        let mut world = world(8, 4);
        for generated in [2, 4, 3, 4] {
            world.step_loop.collect(left("a", 1, generated));
        }
        let moved = wire::LeftSequence {
            epoch: 1,
            ..left("a", 1, 3)
        };
        assert_eq!(world.step_loop.collected.len(), 1);
        let kept = world.step_loop.collected.values().next().unwrap();
        assert_eq!(kept.tokens, left("a", 1, 4).tokens);
        world.step_loop.collect(moved.clone());
        let kept: Vec<_> = world.step_loop.collected.values().collect();
        assert_eq!(kept, [&moved], "of a later epoch");
    }

    #[test]
    fn one_that_was_whole_before_its_home_heard_what_was_forced_begins_anew() {
        use tonic::Code;
        let mut world = world(8, 4);
        for id in ["a", "b"] {
            world.step_loop.collect(left(id, 1, 6));
        }
        world.step_loop.go_on();
        world.step_loop.has_served = true;
        let _follower = world.follow(follow("b", 6)).unwrap();
        let told = world.force("b", 2, &[51]).unwrap_err();
        assert_eq!(told.code(), Code::FailedPrecondition);
        let unknown = world.force("a", 2, &[51]).unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
        assert!(!world.follow(follow("a", 6)).unwrap().attached);
    }

    #[test]
    fn one_that_was_cancelled_unread_stays_so_whatever_is_forced() {
        let mut world = world(8, 4);
        world.step_loop.collect(left("a", 1, 4));
        world.step_loop.go_on();
        world.step_loop.has_served = true;
        world.stop("a", End::Cancelled).unwrap();
        let told = world.force("a", 2, &[51]).unwrap_err();
        assert_eq!(told.code(), tonic::Code::FailedPrecondition);
        assert!(world.follow(follow("a", 6)).unwrap().attached);
    }

    #[test]
    fn a_sequence_that_nobody_follows_again_is_given_up() {
        let mut world = world(8, 4);
        world.step_loop.collect(left("a", 1, 2));
        world.step_loop.go_on();
        let due = world.step_loop.next_due();
        assert_eq!(due, Some(limits::COLLECTED_KEEP));
        assert!(world.step_loop.engine.has_work());
        world.step_loop.on(Heard::Due, limits::COLLECTED_KEEP);
        assert!(!world.step_loop.engine.has_work());
    }

    #[test]
    fn after_the_first_epoch_nothing_is_collected() {
        let mut world = world(8, 4);
        world.step_loop.has_served = true;
        world.step_loop.collect(left("a", 1, 2));
        world.step_loop.go_on();
        assert!(!world.step_loop.engine.has_work());
    }
}
