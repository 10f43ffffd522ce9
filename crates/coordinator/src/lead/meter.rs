//! Counts what a lead does, for operators. It is told the time, as the step loop is.

use std::collections::BTreeMap;
use std::time::Duration;

use cluster::Status;
use engine::{Load, PoolLoad, RankLoad, Report};
use spec::{Step, StepNumber};
use telemetry::CoordinatorTelemetry;
use telemetry::labels::{Block, EpochEnd, Group, Kind, Lookup, Pool, Preemption, Rank, Replay};

/// What is counted of one group, for as long as it is led here.
#[derive(Debug)]
pub(crate) struct LeadMeter {
    telemetry: CoordinatorTelemetry,
    group: Group,
    num_ranks: usize,
    /// The steps in flight: when each was sent, and what it computes.
    sent: BTreeMap<StepNumber, (Duration, Kind)>,
    /// When the last epoch ended; `None` while there is one.
    ended: Option<Duration>,
}

impl LeadMeter {
    /// Begins for the group at this place of the configuration.
    pub(crate) fn new(telemetry: CoordinatorTelemetry, group: usize, num_ranks: usize) -> Self {
        let group = Group(group);
        telemetry.metrics().ep_size.set(group, num_ranks as f64);
        Self {
            telemetry,
            group,
            num_ranks,
            sent: BTreeMap::new(),
            ended: None,
        }
    }

    /// Shows how the group and its engine stand.
    pub(crate) fn show(&self, status: &Status, load: &Load) {
        let (metrics, group) = (self.telemetry.metrics(), self.group);
        metrics.epoch.set(group, status.fence.epoch.0 as f64);
        metrics
            .ep_ranks_ready
            .set(group, status.ranks_present as f64);
        metrics.waiting.set(group, load.waiting as f64);
        metrics.running.set(group, load.running as f64);
        for (rank, of_rank) in load.ranks.iter().enumerate() {
            self.show_rank(Rank(rank), of_rank);
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
        self.sent.insert(step.number, (now, kind));
    }

    /// All ranks have answered a step.
    pub(crate) fn complete(&mut self, step: StepNumber, report: &Report, now: Duration) {
        let (metrics, group) = (self.telemetry.metrics(), self.group);
        if let Some((sent, kind)) = self.sent.remove(&step) {
            let took = now.saturating_sub(sent);
            metrics.step_duration.observe_time((group, kind), took);
        }
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
            &metrics.waiting,
            &metrics.running,
        ];
        gauges.iter().for_each(|gauge| gauge.set(group, 0.0));
        for rank in 0..self.num_ranks {
            self.show_rank(Rank(rank), &RankLoad::default());
        }
    }
}

/// Returns how much of a pool is held, from 0 to 1.
fn usage(blocks: PoolLoad) -> f64 {
    let all = blocks.held + blocks.cached + blocks.free;
    blocks.held as f64 / all.max(1) as f64
}
