//! What fronts ask for: to follow a generation or begin it, to end it, to know how it stands.

use std::time::Duration;

use engine::{Finish, Refused};
use proto::internal as wire;
use spec::{SequenceId, TokenId};
use tonic::{Code, Status};

use super::StepLoop;
use crate::lead::convert::{self, Malformed};
use crate::lead::follow::{deadline_passed, invalid};
use crate::lead::ledger::{Entering, Found, Name, Work};
use crate::lead::life;
use crate::lead::log::End;
use crate::lead::message::{Ask, Follow, Follower};
use crate::limits;
use crate::status::{reason, status};

impl StepLoop {
    /// Answers a front. If it is gone already nothing is begun for it.
    pub(super) fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Follow(follow, reply) => {
                if !reply.is_closed() {
                    let follower = self.follow(*follow);
                    // A follower that nobody takes says so when it is dropped.
                    drop(reply.send(follower));
                }
            }
            Ask::Stop(name, end, reply) => drop(reply.send(self.stop(&name, end))),
            Ask::Force(name, generated, tokens, reply) => {
                drop(reply.send(self.force(&name, &generated, &tokens)));
            }
            Ask::Get(name, reply) => drop(reply.send(self.standing(&name))),
        }
    }

    /// Attaches to a generation, or begins it.
    ///
    /// Before anything was collected, too: what comes again by itself is not collected then, so that
    /// nothing is generated twice. Who only wants to attach is told that it is unknown, and submits it
    /// with all that it has.
    fn follow(&mut self, follow: Follow) -> Result<Follower, Status> {
        if follow.terms.deadline == Some(Duration::ZERO) {
            return Err(deadline_passed());
        }
        let fingerprint = follow.fingerprint.as_ref();
        let attached = match self.ledger.find(&follow.name, fingerprint) {
            Found::This => true,
            Found::Another => return Err(reused(&follow.name)),
            // One that ended because nobody followed it is as good as none: who follows it again brings
            // all that it takes to go on.
            Found::Stopped { failed: true, .. } if follow.record.is_none() => true,
            Found::Stopped { tokens, .. } => {
                self.begin(&follow, &tokens)?;
                true
            }
            Found::Nothing => {
                self.begin(&follow, &follow.generated)?;
                self.meter
                    .take_over(usize::from(!follow.generated.is_empty()));
                false
            }
        };
        if attached {
            life::attached(&follow.name, self.ledger.sequence(&follow.name));
        }
        let (name, now) = (follow.name, self.now);
        let following = self.ledger.follow(&name, &follow.terms, now);
        let following = following.ok_or_else(|| {
            let why = format!("{} follow this generation", limits::MAX_FOLLOWERS);
            let retry = Some(limits::RETRY_AFTER);
            status(
                Code::ResourceExhausted,
                reason::TOO_MANY_FOLLOWERS,
                why,
                retry,
            )
        })?;
        Ok(Follower {
            name,
            following,
            attached,
            term: self.leader.status().fence.term,
            gone: self.gone.clone(),
        })
    }

    /// Submits a generation to the engine, and enters it with these tokens.
    pub(super) fn begin(&mut self, follow: &Follow, generated: &[TokenId]) -> Result<(), Status> {
        let Some(record) = &follow.record else {
            return Err(unknown(&follow.name));
        };
        let (queue_position, now) = (self.engine.load().waiting, self.now);
        let work = &record.work;
        let room = self.engine.config().max_context - work.prompt.len();
        let submitted = self.submit(follow, work, generated);
        let (sequence, finish) = match submitted {
            Ok(sequence) => (sequence, None),
            // What was generated elsewhere was already whole.
            Err((sequence, Refused::Finished { finish })) => (sequence, Some(finish)),
            Err((_, refused)) => return Err(refusal(&refused)),
        };
        let entering = Entering {
            sequence,
            max_tokens: work.stop.max_tokens.min(room),
            queue_position,
            generated,
            terms: &follow.terms,
            now,
        };
        self.ledger.enter(&follow.name, record, &entering);
        if let Some(finish) = finish {
            self.ledger.stop(&follow.name, end_of(finish), now);
        }
        Ok(())
    }

    /// Submits a sequence to the engine under a fresh name.
    fn submit(
        &mut self,
        follow: &Follow,
        work: &Work,
        generated: &[TokenId],
    ) -> Result<SequenceId, (SequenceId, Refused)> {
        self.last_sequence += 1;
        let sequence = SequenceId(self.last_sequence);
        let known = self.principals.len() as u32;
        let principal = self.principals.entry(follow.name.principal.to_string());
        let principal = *principal.or_insert(known);
        // What has tokens of another lead was running there. What ended here goes on as any new one.
        let was_accepted = follow.was_accepted || !follow.generated.is_empty();
        // Before tokens are put together that a full queue has no use for.
        let room = self.engine.check_room(was_accepted);
        room.map_err(|refused| (sequence, refused))?;
        let submitted = self.engine.submit(engine::Submit {
            sequence,
            prompt_len: work.prompt.len(),
            tokens: [&work.prompt, generated].concat(),
            sampling: work.sampling.clone(),
            stop: work.stop.clone(),
            principal,
            cache_salt: work.cache_salt,
            was_accepted,
            priority: work.priority,
        });
        submitted.map_err(|refused| (sequence, refused))?;
        Ok(sequence)
    }

    /// Ends a generation.
    fn stop(&mut self, name: &Name, end: End) -> Result<wire::SequenceStanding, Status> {
        let now = self.now;
        let stopped = self.ledger.stop(name, end, now);
        if let Some(sequence) = stopped.ok_or_else(|| self.unknown(name))? {
            self.engine.cancel(sequence);
        }
        self.standing(name)
    }

    fn standing(&self, name: &Name) -> Result<wire::SequenceStanding, Status> {
        let standing = self.ledger.standing(name);
        standing
            .map(|standing| convert::standing(&standing))
            .ok_or_else(|| self.unknown(name))
    }

    /// Says that there is no such generation, or that it cannot be known yet: the lead before this one
    /// may have left it at its home rank, which tells of it before the first epoch serves. A group that
    /// does not serve for as long as requests are held has failed them all: nobody waits for it longer.
    fn unknown(&self, name: &Name) -> Status {
        match self.has_served || self.now >= self.hold {
            true => unknown(name),
            false => too_new(name),
        }
    }

    /// Puts tokens in the place of those after these `generated` ones, which it may have to take, too:
    /// one that was begun anew is not as far yet.
    fn force(
        &mut self,
        name: &Name,
        generated: &[TokenId],
        tokens: &[TokenId],
    ) -> Result<(), Status> {
        let wanted = [generated, tokens].concat();
        let (same, is_there) = {
            let standing = self
                .ledger
                .standing(name)
                .ok_or_else(|| self.unknown(name))?;
            let (all, end) = (standing.log.tokens(), standing.log.end());
            let is_over = end.is_some_and(|(end, _)| !end.may_go_on());
            let pairs = all.iter().zip(&wanted);
            let same = pairs.take_while(|(known, token)| known.token == **token);
            let same = same.count();
            // Its limit may have cut them.
            (same, same == wanted.len() || is_over && same == all.len())
        };
        if is_there {
            return Ok(());
        }
        let Some(sequence) = self.ledger.sequence(name) else {
            // Its home rank may have told of it before it heard what was forced, and it was whole; or it
            // was given up after tokens that these replace. Its front submits all that it has.
            if self.ledger.forget_unheard(name) {
                return Err(unknown(name));
            }
            let why = "the generation has ended";
            let ended = reason::GENERATION_ENDED;
            return Err(status(Code::FailedPrecondition, ended, why, None));
        };
        let (rest, now) = (&wanted[same..], self.now);
        let rewritten = self.engine.rewrite(sequence, same, rest);
        let finish = rewritten.map_err(|refused| refusal(&refused))?;
        life::forced(name, sequence, generated.len(), tokens.len());
        self.ledger.rewrite(name, same, rest, now);
        if let Some(finish) = finish {
            self.ledger.stop(name, end_of(finish), now);
        }
        Ok(())
    }
}

fn end_of(finish: Finish) -> End {
    match finish {
        Finish::Stop { .. } => End::Stop,
        Finish::Length => End::Length,
    }
}

fn unknown(name: &Name) -> Status {
    let id = &name.request_id;
    let why = format!("generation {id:?} is not live and did not end lately");
    status(Code::NotFound, reason::GENERATION_UNKNOWN, why, None)
}

fn too_new(name: &Name) -> Status {
    let id = &name.request_id;
    let why = format!(
        "generation {id:?} is not known yet: the lead is new, and its group has not served since"
    );
    let retry = Some(limits::RETRY_AFTER);
    status(Code::Unavailable, reason::LEAD_NEW, why, retry)
}

fn reused(name: &Name) -> Status {
    let id = &name.request_id;
    let why = format!("request id {id:?} belongs to a request that asked for something else");
    status(Code::AlreadyExists, reason::REQUEST_ID_REUSED, why, None)
}

fn refusal(refused: &Refused) -> Status {
    let said = refused.to_string();
    // By the public name: a front passes it on to the client.
    let at_fault = |field, why| invalid(&Malformed { field, why });
    match refused {
        Refused::QueueFull { .. } => {
            let retry = Some(limits::RETRY_AFTER);
            status(Code::ResourceExhausted, reason::QUEUE_FULL, said, retry)
        }
        Refused::Duplicate { .. } | Refused::Finished { .. } => Status::internal(said),
        Refused::Empty { .. } | Refused::TooLong { .. } => at_fault("prompt", said),
        Refused::NeverFits { .. } => at_fault("stop.max_output_tokens", said),
        Refused::Unknown { .. } => {
            status(Code::InvalidArgument, reason::REFUSED_BY_LEAD, said, None)
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::Refused;
    use proto::internal::follow_response::Event;
    use tokio_stream::StreamExt as _;
    use tonic::Code;
    use tonic_types::StatusExt as _;

    use super::refusal;
    use crate::lead::follow::EventStream;
    use crate::lead::step_loop::tests::{follow, world};
    use crate::status::reason_of;

    #[tokio::test]
    async fn who_attaches_hears_whose_lead_it_is_and_what_the_cache_saved() {
        let mut world = world(8, 4);
        let first = world.follow(follow("a", 6)).unwrap();
        let sequence = world.step_loop.ledger.sequence(&first.name).unwrap();
        let now = world.step_loop.now;
        world.step_loop.ledger.run(sequence, 3, now);
        let mut events = EventStream::new(world.follow(follow("a", 6)).unwrap());
        let heard = events.next().await.unwrap().unwrap();
        let Some(Event::Accepted(accepted)) = heard.event else {
            panic!("{heard:?}")
        };
        assert!(accepted.attached);
        assert_eq!((accepted.term, accepted.cached_prompt_tokens), (1, 3));
    }

    #[test]
    fn what_can_never_be_served_is_refused_by_field() {
        let cases = [
            (
                Refused::NeverFits { needed: 2, have: 1 },
                "stop.max_output_tokens",
            ),
            (
                Refused::TooLong {
                    tokens: 2,
                    max_context: 1,
                },
                "prompt",
            ),
        ];
        for (refused, field) in cases {
            let status = refusal(&refused);
            assert_eq!(status.code(), Code::InvalidArgument);
            assert_eq!(reason_of(&status).as_deref(), Some("REFUSED_BY_LEAD"));
            let violations = status.get_details_bad_request().unwrap().field_violations;
            assert_eq!(violations[0].field, field);
        }
    }
}
