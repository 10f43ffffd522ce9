//! Counts what a lead does, for operators. It is told the time, as the step loop is.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cluster::{Standing, Status};
use engine::{Load, PoolLoad, RankLoad, Report, Shortage};
use spec::{Placement, Step, StepNumber};
use telemetry::CoordinatorTelemetry;
use telemetry::labels::{
    Block, EpochEnd, Group, Kind, Layer, LeadPhase, Lookup, Pool, Preemption, Rank, Replay, Wait,
    WorkerState,
};

/// How much the latest step counts in what is shown of all.
const LATEST: f64 = 0.05;

/// What is counted of one group, for as long as it is led here.
#[derive(Debug)]
pub(crate) struct LeadMeter {
    telemetry: CoordinatorTelemetry,
    group: Group,
    /// Experts of a layer that each rank holds in an epoch.
    experts: Vec<usize>,
    /// The steps in flight.
    sent: BTreeMap<StepNumber, Sent>,
    /// How uneven each layer has been.
    layers: Vec<f64>,
    /// When the last epoch ended; `None` while there is one.
    ended: Option<Duration>,
}

/// A step in flight.
#[derive(Debug)]
struct Sent {
    at: Duration,
    /// What it computes.
    kind: Kind,
    /// Rows of the experts of the ranks that have answered, by layer.
    rows: Vec<Vec<u32>>,
}

impl LeadMeter {
    /// Begins for the group at this place of the configuration, whose ranks share so many experts of each
    /// layer.
    pub(crate) fn new(
        telemetry: CoordinatorTelemetry,
        group: usize,
        (num_experts, num_ranks): (usize, usize),
    ) -> Self {
        let group = Group(group);
        telemetry.metrics().ep_size.set(group, num_ranks as f64);
        let mut experts = vec![0; num_ranks];
        for owner in Placement::even(1, num_experts, num_ranks).owners(0) {
            experts[owner.index()] += 1;
        }
        Self {
            telemetry,
            group,
            experts,
            sent: BTreeMap::new(),
            layers: Vec::new(),
            ended: None,
        }
    }

    /// Shows how the group and its engine stand.
    pub(crate) fn show(
        &self,
        status: &Status,
        standings: impl Iterator<Item = Standing>,
        load: &Load,
    ) {
        let (metrics, group) = (self.telemetry.metrics(), self.group);
        metrics.epoch.set(group, status.fence.epoch.0 as f64);
        metrics
            .ep_ranks_ready
            .set(group, status.ranks_present as f64);
        metrics.running.set(group, load.running as f64);
        let wait = match load.shortage {
            _ if !status.serving => Wait::EpochChange,
            Some(Shortage::Kv) => Wait::Kv,
            Some(Shortage::Pause) => Wait::Draining,
            Some(Shortage::Room) | None => Wait::Capacity,
        };
        self.show_waiting(Some(wait), load.waiting);
        let mut missing = 0;
        for (rank, standing) in standings.enumerate() {
            self.show_worker(Rank(rank), Some(standing));
            if standing == Standing::Lost {
                missing += self.experts[rank];
            }
        }
        metrics.missing_experts.set(group, missing as f64);
        for (rank, of_rank) in load.ranks.iter().enumerate() {
            self.show_rank(Rank(rank), of_rank);
        }
    }

    /// Shows so many as waiting for this.
    fn show_waiting(&self, wait: Option<Wait>, count: usize) {
        for other in Wait::ALL {
            let waiting = if wait == Some(*other) { count } else { 0 };
            let gauge = &self.telemetry.metrics().waiting;
            gauge.set((self.group, *other), waiting as f64);
        }
    }

    fn show_worker(&self, rank: Rank, standing: Option<Standing>) {
        let state = standing.map(|standing| match standing {
            Standing::Lost => WorkerState::Lost,
            Standing::Standby => WorkerState::Standby,
            Standing::Loading => WorkerState::Loading,
            Standing::Active => WorkerState::Active,
            Standing::Draining => WorkerState::Draining,
        });
        for other in WorkerState::ALL {
            let is_it = f64::from(u8::from(state == Some(*other)));
            let gauge = &self.telemetry.metrics().worker_state;
            gauge.set((self.group, (rank, *other)), is_it);
        }
    }

    fn show_rank(&self, rank: Rank, load: &RankLoad) {
        let (metrics, group) = (self.telemetry.metrics(), self.group);
        for (pool, blocks) in [(Pool::Full, load.full), (Pool::Window, load.window)] {
            let states = [
                (Block::Held, blocks.held),
                (Block::Cached, blocks.cached),
                (Block::Free, blocks.free),
            ];
            for (state, count) in states {
                let labels = (group, (rank, (pool, state)));
                metrics.kv_blocks.set(labels, count as f64);
            }
        }
        let fuller = usage(load.full).max(usage(load.window));
        metrics.kv_usage.set((group, rank), fuller);
    }

    /// A step is sent.
    pub(crate) fn send(&mut self, step: &Step, now: Duration) {
        let lines = || step.parts.iter().flat_map(|part| &part.lines);
        let decodes = |line: &&spec::Line| line.len == 1 && line.samples;
        let kind = Kind::of(
            !lines().all(|line| decodes(&line)),
            lines().any(|line| decodes(&line)),
        );
        let rows: u32 = lines().map(|line| line.len).sum();
        let (metrics, labels) = (self.telemetry.metrics(), (self.group, kind));
        metrics
            .batch_sequences
            .observe(labels, lines().count() as f64);
        metrics.batch_tokens.observe(labels, f64::from(rows));
        let (at, rows) = (now, Vec::new());
        self.sent.insert(step.number, Sent { at, kind, rows });
    }

    /// Does some work on steps, and takes its time. By the machine's own clock, as the loop's stands
    /// still meanwhile; nothing but the metrics knows it.
    pub(crate) fn timed<T>(&self, phase: LeadPhase, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        let phases = &self.telemetry.metrics().step_phases;
        phases.add((self.group, phase), began.elapsed());
        done
    }

    /// A rank has answered a step, in which its experts were given these rows, by layer; none where its
    /// worker does not count them.
    pub(crate) fn worked(&mut self, step: StepNumber, rows: Vec<u32>) {
        if let Some(sent) = self.sent.get_mut(&step) {
            sent.rows.push(rows);
        }
    }

    /// All ranks have answered a step.
    pub(crate) fn complete(&mut self, step: StepNumber, report: &Report, now: Duration) {
        let (metrics, group) = (self.telemetry.metrics(), self.group);
        if let Some(Sent { at, kind, rows }) = self.sent.remove(&step) {
            let took = now.saturating_sub(at);
            metrics.step_duration.observe_time((group, kind), took);
            if let Some(ratio) = imbalance(&rows) {
                metrics.load_imbalance.observe((group, kind), ratio);
            }
            self.show_layers(&rows);
        }
        let metrics = self.telemetry.metrics();
        let missed = report.admitted_rows.saturating_sub(report.hit_rows);
        let preempted = report.preemptions as u64;
        metrics
            .prefix_cache
            .add((group, Lookup::Hit), report.hit_rows as u64);
        metrics
            .prefix_cache
            .add((group, Lookup::Miss), missed as u64);
        metrics.preemptions.add((group, Preemption::Kv), preempted);
    }

    /// Shows how uneven each layer is.
    fn show_layers(&mut self, rows: &[Vec<u32>]) {
        let most = rows.first().map_or(0, Vec::len).min(Layer::MAX);
        if self.layers.len() < most {
            self.layers.resize(most, 1.0);
        }
        for (layer, shown) in self.layers.iter_mut().enumerate() {
            if let Some(ratio) = imbalance_of(layer, rows) {
                *shown += (ratio - *shown) * LATEST;
            }
            let gauge = &self.telemetry.metrics().layer_load_imbalance;
            gauge.set((self.group, Layer(layer)), *shown);
        }
    }

    /// An epoch has ended, in which so many generations ran.
    pub(crate) fn end_epoch(&mut self, why: EpochEnd, running: usize, now: Duration) {
        let (metrics, group) = (self.telemetry.metrics(), self.group);
        metrics.epoch_changes.add((group, why), 1);
        metrics
            .preemptions
            .add((group, Preemption::Epoch), running as u64);
        self.sent.clear();
        self.ended.get_or_insert(now);
    }

    /// An epoch serves, in which so many generations go on.
    pub(crate) fn serve(&mut self, going_on: usize, now: Duration) {
        let (metrics, group) = (self.telemetry.metrics(), self.group);
        metrics
            .replayed
            .add((group, Replay::EpochChange), going_on as u64);
        if let Some(ended) = self.ended.take() {
            let took = now.saturating_sub(ended);
            metrics.epoch_change.observe_time(group, took);
        }
    }

    /// So many generations of the lead before this one go on here.
    pub(crate) fn take_over(&self, count: usize) {
        let labels = (self.group, Replay::LeaderChange);
        self.telemetry.metrics().replayed.add(labels, count as u64);
    }
}

impl Drop for LeadMeter {
    /// What is led elsewhere is not shown here.
    fn drop(&mut self) {
        let (metrics, group) = (self.telemetry.metrics(), self.group);
        let gauges = [
            &metrics.epoch,
            &metrics.ep_size,
            &metrics.ep_ranks_ready,
            &metrics.missing_experts,
            &metrics.running,
        ];
        gauges.iter().for_each(|gauge| gauge.set(group, 0.0));
        self.show_waiting(None, 0);
        for layer in 0..self.layers.len() {
            let gauge = &metrics.layer_load_imbalance;
            gauge.set((group, Layer(layer)), 0.0);
        }
        for rank in 0..self.experts.len() {
            self.show_worker(Rank(rank), None);
            self.show_rank(Rank(rank), &RankLoad::default());
        }
    }
}

/// Returns how many times the rows of the mean rank the busiest one has, if each layer takes as long as
/// its busiest rank; `None` where a rank does not say what it has, or there is nothing to compute.
fn imbalance(rows: &[Vec<u32>]) -> Option<f64> {
    let layers = rows.first()?.len();
    if rows.iter().any(|of_rank| of_rank.len() != layers) {
        return None;
    }
    let of_layer = |layer: usize| rows.iter().map(move |of_rank| u64::from(of_rank[layer]));
    let busiest: u64 = (0..layers).filter_map(|layer| of_layer(layer).max()).sum();
    let all: u64 = (0..layers).flat_map(of_layer).sum();
    (all > 0).then(|| busiest as f64 * rows.len() as f64 / all as f64)
}

/// Returns the same of one layer.
fn imbalance_of(layer: usize, rows: &[Vec<u32>]) -> Option<f64> {
    let (mut busiest, mut all) = (0, 0);
    for of_rank in rows {
        let its = u64::from(*of_rank.get(layer)?);
        (busiest, all) = (its.max(busiest), all + its);
    }
    (all > 0).then(|| busiest as f64 * rows.len() as f64 / all as f64)
}

/// Returns how much of a pool is held, from 0 to 1.
fn usage(blocks: PoolLoad) -> f64 {
    let all = blocks.held + blocks.cached + blocks.free;
    blocks.held as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests;
