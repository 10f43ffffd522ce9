//! The leader of one group: gathers members, prepares epochs, ends them.
//!
//! `Gathering → Preparing → Serving`, and from anywhere back to `Gathering` when a member goes or a
//! step fails. An epoch's number is never used twice in a term.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use spec::{Epoch, Fence, Placement, Rank, Term};

use crate::event::{Action, EpochPlan, Event, LeaderConfig};
use crate::member::{Refused, Registration};
use crate::seats::Seats;

/// Rest between two attempts at an epoch, so that a failing worker is not asked without pause.
const RETRY: Duration = Duration::from_millis(500);

/// Failures to get ready in a row after which others are seated before a member, if there are any;
/// once they have failed as often it is its turn again.
const MAX_FAILURES: u32 = 3;

/// Terms from here on are believed of no worker, so that every later lead has room for higher ones.
const MAX_TERM: Term = Term(1 << 48);

/// Absent workers that are remembered to have been part of an epoch of ours.
const MAX_ABSENT: usize = 1024;

#[derive(Clone, Debug)]
enum State {
    Gathering {
        not_before: Duration,
        why: String,
    },
    Preparing {
        fence: Fence,
        ready: BTreeMap<String, Vec<bool>>,
    },
    Serving {
        fence: Fence,
    },
}

/// The state machine.
#[derive(Clone, Debug)]
pub struct Leader {
    config: LeaderConfig,
    term: Term,
    epoch: Epoch,
    members: BTreeMap<String, Registration>,
    /// Since when anybody is here.
    since: Duration,
    seats: Seats,
    /// Who held each rank when steps last ran: name and incarnation. Only their KV can be kept.
    served: Vec<Option<(String, u64)>>,
    /// How often in a row a live member could not get ready.
    failures: BTreeMap<String, u32>,
    /// How often a worker has taken the seat of one that got ready.
    taken: BTreeMap<String, usize>,
    /// Starts of workers that do not say whom they obey and were part of an epoch of ours, by name.
    planned: BTreeMap<String, u64>,
    /// The highest term of a worker that did not get it from us: no epoch before ours is above it.
    outranked: Option<Term>,
    state: State,
}

impl Leader {
    /// Starts without members, in a term that nobody else has or had.
    #[must_use]
    pub fn new(config: LeaderConfig, term: Term) -> Self {
        let seats = Seats::new(config.num_ranks);
        let served = vec![None; config.num_ranks];
        let state = State::Gathering {
            not_before: Duration::ZERO,
            why: "waiting for workers".into(),
        };
        Self {
            config,
            term,
            epoch: Epoch(0),
            members: BTreeMap::new(),
            since: Duration::ZERO,
            seats,
            served,
            failures: BTreeMap::new(),
            taken: BTreeMap::new(),
            planned: BTreeMap::new(),
            outranked: None,
            state,
        }
    }

    /// Takes a worker into the group, or refuses it. A worker that finds no free rank stays as a
    /// spare and is seated when another leaves.
    ///
    /// # Errors
    ///
    /// See [`Refused`].
    pub fn register(
        &mut self,
        registration: Registration,
        now: Duration,
    ) -> Result<Vec<Action>, Refused> {
        registration.check()?;
        self.admit(&registration)?;
        if registration.term > self.term && registration.term >= MAX_TERM {
            let why = format!("{} cannot have been reached", registration.term);
            return Err(Refused::Malformed { field: "term", why });
        }
        // A worker that obeyed a higher term would refuse ours, and so would one that obeyed another lead
        // in this very term: one fence would name two epochs.
        let obeyed_us = match registration.lead {
            // One of an earlier build does not say; it has if it was part of an epoch of ours.
            0 => self.planned.get(&registration.name) == Some(&registration.incarnation),
            lead => lead == self.config.lead,
        };
        let mut actions = Vec::new();
        if registration.term > self.term || (registration.term == self.term && !obeyed_us) {
            self.outranked = self.outranked.max(Some(registration.term));
            actions.push(Action::Raise {
                above: registration.term,
            });
        }
        if self.members.is_empty() {
            self.since = now;
        }
        let name = registration.name.clone();
        self.members.insert(name.clone(), registration);
        actions.extend(self.relieve(now));
        actions.extend(self.prefer(&name, now));
        actions.extend(self.proceed(now));
        Ok(actions)
    }

    /// Takes in what happened and says what to do about it.
    pub fn on(&mut self, event: Event, now: Duration) -> Vec<Action> {
        match event {
            Event::Left { name, incarnation } => self.on_left(&name, incarnation, now),
            Event::Draining { name, incarnation } => {
                let member = self.members.get_mut(&name);
                if let Some(member) = member.filter(|member| member.incarnation == incarnation) {
                    member.draining = true;
                }
                self.relieve(now)
            }
            Event::Prepared {
                fence,
                name,
                kept_kv,
            } => self.on_prepared(fence, name, kept_kv),
            Event::PrepareFailed { fence, name, why } => {
                if self.fence() != Some(fence) {
                    return Vec::new();
                }
                *self.failures.entry(name.clone()).or_default() += 1;
                self.stop(format!("worker '{name}' could not get ready: {why}"), now)
            }
            Event::Overtaken { fence, name, why } => {
                if self.fence() != Some(fence) {
                    return Vec::new();
                }
                self.send_away(Some(name), why, now)
            }
            Event::StepFailed { fence, why, silent } => {
                if self.fence() != Some(fence) {
                    return Vec::new();
                }
                let silent = silent.and_then(|rank| self.seats.holder(rank));
                self.send_away(silent.map(str::to_owned), why, now)
            }
            Event::Raised(term) => {
                if term > self.term {
                    (self.term, self.epoch) = (term, Epoch(0));
                }
                self.outranked = self.outranked.filter(|outranked| *outranked >= self.term);
                self.proceed(now)
            }
            Event::Tick => self.proceed(now),
        }
    }

    /// Gives the seats of those who are about to end to others who can take them; where none can,
    /// what runs may end first. An epoch that is not served yet would be none.
    fn relieve(&mut self, now: Duration) -> Vec<Action> {
        let Some(name) = self.draining(true).into_iter().next() else {
            return Vec::new();
        };
        let can_go = match self.state {
            State::Gathering { .. } => false,
            State::Preparing { .. } => true,
            State::Serving { .. } => self.seats.can_be_filled(&self.by_preference()),
        };
        if !can_go {
            return Vec::new();
        }
        self.end(format!("worker '{name}' drains"), now, Duration::ZERO)
    }

    fn on_left(&mut self, name: &str, incarnation: u64, now: Duration) -> Vec<Action> {
        if self
            .members
            .get(name)
            .is_none_or(|member| member.incarnation != incarnation)
        {
            return Vec::new();
        }
        let seated = !self.seats.of(name).is_empty();
        self.members.remove(name);
        self.failures.remove(name);
        if seated {
            self.stop(format!("worker '{name}' left"), now)
        } else {
            Vec::new()
        }
    }

    fn on_prepared(&mut self, at: Fence, name: String, kept_kv: Vec<bool>) -> Vec<Action> {
        let names: BTreeSet<String> = self.seated().into_iter().map(|(m, _)| m.name).collect();
        let State::Preparing { fence, ready } = &mut self.state else {
            return Vec::new();
        };
        if *fence != at || !names.contains(&name) {
            return Vec::new();
        }
        self.failures.remove(&name);
        ready.insert(name, kept_kv);
        if ready.len() < names.len() {
            return Vec::new();
        }
        let mut kept = vec![false; self.config.num_ranks];
        for (name, flags) in ready.iter() {
            let incarnation = self.members.get(name).map(|member| member.incarnation);
            let holder = incarnation.map(|incarnation| (name.clone(), incarnation));
            // A worker that answers for too few ranks is taken to have lost the others' KV.
            let flags = flags.iter().copied().chain(std::iter::repeat(false));
            for (rank, flag) in self.seats.of(name).into_iter().zip(flags) {
                let served = std::mem::replace(&mut self.served[rank.index()], holder.clone());
                kept[rank.index()] = flag && served == holder;
            }
        }
        self.state = State::Serving { fence: at };
        vec![Action::Serve {
            fence: at,
            kept_kv: kept,
        }]
    }

    /// Ends the epoch, and the registration of a member if one is named.
    fn send_away(&mut self, name: Option<String>, why: String, now: Duration) -> Vec<Action> {
        let evicted = name.and_then(|name| self.members.remove(&name));
        let mut actions = Vec::new();
        if let Some(member) = evicted {
            let Registration {
                name, incarnation, ..
            } = member;
            self.failures.remove(&name);
            actions.push(Action::Evict {
                name,
                incarnation,
                why: why.clone(),
            });
        }
        actions.extend(self.stop(why, now));
        actions
    }

    /// Ends the epoch, if there is one, and looks for the next after a rest.
    fn stop(&mut self, why: String, now: Duration) -> Vec<Action> {
        self.end(why, now, RETRY)
    }

    fn end(&mut self, why: String, now: Duration, rest: Duration) -> Vec<Action> {
        let mut actions = Vec::new();
        if let Some(fence) = self.fence() {
            actions.push(Action::Stop {
                fence,
                why: why.clone(),
            });
        }
        self.state = State::Gathering {
            not_before: now + rest,
            why,
        };
        actions.extend(self.proceed(now));
        actions
    }

    /// Seats whoever waits, and prepares an epoch once every rank has a live member.
    fn proceed(&mut self, now: Duration) -> Vec<Action> {
        let State::Gathering { not_before, .. } = &self.state else {
            return Vec::new();
        };
        let not_before = *not_before;
        if self.outranked.is_some() {
            return Vec::new();
        }
        self.seats.assign(&self.by_preference());
        let stays = |name: &str| {
            self.members
                .get(name)
                .is_some_and(|member| !member.draining)
        };
        if now < not_before || !self.seats.complete(stays) {
            return Vec::new();
        }
        if self.expects_others(now) {
            let why = "waiting a moment for workers of the last lead".into();
            self.state = State::Gathering { not_before, why };
            return Vec::new();
        }
        self.epoch = Epoch(self.epoch.0 + 1);
        let fence = Fence {
            term: self.term,
            epoch: self.epoch,
        };
        self.state = State::Preparing {
            fence,
            ready: BTreeMap::new(),
        };
        let LeaderConfig {
            num_layers,
            num_experts,
            num_ranks,
            ..
        } = self.config;
        let placement = Placement::even(num_layers, num_experts, num_ranks);
        let members = self.seated();
        if self.planned.len() > MAX_ABSENT + self.members.len() {
            self.planned
                .retain(|name, _| self.members.contains_key(name));
        }
        let silent = members.iter().filter(|(member, _)| member.lead == 0);
        let silent = silent.map(|(member, _)| (member.name.clone(), member.incarnation));
        self.planned.extend(silent);
        let held = self.held(&members);
        vec![Action::Prepare(EpochPlan {
            fence,
            members,
            placement,
            held,
        })]
    }

    /// Lists the members that hold ranks.
    fn seated(&self) -> Vec<(Registration, Vec<Rank>)> {
        let all = self
            .members
            .values()
            .map(|member| (member.clone(), self.seats.of(&member.name)));
        all.filter(|(_, ranks)| !ranks.is_empty()).collect()
    }

    /// Lists the ranks of an epoch that have not changed hands since steps last ran.
    fn held(&self, members: &[(Registration, Vec<Rank>)]) -> Vec<Rank> {
        let is_held = |member: &Registration, rank: &Rank| {
            let served = self.served[rank.index()].as_ref();
            served.is_some_and(|(name, incarnation)| {
                (name, *incarnation) == (&member.name, member.incarnation)
            })
        };
        let held = members.iter().flat_map(|(member, ranks)| {
            let held = ranks.iter().filter(|rank| is_held(member, rank));
            held.copied()
        });
        held.collect()
    }

    fn fence(&self) -> Option<Fence> {
        match &self.state {
            State::Gathering { .. } => None,
            State::Preparing { fence, .. } | State::Serving { fence } => Some(*fence),
        }
    }
}

mod admission;
mod choice;
mod roll;

pub use choice::GRACE;

#[cfg(test)]
mod tests;
