//! What has ended has ended: at its lead, in the records that workers keep, and at the leads to come.

use std::collections::{BTreeMap, BTreeSet};

use cluster::EpochPlan;
use spec::{Fence, Term};

use super::{Rules, Start};
use crate::lead::log::End;
use crate::lead::simulation::counts::Thing;

/// How a generation stands at a lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::lead::simulation) enum Seen {
    Live,
    /// It ended, and would go on if it were asked for again.
    Stopped,
    /// It ended for good, after so many tokens.
    Over(End, usize),
}

/// One that has ended for good.
struct Over {
    /// The epoch and lead that it ended in.
    fence: Fence,
    lead: Start,
    /// The epoch in which its home rank was told, if it was.
    told: Option<Fence>,
}

/// Generations by the number of their client.
#[derive(Default)]
pub(in crate::lead::simulation) struct Ends {
    over: BTreeMap<usize, Over>,
    /// The records that workers keep, and the epoch in which each was opened.
    kept: BTreeMap<usize, BTreeMap<Start, Fence>>,
    /// The latest epoch of which a worker has taken a step.
    stepped: BTreeMap<Start, Fence>,
}

impl Ends {
    /// Returns the epoch of the last step that a worker has taken.
    pub(in crate::lead::simulation) fn stepped(&self, worker: Start) -> Option<Fence> {
        self.stepped.get(&worker).copied()
    }

    /// Returns the epoch in which a record was opened that a worker keeps.
    pub(in crate::lead::simulation) fn opened(
        &self,
        worker: Start,
        client: usize,
    ) -> Option<Fence> {
        self.kept.get(&client)?.get(&worker).copied()
    }

    /// Says whether a worker keeps a record that was opened in a term.
    pub(in crate::lead::simulation) fn keeps(&self, worker: Start, term: Term) -> bool {
        let mut all = self.kept.values();
        all.any(|kept| kept.get(&worker).is_some_and(|opened| opened.term == term))
    }
}

impl Rules {
    /// A lead knows a generation from now on, or knows it otherwise; `asked` says that a client has
    /// submitted it in this very moment.
    pub(in crate::lead::simulation) fn seen(
        &mut self,
        (lead, fence, plan): (Start, Fence, Option<&EpochPlan>),
        client: usize,
        (before, now, asked): (Option<&Seen>, &Seen, bool),
    ) {
        if let Some(Seen::Over(..)) = before {
            panic!("generation {client} was {before:?} at {lead:?}, and is {now:?}");
        }
        if asked {
            // Its client wants it, be it once more.
            self.ends.over.remove(&client);
        } else if before.is_none() {
            self.note(Thing::WentOn);
            if *now == Seen::Live {
                self.comes_back((lead, plan), client);
            }
        } else {
            let goes_on = (before, now) == (Some(&Seen::Stopped), &Seen::Live);
            assert!(
                !goes_on,
                "generation {client} goes on by itself at {lead:?}"
            );
        }
        if let Seen::Over(..) = now
            && !self.ends.over.contains_key(&client)
        {
            let told = None;
            self.ends.over.insert(client, Over { fence, lead, told });
        }
    }

    /// A lead goes on by itself with a generation that it has found at the workers of this plan.
    fn comes_back(&mut self, (lead, plan): (Start, Option<&EpochPlan>), client: usize) {
        let Some(over) = self.ends.over.remove(&client) else {
            return;
        };
        let members = plan.iter().flat_map(|plan| &plan.members);
        let mut members = members.map(|(member, _)| super::super::worker::start(member));
        let knows = |told: Fence| {
            members.any(|member| {
                let stepped = self.ends.stepped.get(&member);
                stepped.is_some_and(|stepped| *stepped >= told)
            })
        };
        if !over.told.is_some_and(knows) {
            return self.note(Thing::Revived);
        }
        let (at, fence) = (over.lead, over.fence);
        panic!(
            "generation {client} ended in {fence} at {at:?}, its home was told, and it lives at {lead:?}"
        );
    }

    /// A worker takes a step in which these records are opened, and these are gone.
    pub(in crate::lead::simulation) fn keeps(
        &mut self,
        (worker, lead, fence): (Start, u64, Fence),
        opened: &BTreeSet<usize>,
        gone: &BTreeSet<usize>,
    ) {
        let ends = &mut self.ends;
        ends.stepped.insert(worker, fence);
        for client in opened {
            let kept = ends.kept.entry(*client).or_default();
            kept.insert(worker, fence);
        }
        for client in gone {
            let kept = ends.kept.entry(*client).or_default();
            kept.remove(&worker);
            let Some(over) = ends.over.get_mut(client) else {
                continue;
            };
            let is_its = fence.term == over.fence.term
                && lead == super::super::coordinator::lead_id(over.lead);
            // One that was moved is told to two workers.
            let is_last = kept.values().all(|opened| *opened < over.fence);
            if is_its && is_last {
                over.told.get_or_insert(fence);
            }
        }
    }

    /// A worker is gone, and what it kept.
    pub(in crate::lead::simulation) fn forgets(&mut self, worker: Start) {
        for kept in self.ends.kept.values_mut() {
            kept.remove(&worker);
        }
    }
}
