//! A process's metrics and vitals, as one handle.

use std::sync::Arc;

use crate::labels::{ProcessKind, Serving, Start, Version};
use crate::process;
use crate::scope::{About, Scope};
use crate::series::Family;
use crate::table::{Coordinator, Process, Set, Worker};
use crate::text::Text;
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
    process: Process,
    metrics: M,
    vitals: Vitals,
}

impl<M> Clone for Telemetry<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl Telemetry<Worker> {
    /// Returns the telemetry of a worker that has not begun with anything.
    #[must_use]
    pub fn worker(about: About, group: &str, num_ranks: usize) -> Self {
        Self::new(Scope::worker(about, group, num_ranks))
    }

    /// Says which ranks of its group the worker holds, in the order of its seats. A seat that another
    /// rank had begins again at 0.
    pub fn seat(&self, ranks: impl IntoIterator<Item = u32>) {
        for (seat, rank) in ranks.into_iter().enumerate() {
            if self.0.scope.seat(seat, rank) {
                let families = self.0.metrics.families();
                families.iter().for_each(|family| family.clear_seat(seat));
            }
        }
    }
}

impl Telemetry<Coordinator> {
    /// Returns the telemetry of a coordinator that may lead these groups, of that many ranks each, and
    /// has not begun with anything.
    #[must_use]
    pub fn coordinator(about: About, groups: Vec<String>, num_ranks: usize) -> Self {
        Self::new(Scope::coordinator(about, groups, num_ranks))
    }
}

#[expect(private_bounds, reason = "the two sets of metrics are all there are")]
impl<M: Set> Telemetry<M> {
    fn new(scope: Scope) -> Self {
        let scope = Arc::new(scope);
        let inner = Inner {
            process: Process::make(&scope),
            metrics: M::make(&scope),
            vitals: Vitals::new(),
            scope,
        };
        inner.process.build_info.set((ProcessKind, Version), 1.0);
        Self(Arc::new(inner))
    }

    /// Returns the metrics of this kind of process.
    #[must_use]
    pub fn metrics(&self) -> &M {
        &self.0.metrics
    }

    /// Returns the metrics of any process.
    #[must_use]
    pub fn process(&self) -> &Process {
        &self.0.process
    }

    /// Returns what the probes ask for.
    #[must_use]
    pub fn vitals(&self) -> &Vitals {
        &self.0.vitals
    }

    /// Returns all metrics as they are now, in the text format that Prometheus scrapes (0.0.4).
    #[must_use]
    pub fn render(&self) -> String {
        self.refresh();
        let mut text = Text::new(&self.0.scope);
        for family in self.any_process().into_iter().chain(self.own()) {
            text.family(family);
        }
        text.finish()
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
