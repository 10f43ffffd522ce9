//! The way to a generation: found at its lead, found again when it was lost, and made to go on.

use std::time::Duration;

use proto::internal::{self, follow_response};
use proto::v1::GenerationState;
use spec::TokenId;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tonic::{Code, Streaming};

use super::{Forced, Generation, PRINCIPAL};
use crate::front::error::Error;
use crate::front::fingerprint::fingerprint;
use crate::front::groups::Group;
use crate::front::limits;

/// A stream of the lead, after its acceptance.
struct Followed {
    events: Streaming<internal::FollowResponse>,
    group: Group,
    accepted: internal::Accepted,
    /// Whether it had ended before tokens could be forced.
    is_unforced: bool,
}

impl Generation {
    /// Follows the generation from where it was; tries for as long as the front holds requests.
    ///
    /// # Cancel safety
    ///
    /// As [`Generation::next`].
    pub(super) async fn regain(&mut self) -> Result<(), Error> {
        let until = match &self.trouble {
            Some((since, _)) => *since + self.shared.config.hold,
            None => Instant::now() + self.shared.config.hold,
        };
        let (mut pause, longest) = limits::REGAIN_BACKOFF;
        loop {
            if let Some((_, error)) = &self.trouble {
                if Instant::now() + pause > until {
                    let error = error.clone();
                    return Err(self.fail(error));
                }
                tokio::select! {
                    biased;
                    error = self.limit() => return Err(self.fail(error)),
                    () = tokio::time::sleep(pause) => pause = longest.min(pause * 2),
                }
            }
            let attempt = tokio::select! {
                biased;
                error = self.limit() => return Err(self.fail(error)),
                // A lead whose step loop hangs still keeps its connection up.
                attempt = timeout_at(until, self.follow()) => attempt.unwrap_or_else(|_| {
                    let why = format!("it did not answer within {:?}", self.shared.config.hold);
                    Err(Error::LeadGone { why })
                }),
            };
            match attempt {
                Ok(followed) => {
                    self.begin(followed);
                    return Ok(());
                }
                Err(error) if error.is_passing() => self.lose(error),
                // Others wait in the queue of its new lead: its client was promised that it runs.
                Err(error) if error.is_full() && self.group.is_some() => self.lose(error),
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// Returns until when it may wait to run for the first time, with a lead or without. `None` where it
    /// need not: it has run, or its client has heard of it at another front, and it may have run there.
    fn queue_until(&self) -> Option<Instant> {
        let is_new =
            self.state == GenerationState::Queued && self.request.delivery.resume_after == 0;
        let most = self.request.queue_timeout.filter(|_| is_new)?;
        Some(self.clock.arrived + most)
    }

    /// Waits for what ends it while no lead has it, and says which: as [`Generation::expiry`], or its wait.
    async fn limit(&self) -> Error {
        let until = self.queue_until();
        tokio::select! {
            biased;
            error = self.expiry() => error,
            () = sleep_until(until.unwrap_or_else(Instant::now)), if until.is_some() => Error::QueueTimeout,
        }
    }

    /// Notes that the stream is broken, and for how long it has been without any news.
    pub(super) fn lose(&mut self, error: Error) {
        let (id, now) = (&self.request.id, Instant::now());
        // Once for each trouble, not for every try.
        match &self.trouble {
            None => tracing::info!(request_id = id, %error, "a generation has to be found again"),
            Some(_) => tracing::debug!(request_id = id, %error, "a generation is not found yet"),
        }
        // A stream that has lasted for a while is news.
        let (longest, last) = (limits::REGAIN_BACKOFF.1, self.regained);
        let lasted = self.events.take().is_some() && last.elapsed() > longest;
        let since = match &self.trouble {
            Some((since, _)) if !lasted => *since,
            _ => now,
        };
        self.trouble = Some((since, error));
    }

    /// Attaches to the generation where it is known, or submits it with what it has.
    async fn follow(&self) -> Result<Followed, Error> {
        let is_first = self.expected.token_position == self.expected.prompt.len();
        if is_first && self.forced.is_none() {
            return self.call_follow(false).await;
        }
        let is_unforced = self.force_again().await?;
        match self.call_follow(true).await {
            Err(Error::Lead(status)) if status.code() == Code::NotFound => {
                self.call_follow(false).await
            }
            attached => Ok(Followed {
                is_unforced,
                ..attached?
            }),
        }
    }

    /// Sees to it that what was forced is in the generation. A lead that has collected it from its home
    /// rank may not have heard of it, and one that has needs nothing more. Returns whether it had ended
    /// without.
    async fn force_again(&self) -> Result<bool, Error> {
        let Some(forced) = &self.forced else {
            return Ok(false);
        };
        match self.call_force(forced).await {
            Ok(()) => Ok(false),
            Err(Error::Lead(status)) if status.code() == Code::FailedPrecondition => Ok(true),
            // It is submitted with them.
            Err(Error::Lead(status)) if status.code() == Code::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Returns the group that has it, by whoever leads that now, or else one to submit it to.
    async fn group(&self) -> Result<Group, Error> {
        let groups = &self.shared.groups;
        if let Some(group) = &self.group {
            return groups.of(&group.name);
        }
        let chosen = groups.choose(&self.request)?;
        if !self.request.is_named || groups.all().len() == 1 {
            return Ok(chosen);
        }
        // It may be a repeated call, made when other groups were there or had less to do. A lead that
        // cannot know yet may never serve: the others' requests do not wait for it, and its own go to
        // it, for the choice is the same each time.
        let missing = match groups.find(&self.request.id).await {
            Ok(found) => return Ok(found),
            Err(missing) => missing,
        };
        let (chosen_lost, other_lost) = missing.unreachable(&chosen.name);
        // Nor do they wait for long for one that nobody leads.
        let is_early = self.clock.arrived.elapsed() < limits::OTHERS_HOLD;
        let awaited = match (chosen_lost, other_lost) {
            (Some(error), _) if is_early || self.request.delivery.resume_after > 0 => Some(error),
            (_, Some(error)) if is_early => Some(error),
            _ => None,
        };
        awaited.map_or(Ok(chosen), |error| Err(error.clone()))
    }

    /// Takes a stream that was accepted.
    fn begin(&mut self, followed: Followed) {
        let (now, age) = (
            Instant::now(),
            Duration::from_micros(followed.accepted.age_us),
        );
        tracing::debug!(
            request_id = self.request.id,
            group = &*followed.group.name,
            attached = followed.accepted.attached,
            queue_position = followed.accepted.queue_position,
            "generation followed"
        );
        if self.group.is_none() && !self.request.asked.labels.is_empty() {
            let (request_id, labels) = (&self.request.id, self.request.labels());
            tracing::debug!(request_id, labels, "request has labels");
        }
        let is_other = self.term != followed.accepted.term;
        if self.group.is_none() || is_other {
            let arrived = now.checked_sub(age).unwrap_or(now);
            self.origin = self.origin.min(arrived);
            self.late = arrived - self.origin;
        }
        if self.group.is_some() && is_other {
            self.resumed += 1;
            self.is_news = true;
        }
        self.term = followed.accepted.term;
        self.cached_prompt_tokens = followed.accepted.cached_prompt_tokens;
        self.queue_position = followed.accepted.queue_position;
        if followed.is_unforced {
            self.forced = None;
        }
        self.events = Some(followed.events);
        self.group = Some(followed.group);
        self.regained = now;
    }

    /// Returns the tokens that another lead is to go on after, and how many of them are fixed. With
    /// logprobs they would not be all that is known, so that it begins anew and comes to the same, but
    /// for what was forced.
    fn known(&self) -> (Vec<u32>, u32) {
        let fixed = match &self.forced {
            Some(forced) => [&forced.after[..], &forced.tokens].concat(),
            None => Vec::new(),
        };
        let known = match self.request.wants_logprobs() || fixed.len() > self.tokens.len() {
            true => &fixed,
            false => &self.tokens,
        };
        // As the lead does that is told to force them.
        let room = self.shared.model.max_context as usize - self.request.prompt.len();
        let most = room.min(self.request.max_tokens as usize);
        let known = known.iter().take(most).map(|token| token.0);
        (known.collect(), fixed.len().min(most) as u32)
    }

    /// Calls LeadService.Follow and waits for the acceptance.
    async fn call_follow(&self, attach_only: bool) -> Result<Followed, Error> {
        let group = self.group().await?;
        let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let (request, expected) = (&self.request, &self.expected);
        let record = match attach_only {
            false => request.to_record(PRINCIPAL),
            true => internal::SequenceRecord {
                request_id: request.id.clone(),
                principal: PRINCIPAL.to_owned(),
                fingerprint: fingerprint(request).to_vec(),
                ..Default::default()
            },
        };
        let deadline = self.clock.deadline;
        let now = Instant::now();
        let (generated, fixed) = match attach_only {
            false => self.known(),
            true => (Vec::new(), 0),
        };
        let message = internal::FollowRequest {
            record: Some(record),
            attach_only,
            generated,
            tokens_seen: (expected.token_position - expected.prompt.len()) as u32,
            prompt_logprobs_seen: match request.wants_prompt_logprobs() {
                true => (expected.prompt_position - 1) as u32,
                false => 0,
            },
            keep_us: request.delivery.keep.map(micros),
            deadline_us: deadline.map(|at| micros(at.saturating_duration_since(now))),
            queue_timeout_us: self
                .queue_until()
                .map(|until| micros(until.saturating_duration_since(now))),
            age_us: micros(self.origin.elapsed()),
            group: group.name.to_string(),
            fixed,
            was_accepted: self.group.is_some(),
        };
        let mut lead = group.client.clone();
        let answer = lead.follow(message).await.map_err(Error::from_lead)?;
        let mut events = answer.into_inner();
        let first = events.message().await.map_err(Error::from_lead)?;
        match first.and_then(|first| first.event) {
            Some(follow_response::Event::Accepted(accepted)) => Ok(Followed {
                events,
                group,
                accepted,
                is_unforced: false,
            }),
            Some(_) => Err(Error::LeadProtocol {
                why: "its first event is not the acceptance",
            }),
            None => Err(Error::LeadGone {
                why: "its stream ended at once".into(),
            }),
        }
    }

    /// Makes the lead go on with these tokens after the first `keep`, and follows it from there.
    ///
    /// Returns whether it does: a generation that has ended stays as it is.
    ///
    /// # Errors
    ///
    /// As [`Generation::next`].
    pub(in crate::front) async fn force(
        &mut self,
        keep: usize,
        tokens: Vec<TokenId>,
    ) -> Result<bool, Error> {
        self.tokens.truncate(keep);
        let after = self.tokens.clone();
        self.forced = Some(Forced { after, tokens });
        self.expected.token_position = self.expected.prompt.len() + keep;
        // Kept until it is followed again: it might be its only follower.
        let old = self.events.take();
        self.regain().await?;
        drop(old);
        Ok(self.forced.is_some())
    }

    /// Calls LeadService.Force, which is not waited for without end.
    async fn call_force(&self, forced: &Forced) -> Result<(), Error> {
        let group = self.group().await?;
        let ids = |tokens: &[TokenId]| tokens.iter().map(|token| token.0).collect();
        let force = internal::ForceRequest {
            principal: PRINCIPAL.to_owned(),
            request_id: self.request.id.clone(),
            tokens: ids(&forced.tokens),
            group: group.name.to_string(),
            generated: ids(&forced.after),
            keep: forced.after.len() as u32,
        };
        let mut lead = group.client;
        match timeout(limits::FORCE_TIME, lead.force(force)).await {
            Ok(forced) => forced.map(drop).map_err(Error::from_lead),
            Err(_) => Err(Error::LeadGone {
                why: format!("it did not answer within {:?}", limits::FORCE_TIME),
            }),
        }
    }
}
