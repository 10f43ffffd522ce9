//! What must hold, whatever happens.

mod ends;
mod experts;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cluster::EpochPlan;
use spec::{ExpertId, Fence, Term};

use self::ends::Ends;
pub(super) use self::ends::Seen;
use self::experts::Experts;
use super::counts::{Counts, Thing};

/// A start of a coordinator or of a worker: which, and its incarnation.
pub(super) type Start = (usize, u64);

#[derive(Default)]
pub(super) struct Rules {
    pub(super) counts: Counts,
    /// Who leads in a term.
    leads: BTreeSet<(Term, Start)>,
    /// Whether the store of terms has lost everything: then a term may be given twice.
    pub(super) is_lost: bool,
    /// Who is obeyed in a term.
    obeyed: BTreeMap<(Term, Start), u64>,
    /// What workers have obeyed.
    fences: BTreeMap<Start, Fence>,
    /// The plan of each epoch.
    plans: BTreeMap<(Fence, Start), Arc<EpochPlan>>,
    /// A plan of a lead that has not served, at which nobody has looked yet.
    pub(super) first: Option<(Start, Arc<EpochPlan>)>,
    pub(super) experts: Experts,
    pub(super) ends: Ends,
}

impl Rules {
    pub(super) fn note(&mut self, thing: Thing) {
        self.counts.note(thing);
    }

    /// A coordinator leads from now on.
    pub(super) fn leads(&mut self, term: Term, who: Start) {
        self.leads.insert((term, who));
        let mut others = self.leads.iter().filter(|(other, _)| *other == term);
        let is_one = others.all(|(_, other)| *other == who);
        assert!(is_one || self.is_lost, "term {term} has two leads");
        if !is_one {
            self.note(Thing::SharedTerm);
        }
        self.note(Thing::Term);
    }

    /// A lead asks for an epoch: it is its own term's, and every expert has one owner, who is there.
    pub(super) fn plans(&mut self, plan: &Arc<EpochPlan>, who: Start) {
        let is_own = self.leads.contains(&(plan.fence.term, who));
        assert!(is_own, "{} is another's term", plan.fence);
        let before = self.plans.insert((plan.fence, who), Arc::clone(plan));
        assert!(before.is_none(), "epoch {} was planned twice", plan.fence);
        let mut held = BTreeSet::new();
        for (member, ranks) in &plan.members {
            assert_eq!(member.num_ranks, ranks.len(), "ranks of {}", member.name);
            let once = ranks.iter().all(|rank| held.insert(*rank));
            assert!(once, "a rank of epoch {} has two holders", plan.fence);
        }
        for layer in 0..plan.placement.num_layers() {
            for (expert, owner) in plan.placement.owners(layer).iter().enumerate() {
                let expert = ExpertId(expert as u32);
                assert!(held.contains(owner), "expert {expert} is an orphan");
            }
        }
        self.note(Thing::Epoch);
    }

    /// A worker obeys an epoch from now on, and has nothing loaded for it yet.
    pub(super) fn obeys(&mut self, worker: Start, fence: Fence, lead: u64) {
        let before = *self.obeyed.entry((fence.term, worker)).or_insert(lead);
        assert_eq!(before, lead, "two leads of term {} are obeyed", fence.term);
        let old = self.fences.insert(worker, fence).unwrap_or_default();
        assert!(old <= fence, "a worker goes back from {old} to {fence}");
        self.experts.unload(worker);
    }

    /// A worker has computed its share of a step, and gives it to the others.
    pub(super) fn gives(&mut self, worker: Start, epoch: (Fence, u64), step: spec::StepNumber) {
        let obeyed = self.fences.get(&worker).copied().unwrap_or_default();
        assert_eq!(obeyed, epoch.0, "{worker:?} computes for another epoch");
        self.experts.give(worker, epoch, step);
    }

    /// A worker has had a step's rows of these workers, its own included.
    pub(super) fn stepped(
        &mut self,
        (plan, lead): (&EpochPlan, u64),
        step: spec::StepNumber,
        givers: &BTreeSet<Start>,
    ) {
        self.experts
            .check((plan.fence, lead), (&plan.placement, step), givers);
        self.note(Thing::Step);
    }
}
