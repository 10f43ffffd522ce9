//! A process's metrics and vitals, as one handle.

use std::sync::Arc;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusRecorder};

use crate::labels::{Commit, ProcessKind, Rustc, Serving, Start, Version};
use crate::process;
use crate::runtime;
use crate::scope::{About, Scope};
use crate::series::{Family, Kind};
use crate::store::{self, HeldLease, StoreEvent};
use crate::table::{Coordinator, Process, Set, Worker};
use crate::text::tidy;
use crate::vitals::{Phase, Vitals};

/// What a worker shows.
pub type WorkerTelemetry = Telemetry<Worker>;

/// What a coordinator shows.
pub type CoordinatorTelemetry = Telemetry<Coordinator>;

/// What a process shows. Clones are the same.
#[derive(Debug)]
pub struct Telemetry<M>(Arc<Inner<M>>);

#[derive(Debug)]
struct Inner<M> {
    scope: Arc<Scope>,
    /// Where the metrics are recorded; `None` where nobody looks at them.
    recorder: Option<PrometheusRecorder>,
    process: Process,
    metrics: M,
    vitals: Vitals,
    lease: HeldLease,
}

impl<M> Clone for Telemetry<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<M> Telemetry<M> {
    /// Returns the metrics of any process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.0.process
    }

    /// Counts what the client of the membership store has seen.
    pub fn store_sees(&self, event: StoreEvent) {
        store::count(&self.0.process, &self.0.lease, event);
    }
}

impl Telemetry<Worker> {
    /// Returns the telemetry of a worker that has not begun with anything.
    #[must_use]
    pub fn worker(about: About, group: &str, num_ranks: usize) -> Self {
        Self::new(Scope::worker(about, group, num_ranks), true)
    }

    /// Returns one that counts nothing.
    #[must_use]
    pub fn unseen_worker(num_ranks: usize) -> Self {
        Self::new(Scope::worker(About::default(), "", num_ranks), false)
    }

    /// Shows how many rows each expert of the model is given: a series for each of them, and so only
    /// where somebody asks for it. Of layers and experts above [`Layer::MAX`](crate::labels::Layer::MAX)
    /// and [`Expert::MAX`](crate::labels::Expert::MAX) nothing is shown.
    pub fn show_experts(&self, layers: usize, experts: usize) {
        self.0.scope.set_layers(layers);
        self.0.scope.set_experts(experts);
        self.register();
    }

    /// Whether [`Self::show_experts`] was asked for.
    #[must_use]
    pub fn shows_experts(&self) -> bool {
        self.0.scope.experts() > 0
    }

    /// Says which ranks of its group the worker holds, in the order of its seats. Series of ranks that
    /// it held before are not shown until it holds them again.
    pub fn seat(&self, ranks: impl IntoIterator<Item = u32>) {
        for (seat, rank) in ranks.into_iter().enumerate() {
            self.0.scope.seat(seat, rank);
        }
        self.register();
    }
}

impl Telemetry<Coordinator> {
    /// Returns the telemetry of a coordinator that may lead these groups, of that many ranks each, and
    /// has not begun with anything.
    #[must_use]
    pub fn coordinator(about: About, groups: Vec<String>, num_ranks: usize) -> Self {
        Self::new(Scope::coordinator(about, groups, num_ranks), true)
    }

    /// Returns one that counts nothing.
    #[must_use]
    pub fn unseen_coordinator(groups: Vec<String>, num_ranks: usize) -> Self {
        Self::new(
            Scope::coordinator(About::default(), groups, num_ranks),
            false,
        )
    }

    /// Says how many layers the model has; of those above [`Layer::MAX`](crate::labels::Layer::MAX) nothing is shown.
    pub fn layers(&self, layers: usize) {
        self.0.scope.set_layers(layers);
        self.register();
    }
}

#[expect(private_bounds, reason = "the two sets of metrics are all there are")]
impl<M: Set> Telemetry<M> {
    fn new(scope: Scope, is_seen: bool) -> Self {
        let scope = Arc::new(scope);
        let (process, metrics) = (Process::make(&scope), M::make(&scope));
        let families = process.families().into_iter().chain(metrics.families());
        let recorder = is_seen.then(|| recorder(&scope, families));
        let telemetry = Self(Arc::new(Inner {
            scope,
            recorder,
            process,
            metrics,
            vitals: Vitals::new(),
            lease: HeldLease::default(),
        }));
        telemetry.register();
        telemetry
            .process()
            .build_info
            .set((ProcessKind, (Version, (Commit, Rustc))), 1.0);
        telemetry
    }

    /// Makes the series of all labels that stand for something.
    fn register(&self) {
        if let Some(recorder) = &self.0.recorder {
            for family in self.any_process().into_iter().chain(self.own()) {
                family.register(recorder);
            }
        }
    }

    /// Returns the metrics of this kind of process.
    #[must_use]
    pub fn metrics(&self) -> &M {
        &self.0.metrics
    }

    /// Returns what the probes ask for.
    #[must_use]
    pub fn vitals(&self) -> &Vitals {
        &self.0.vitals
    }

    /// Returns all metrics as they are now, in the text format that Prometheus scrapes (0.0.4).
    #[must_use]
    pub fn render(&self) -> String {
        let Some(recorder) = &self.0.recorder else {
            return String::new();
        };
        self.refresh();
        let families: Vec<_> = self.any_process().into_iter().chain(self.own()).collect();
        let scope = &self.0.scope;
        tidy(&recorder.handle().render(), &families, |rank| {
            scope.shows(rank)
        })
    }

    /// Sorts what histograms have collected into their buckets; a scrape does it, too. To be called
    /// every few seconds, as [`crate::admin::serve`] does, because until then every observation is kept.
    pub fn upkeep(&self) {
        if let Some(recorder) = &self.0.recorder {
            recorder.handle().run_upkeep();
        }
    }

    /// Returns the metrics of any process.
    pub(crate) fn any_process(&self) -> Vec<&dyn Family> {
        self.0.process.families()
    }

    /// Returns the metrics of this kind of process.
    pub(crate) fn own(&self) -> Vec<&dyn Family> {
        self.0.metrics.families()
    }

    /// Sets what is only known by asking.
    fn refresh(&self) {
        let process = &self.0.process;
        process::measure(process);
        runtime::measure(process);
        let lease = self.0.lease.remaining().as_secs_f64();
        process.store_lease.set((), lease);
        let vitals = &self.0.vitals;
        for (start, phase) in Start::ALL.iter().zip(Phase::ALL) {
            let spent = vitals.spent(*phase).as_secs_f64();
            process.startup.set(*start, spent);
        }
        let now = vitals.serving();
        for state in Serving::ALL {
            let is_now = f64::from(u8::from(*state == now));
            process.serving_state.set(*state, is_now);
        }
    }
}

/// Makes a recorder that knows the buckets of these families, and the labels that every series has.
fn recorder<'a>(
    scope: &Scope,
    families: impl Iterator<Item = &'a dyn Family>,
) -> PrometheusRecorder {
    let mut builder = PrometheusBuilder::new();
    for (label, value) in &scope.constants {
        builder = builder.add_global_label(*label, value);
    }
    for family in families.filter(|family| family.kind() == Kind::Histogram) {
        let entry = family.entry();
        let name = Matcher::Full(entry.name.to_owned());
        let with_buckets = builder.set_buckets_for_metric(name, entry.buckets);
        builder = with_buckets.expect("every histogram of the table has buckets");
    }
    builder.build_recorder()
}
