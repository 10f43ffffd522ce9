//! What must hold, whatever happens; and counts of what did happen, so that a simulation in which nothing
//! does is noticed.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::AddAssign;

use cluster::EpochPlan;
use spec::{ExpertId, Fence, Rank, StepNumber, Term};

/// How often things happened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) terms: usize,
    pub(super) epochs: usize,
    pub(super) steps: usize,
    pub(super) voided: usize,
    pub(super) resumed: usize,
    pub(super) collected: usize,
    pub(super) refused: usize,
    pub(super) overtaken: usize,
    pub(super) ended: usize,
    pub(super) cancelled: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.terms += other.terms;
        self.epochs += other.epochs;
        self.steps += other.steps;
        self.voided += other.voided;
        self.resumed += other.resumed;
        self.collected += other.collected;
        self.refused += other.refused;
        self.overtaken += other.overtaken;
        self.ended += other.ended;
        self.cancelled += other.cancelled;
    }
}

#[derive(Default)]
pub(super) struct Rules {
    pub(super) counts: Counts,
    /// Who leads in a term: which coordinators, in which starts of them.
    leads: BTreeSet<(Term, (usize, u64))>,
    /// Whether the store of terms has lost everything: then a term may be given twice.
    pub(super) is_lost: bool,
    /// Who is obeyed in a term.
    obeyed: BTreeMap<(Term, (usize, u64)), u64>,
    /// Who leads each epoch that has run a step.
    run: BTreeMap<Fence, u64>,
    /// What workers have obeyed, by worker and start.
    fences: BTreeMap<(usize, u64), Fence>,
    /// The plan of each epoch.
    plans: BTreeMap<(Fence, (usize, u64)), EpochPlan>,
}

impl Rules {
    /// A coordinator leads from now on.
    pub(super) fn leads(&mut self, term: Term, who: (usize, u64)) {
        self.leads.insert((term, who));
        let mut others = self.leads.iter().filter(|(other, _)| *other == term);
        let is_one = others.all(|(_, other)| *other == who);
        assert!(is_one || self.is_lost, "term {term} has two leads");
        self.counts.terms += 1;
    }

    /// A lead asks for an epoch: it is its own term's, and every expert has one owner, who is there.
    pub(super) fn plans(&mut self, plan: &EpochPlan, who: (usize, u64)) {
        let is_own = self.leads.contains(&(plan.fence.term, who));
        assert!(is_own, "{} is another's term", plan.fence);
        let before = self.plans.insert((plan.fence, who), plan.clone());
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
        self.counts.epochs += 1;
    }

    /// A worker obeys an epoch from now on.
    pub(super) fn obeys(&mut self, worker: (usize, u64), fence: Fence, lead: u64) {
        let before = *self.obeyed.entry((fence.term, worker)).or_insert(lead);
        assert_eq!(before, lead, "two leads of term {} are obeyed", fence.term);
        let old = self.fences.insert(worker, fence).unwrap_or_default();
        assert!(old <= fence, "a worker goes back from {old} to {fence}");
    }

    /// A worker has had the rows of these ranks for a step, its own included: all owners took part.
    pub(super) fn stepped(
        &mut self,
        (plan, lead): (&EpochPlan, u64),
        step: StepNumber,
        ranks: &BTreeSet<Rank>,
    ) {
        let (fence, placement) = (plan.fence, &plan.placement);
        let before = *self.run.entry(fence).or_insert(lead);
        let is_one = before == lead || self.is_lost;
        assert!(is_one, "two epochs {fence} have run");
        for layer in 0..placement.num_layers() {
            let mut owners = placement.owners(layer).iter();
            let all = owners.all(|owner| ranks.contains(owner));
            assert!(all, "step {step} of {fence} ran with orphans");
        }
        self.counts.steps += 1;
    }
}
