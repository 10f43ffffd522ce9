//! The way to a generation: found at its lead, found again when it was lost, and made to go on.

use std::time::Duration;

use proto::internal::{self, follow_response};
use spec::TokenId;
use tokio::time::{Instant, timeout};
use tonic::{Code, Streaming};

use super::{Generation, PRINCIPAL};
use crate::front::error::Error;
use crate::front::groups::Group;
use crate::front::limits;

/// A stream of the lead, after its acceptance.
struct Followed {
    events: Streaming<internal::FollowResponse>,
    group: Group,
    accepted: internal::Accepted,
    /// Whether this lead did not know the generation, which had tokens already.
    is_resumed: bool,
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
                    error = self.expiry() => return Err(self.fail(error)),
                    () = tokio::time::sleep(pause) => pause = longest.min(pause * 2),
                }
            }
            let attempt = tokio::select! {
                biased;
                error = self.expiry() => return Err(self.fail(error)),
                attempt = self.follow() => attempt,
            };
            match attempt {
                Ok(followed) => {
                    self.begin(followed);
                    return Ok(());
                }
                Err(error) if error.is_passing() => self.lose(error),
                Err(error) => return Err(self.failed(error)),
            }
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
        if is_first {
            return self.call_follow(false).await;
        }
        match self.call_follow(true).await {
            Err(Error::Lead(status)) if status.code() == Code::NotFound => {
                let followed = self.call_follow(false).await?;
                Ok(Followed {
                    is_resumed: true,
                    ..followed
                })
            }
            attached => attached,
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
        self.origin = now.checked_sub(age).unwrap_or(now);
        self.queue_position = followed.accepted.queue_position;
        self.resumed += u32::from(followed.is_resumed);
        self.events = Some(followed.events);
        self.group = Some(followed.group);
        self.regained = now;
    }

    /// Returns the tokens that another lead is to go on after. With logprobs they would not be all that
    /// is known, so that it begins anew and comes to the same, but where some were forced.
    fn known(&self) -> &[TokenId] {
        match self.request.wants_logprobs() && !self.is_forced {
            true => &[],
            false => &self.tokens,
        }
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
                ..Default::default()
            },
        };
        let deadline = self.clock.deadline;
        let now = Instant::now();
        let message = internal::FollowRequest {
            record: Some(record),
            attach_only,
            generated: self.known().iter().map(|token| token.0).collect(),
            tokens_seen: (expected.token_position - expected.prompt.len()) as u32,
            prompt_logprobs_seen: match request.wants_prompt_logprobs() {
                true => (expected.prompt_position - 1) as u32,
                false => 0,
            },
            keep_us: request.delivery.keep.map(micros),
            deadline_us: deadline.map(|at| micros(at.saturating_duration_since(now))),
            queue_timeout_us: request.queue_timeout.map(micros),
            age_us: micros(self.origin.elapsed()),
            group: group.name.to_string(),
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
                is_resumed: false,
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
    /// Returns whether it did: a generation that has ended stays as it is.
    ///
    /// # Errors
    ///
    /// As [`Generation::next`].
    pub(in crate::front) async fn force(
        &mut self,
        keep: usize,
        tokens: &[TokenId],
    ) -> Result<bool, Error> {
        self.tokens.truncate(keep);
        self.is_forced = true;
        self.expected.token_position = self.expected.prompt.len() + keep;
        // Kept until it is followed again: it might be its only follower.
        let mut old = self.events.take();
        loop {
            let forced = tokio::select! {
                biased;
                error = self.expiry() => return Err(self.fail(error)),
                forced = self.call_force(keep, tokens) => forced,
            };
            let is_forced = match forced {
                Ok(()) => true,
                Err(Error::Lead(status)) if status.code() == Code::FailedPrecondition => false,
                Err(Error::Lead(status)) if status.code() == Code::NotFound => {
                    // It is submitted again, with what it has so far.
                    self.regain().await?;
                    old = self.events.take();
                    continue;
                }
                Err(error) if error.is_passing() => {
                    self.lose(error);
                    self.regain().await?;
                    old = self.events.take();
                    continue;
                }
                Err(error) => return Err(self.failed(error)),
            };
            self.regain().await?;
            drop(old);
            return Ok(is_forced);
        }
    }

    /// Calls LeadService.Force, which is not waited for without end.
    async fn call_force(&self, keep: usize, tokens: &[TokenId]) -> Result<(), Error> {
        let group = self.group().await?;
        let force = internal::ForceRequest {
            principal: PRINCIPAL.to_owned(),
            request_id: self.request.id.clone(),
            keep: keep as u32,
            tokens: tokens.iter().map(|token| token.0).collect(),
            group: group.name.to_string(),
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
