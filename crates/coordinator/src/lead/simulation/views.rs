//! What is looked at from above: who is seated by a lead's first plan, and what is kept in the end.

use cluster::EpochPlan;
use spec::Fence;

use super::counts::Thing;
use super::net::Node;
use super::rules::Start;
use super::worker::{self, Worker};
use super::{REST, World, coordinator};

/// How long after its last trouble a node has found its way back.
const RECOVERY: std::time::Duration = std::time::Duration::from_secs(8);

impl World {
    /// Looks who is seated by a lead that has not served yet: its first plan may not pass over a worker
    /// that has kept sequences of the last lead, for one that has not.
    pub(super) fn look_at_seats(&mut self) {
        let Some((lead, plan)) = self.rules.first.take() else {
            return;
        };
        let ends = &self.rules.ends;
        let lives = |worker: &&Worker| self.net.lives(worker.node());
        let stepped = |start: Start| ends.stepped(start).filter(|fence| *fence < plan.fence);
        let steps = self.workers.iter().filter(lives);
        let Some(newest) = steps.filter_map(|worker| stepped(worker.start())).max() else {
            return;
        };
        let nodes = [Node::Store, Node::Coordinator(lead.0)];
        if self.net.is_slow() || !nodes.iter().all(|node| self.is_well(*node)) {
            return;
        }
        let knows = |worker: &&Worker| {
            stepped(worker.start()) == Some(newest) && ends.keeps(worker.start(), newest.term)
        };
        let may_sit = |worker: &&Worker| self.is_well(worker.node()) && !worker.is_draining();
        let mut passed = self
            .workers
            .iter()
            .filter(lives)
            .filter(knows)
            .filter(may_sit);
        let displaced = passed.find(|worker| {
            let others = others(&plan, worker);
            others.is_some_and(|others| {
                others
                    .into_iter()
                    .any(|other| stepped(other) < Some(newest))
            })
        });
        let Some(displaced) = displaced.map(Worker::start) else {
            return;
        };
        let fence = plan.fence;
        panic!(
            "worker {displaced:?} has kept what was left in {newest}, and has no seat in {fence}"
        );
    }

    fn is_well(&self, node: Node) -> bool {
        let until = self.troubled.get(&node).copied().unwrap_or_default();
        self.net.lives(node) && self.net.now > until + RECOVERY
    }

    /// Looks through what workers keep for sequences that have ended.
    pub(super) fn search(&mut self) {
        for worker in &self.workers {
            let Some((fence, lead)) = worker.runs() else {
                continue;
            };
            let serves = |fence: Fence, lead: u64| {
                let mut all = self.coordinators.iter();
                all.find_map(|one| {
                    let is_it = coordinator::lead_id(one.start()) == lead;
                    let leading = one
                        .leading()
                        .filter(|leading| leading.serves() == Some(fence));
                    leading.filter(|_| is_it)
                })
            };
            let Some(lead) = serves(fence, lead) else {
                continue;
            };
            self.rules.counts.note(Thing::Searched);
            let start = worker.start();
            for client in worker.kept() {
                if lead.lived(client, self.net.now.saturating_sub(REST)) {
                    continue;
                }
                let opened = self.rules.ends.opened(start, client);
                panic!("worker {start:?} keeps generation {client} of {opened:?}, which has ended");
            }
        }
    }
}

/// Lists the workers of a plan that a worker could stand in for; none where it is of the plan.
fn others(plan: &EpochPlan, worker: &Worker) -> Option<Vec<Start>> {
    let members = plan.members.iter().map(|(member, _)| member);
    let is_of_it = |member: &cluster::Registration| worker::start(member) == worker.start();
    if members.clone().any(is_of_it) {
        return None;
    }
    let equal = members.filter(|member| member.num_ranks == worker.num_ranks);
    Some(equal.map(worker::start).collect())
}
