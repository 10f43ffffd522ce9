//! A worker's part in epochs: it gets ready, runs steps, and stops.

use std::sync::Arc;

use cluster::EpochPlan;
use proto::internal as wire;
use spec::{Fence, Rank};

use super::{Net, Packet, Port, Prepared, Rules, Run, Worker, own_ranks};
use crate::lead::simulation::counts::Thing;
use crate::lead::simulation::net::Event;

impl Worker {
    pub(super) fn prepare(
        &mut self,
        net: &mut Net,
        rules: &mut Rules,
        port: Port,
        (plan, lead): (Arc<EpochPlan>, u64),
    ) {
        let alive = match self.epochs.prepare(plan.fence, lead) {
            Ok(alive) => alive,
            Err(stale) => {
                rules.note(Thing::Stale);
                net.send(port, Packet::Overtaken(stale.to_string()));
                return net.close(port);
            }
        };
        rules.obeys((self.index, self.incarnation), plan.fence, lead);
        self.stop(net);
        self.work += 1;
        self.prepared = Some(Prepared {
            port,
            plan,
            alive,
            number: self.work,
        });
        let loading = net.dice.millis(20, 1500);
        net.after(loading, Event::Done(self.index, self.work));
    }

    /// Gives up what is being computed, half done.
    pub(super) fn stop(&mut self, net: &mut Net) {
        if let Some(run) = self.run.take() {
            run.abort(net, self.model, &mut self.ranks);
        }
        self.peers.leave(net);
    }

    /// Something that took time is done.
    pub(in crate::lead::simulation) fn done(
        &mut self,
        net: &mut Net,
        rules: &mut Rules,
        number: u64,
    ) {
        if let Some(prepared) = &self.prepared
            && prepared.number == number
        {
            return self.ready(net, rules);
        }
        if let Some(run) = &mut self.run {
            run.computed(number);
        }
        self.go_on(net, rules);
    }

    pub(super) fn ready(&mut self, net: &mut Net, rules: &mut Rules) {
        let Some(prepared) = &self.prepared else {
            return;
        };
        let (port, plan) = (prepared.port, &prepared.plan);
        if net.now < self.sick {
            rules.note(Thing::PrepareFailed);
            return net.close(port);
        }
        if !self.epochs.ready(&prepared.alive, ()) {
            return;
        }
        let own = own_ranks(plan, self.index);
        let placement = &plan.placement;
        let held = (0..placement.num_layers()).flat_map(|layer| {
            let of = |rank: &Rank| placement.held_by(layer, *rank).collect::<Vec<_>>();
            let experts = own.iter().flat_map(of);
            experts
                .map(move |expert| (layer, expert))
                .collect::<Vec<_>>()
        });
        let start = (self.index, self.incarnation);
        rules.experts.load(start, plan.fence, held.collect());
        self.ranks.retain(|rank, _| own.contains(rank));
        let kept = own.iter().map(|rank| {
            let held = self.ranks.entry(*rank).or_default();
            held.used == Some(plan.fence.term)
        });
        let kept: Vec<bool> = kept.collect();
        self.peers.enter(plan, self.index);
        for left in self.left.before(plan.fence.term) {
            net.send(port, Packet::Left(left));
        }
        let counted = own.iter().zip(&kept);
        let counted = counted.filter(|(rank, kept)| **kept && plan.held.contains(rank));
        let counted: Vec<Rank> = counted.map(|(rank, _)| *rank).collect();
        self.left.ready(plan.fence, &counted);
        let stepped = self.left.stepped().unwrap_or_default();
        net.send(port, Packet::Ready(kept, stepped));
    }

    /// Says whether steps of this epoch are run for whoever is at this port; the first one begins that.
    pub(super) fn is_run(&mut self, net: &Net, port: Port, fence: Fence) -> bool {
        if let Some(run) = &self.run {
            return run.port == port && run.plan.fence == fence && net.is_open(port);
        }
        let Some(prepared) = self
            .prepared
            .as_ref()
            .filter(|prepared| prepared.port == port)
        else {
            return false;
        };
        let Ok(((), alive)) = self.epochs.run(fence) else {
            return false;
        };
        let epoch = (prepared.plan.clone(), self.epochs.lead());
        self.run = Some(Run::new(port, self.start(), epoch, alive));
        true
    }

    pub(super) fn end_run(&mut self, net: &mut Net, port: Port) {
        net.close(port);
        if let Some(run) = self.run.take() {
            self.epochs.end(&run.alive);
            run.abort(net, self.model, &mut self.ranks);
        }
    }

    /// Goes on with the step that is computed, as far as what it needs is there.
    pub(super) fn go_on(&mut self, net: &mut Net, rules: &mut Rules) {
        let Some(run) = &mut self.run else {
            return;
        };
        while let Some((step, results, slots)) =
            run.go_on(net, rules, &mut self.peers, (self.model, &mut self.ranks))
        {
            let fence = run.plan.fence;
            for (result, slots) in results.iter().zip(&slots) {
                self.left.sampled(fence, step, slots, result);
            }
            let parts = results
                .iter()
                .map(super::super::run::result_to_wire)
                .collect();
            let done = wire::StepDone {
                step: step.0,
                parts,
            };
            let said = wire::RunResponse {
                message: Some(wire::run_response::Message::Done(done)),
            };
            net.send(run.port, Packet::Said(said));
            run.begin(net, &mut self.work);
        }
    }
}
