//! Who is in the group, for those who look at it.

use spec::{Fence, Rank};

use super::{Leader, State};
use crate::event::{Standing, Status};
use crate::member::Registration;

impl Leader {
    /// Lists the live members by name, each with the ranks that it holds; none for a spare.
    pub fn members(&self) -> impl Iterator<Item = (&Registration, Vec<Rank>)> {
        let members = self.members.values();
        members.map(|member| (member, self.seats.of(&member.name)))
    }

    /// Tells how the group is.
    #[must_use]
    pub fn status(&self) -> Status {
        let seated = |name: &String| self.seats.of(name).len();
        let ranks_present = self.members.keys().map(seated).sum();
        let missing = self.seats.missing(|name| self.members.contains_key(name));
        let draining = self.draining(true);
        let text = match &self.state {
            State::Serving { .. } => match draining.first() {
                None => "serving".into(),
                Some(name) => format!("serving what runs, as worker '{name}' drains"),
            },
            State::Preparing { ready, .. } => {
                format!(
                    "{} of {} workers are ready",
                    ready.len(),
                    self.seated().len()
                )
            }
            State::Gathering { why, .. } => why.clone(),
        };
        let fence = self.fence().unwrap_or(Fence {
            term: self.term,
            epoch: self.epoch,
        });
        let serving = matches!(self.state, State::Serving { .. });
        Status {
            fence,
            serving,
            ranks_present,
            missing,
            draining,
            text,
        }
    }

    /// Tells how each rank is.
    pub fn standings(&self) -> impl Iterator<Item = Standing> {
        (0..self.config.num_ranks).map(|rank| {
            let holder = self.seats.holder(Rank(rank as u32));
            let Some(member) = holder.and_then(|name| self.members.get(name)) else {
                return Standing::Lost;
            };
            match &self.state {
                _ if member.draining => Standing::Draining,
                State::Serving { .. } => Standing::Active,
                State::Preparing { ready, .. } if ready.contains_key(&member.name) => {
                    Standing::Standby
                }
                State::Preparing { .. } => Standing::Loading,
                State::Gathering { .. } => Standing::Standby,
            }
        })
    }

    /// Lists members that are about to end and are seated, or are not.
    pub(super) fn draining(&self, is_seated: bool) -> Vec<String> {
        let draining = self.members.values().filter(|member| member.draining);
        let names = draining.map(|member| &member.name);
        names
            .filter(|name| self.seats.of(name).is_empty() != is_seated)
            .cloned()
            .collect()
    }

    /// Returns whether ranks are held by somebody who is about to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        let mut members = self.members.values();
        members.any(|member| member.draining && !self.seats.of(&member.name).is_empty())
    }

    /// Lists the members that may end now: nobody waits for what they do, or would.
    #[must_use]
    pub fn released(&self, is_idle: bool) -> Vec<String> {
        let mut names = self.draining(false);
        if is_idle || !matches!(self.state, State::Serving { .. }) {
            names.extend(self.draining(true));
        }
        names
    }
}
