//! A worker's steps: each is computed for a while, needs the rows of all other ranks, and is answered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use cluster::EpochPlan;
use engine::stub::{Late, Model};
use proto::internal as wire;
use spec::{Part, PartResult, Rank, Slot, StepNumber};
use tokio_util::sync::CancellationToken;

use super::counts::Thing;
use super::net::{Event, Net, Port};
use super::packet::Packet;
use super::peers::Peers;
use super::rules::{Rules, Start};
use super::worker::{Held, own_ranks};
use crate::wire::sampled_token_to_wire;

/// Steps in flight that a worker takes.
const MAX_STEPS: usize = 4;

/// The step that is computed.
struct Current {
    number: u64,
    step: StepNumber,
    parts: Vec<Part>,
    is_computed: bool,
}

pub(super) struct Run {
    start: Start,
    pub(super) port: Port,
    pub(super) plan: Arc<EpochPlan>,
    lead: u64,
    pub(super) alive: CancellationToken,
    newest: StepNumber,
    queue: VecDeque<(StepNumber, Vec<Part>)>,
    current: Option<Current>,
    failed: bool,
    ticks: u64,
}

/// What a step has given: its number, and the results and slots by rank.
pub(super) type Given = (StepNumber, Vec<PartResult>, Vec<Vec<Slot>>);

impl Run {
    pub(super) fn new(
        port: Port,
        start: Start,
        (plan, lead): (Arc<EpochPlan>, u64),
        alive: CancellationToken,
    ) -> Self {
        Self {
            start,
            port,
            plan,
            lead,
            alive,
            newest: StepNumber(0),
            queue: VecDeque::new(),
            current: None,
            failed: false,
            ticks: 0,
        }
    }

    /// Takes a step; returns whether it may come now.
    pub(super) fn accept(
        &mut self,
        net: &mut Net,
        work: &mut u64,
        (step, parts): (StepNumber, Vec<Part>),
    ) -> bool {
        let in_flight = self.queue.len() + usize::from(self.current.is_some());
        if step <= self.newest || in_flight >= MAX_STEPS {
            return false;
        }
        self.newest = step;
        self.queue.push_back((step, parts));
        if self.current.is_none() {
            self.begin(net, work);
        }
        true
    }

    /// Begins the next step, if there is one.
    pub(super) fn begin(&mut self, net: &mut Net, work: &mut u64) {
        let Some((step, parts)) = self.queue.pop_front() else {
            return;
        };
        *work += 1;
        self.current = Some(Current {
            number: *work,
            step,
            parts,
            is_computed: false,
        });
        let computing = net.dice.millis(20, 250);
        net.after(computing, Event::Done(self.start.0, *work));
    }

    pub(super) fn computed(&mut self, number: u64) {
        if let Some(current) = self.current.as_mut().filter(|c| c.number == number) {
            current.is_computed = true;
        }
    }

    /// Ends the step, if it is computed and all rows are there.
    pub(super) fn go_on(
        &mut self,
        net: &mut Net,
        rules: &mut Rules,
        peers: &mut Peers,
        (model, ranks): (Model, &mut BTreeMap<Rank, Held>),
    ) -> Option<Given> {
        let current = self
            .current
            .as_ref()
            .filter(|c| c.is_computed && !self.failed)?;
        let (step, fence) = (current.step, self.plan.fence);
        rules.gives(self.start, (fence, self.lead), step);
        for rank in own_ranks(&self.plan, self.start.0) {
            peers.give(net, ((step, rank), self.start));
        }
        match peers.missing(step) {
            Some((rank, true)) => {
                self.fail(net, rules, step, rank);
                return None;
            }
            Some((_, false)) => return None,
            None => {}
        }
        let current = self.current.take()?;
        rules.stepped((&self.plan, self.lead), step, &peers.finish(step));
        let slots = |part: &Part| part.lines.iter().map(|line| line.slot).collect();
        let slots = current.parts.iter().map(slots).collect();
        let results = current.parts.iter().map(|part| {
            let held = ranks
                .get_mut(&part.rank)
                .expect("its ranks are those of the plan");
            held.used = Some(fence.term);
            held.stub.run(model, part, usize::MAX, |_| Late::No)
        });
        Some((step, results.collect(), slots))
    }

    /// A peer is gone whose rows are needed.
    fn fail(&mut self, net: &mut Net, rules: &mut Rules, step: StepNumber, peer: Rank) {
        self.failed = true;
        rules.note(Thing::Void);
        let own = own_ranks(&self.plan, self.start.0);
        let failed = wire::StepFailed {
            step: step.0,
            rank: own.first().map_or(0, |rank| rank.0),
            reason: format!("rank {peer} is gone"),
            blamed: Some(peer.0),
            ..Default::default()
        };
        let said = wire::RunResponse {
            message: Some(wire::run_response::Message::Failed(failed)),
        };
        net.send(self.port, Packet::Said(said));
    }

    /// Tells where the ranks are.
    pub(super) fn report(&mut self, net: &mut Net, peers: &Peers) {
        let Some(current) = &self.current else {
            return;
        };
        let waiting_for = match current.is_computed {
            true => peers.missing(current.step).map(|(rank, _)| rank.0),
            false => {
                self.ticks += 1;
                None
            }
        };
        let own = own_ranks(&self.plan, self.start.0).into_iter();
        let ranks = own.map(|rank| wire::RankProgress {
            rank: rank.0,
            step: current.step.0,
            ticks: self.ticks,
            waiting_for,
        });
        let progress = wire::Progress {
            ranks: ranks.collect(),
        };
        let said = wire::RunResponse {
            message: Some(wire::run_response::Message::Progress(progress)),
        };
        net.send(self.port, Packet::Said(said));
    }

    /// Leaves every rank somewhere within the step.
    pub(super) fn abort(self, net: &mut Net, model: Model, ranks: &mut BTreeMap<Rank, Held>) {
        for part in self.current.into_iter().flat_map(|current| current.parts) {
            let lines = net.dice.below(part.lines.len() + 1);
            if let Some(held) = ranks.get_mut(&part.rank) {
                held.used = Some(self.plan.fence.term);
                held.stub.run(model, &part, lines, |_| Late::No);
            }
        }
    }
}

pub(super) fn result_to_wire(result: &PartResult) -> wire::PartResult {
    let lines = result.lines.iter().map(|line| wire::LineResult {
        ran: line.ran,
        tokens: line.tokens.iter().map(sampled_token_to_wire).collect(),
        ..Default::default()
    });
    wire::PartResult {
        rank: result.rank.0,
        lines: lines.collect(),
        expert_rows: Vec::new(),
    }
}
