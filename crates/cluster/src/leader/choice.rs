//! Whom the leader chooses, and whom a new one waits for: those who know what the last lead has left.

use std::cmp::Reverse;
use std::time::Duration;

use spec::{Fence, Term};

use super::{Leader, MAX_FAILURES, State};
use crate::event::Action;
use crate::member::Registration;

/// How long a new lead waits for the workers of the last epoch from when the first worker is here.
/// Longer than the longest pause between two tries of a worker to register.
pub const GRACE: Duration = Duration::from_secs(3);

/// How often one that comes late may take a seat from one that gets ready: whoever comes and goes more often
/// keeps the others from serving.
pub(super) const MAX_TAKEN: usize = 3;

impl Leader {
    /// Lists the live members that stay: those that get ready before those that do not; before our first
    /// epoch, those that took part in the latest steps of others, as they know what is left of them;
    /// those with seats before those without.
    pub(super) fn by_preference(&self) -> Vec<(String, usize)> {
        let members = self.members.values().filter(|member| !member.draining);
        let mut members: Vec<&Registration> = members.collect();
        let is_first = self.is_first();
        members.sort_by_key(|member| {
            let failures = self.failures.get(&member.name).copied().unwrap_or(0);
            let stands = self.seats.of(&member.name).is_empty();
            let stepped = member.stepped.filter(|_| is_first);
            (failures / MAX_FAILURES, Reverse(stepped), stands)
        });
        let ranks = members.into_iter();
        ranks
            .map(|member| (member.name.clone(), member.num_ranks))
            .collect()
    }

    /// Says whether the group has served under another lead, and somebody may be about to come who was
    /// part of it then. One who is not seated is not asked what it has kept.
    pub(super) fn expects_others(&self, now: Duration) -> bool {
        if !self.is_first() || now >= self.since + GRACE {
            return false;
        }
        let Some(newest) = self.newest() else {
            // Nobody here knows of a step; in the first term nobody at all does.
            return self.term > Term(1);
        };
        // They were told nothing in a term between that one and ours.
        let is_last = |member: &&Registration| member.term.0 + 1 >= self.term.0;
        let took_part = self.members.values().filter(|member| {
            let stepped = member.stepped == Some(newest);
            stepped && is_last(member)
        });
        let ranks: usize = took_part.map(|member| member.num_ranks).sum();
        ranks < self.config.num_ranks
    }

    /// Before our first epoch serves, a worker that comes late takes the seat of one who knows less of
    /// what is left, and only gets ready.
    pub(super) fn prefer(&mut self, name: &str, now: Duration) -> Vec<Action> {
        let is_ours = self.is_first() && matches!(self.state, State::Preparing { .. });
        let knows = |member: &Registration| member.stepped.is_some();
        let taken = self.taken.get(name).copied().unwrap_or(0);
        if !is_ours || taken >= MAX_TAKEN || !self.members.get(name).is_some_and(knows) {
            return Vec::new();
        }
        let mut seats = self.seats.clone();
        seats.assign(&self.by_preference());
        let is_seated = self.seats.of(name).len() == seats.of(name).len();
        if is_seated || seats.of(name).is_empty() {
            return Vec::new();
        }
        self.taken.insert(name.to_owned(), taken + 1);
        let why = format!("worker '{name}' has come, who was part of the last lead's epoch");
        self.end(why, now, Duration::ZERO)
    }

    /// Returns whether no epoch of ours has served yet.
    fn is_first(&self) -> bool {
        self.served.iter().all(Option::is_none)
    }

    /// Returns the latest epoch in which a member has taken part in a step.
    fn newest(&self) -> Option<Fence> {
        let members = self.members.values();
        members.filter_map(|member| member.stepped).max()
    }
}
