//! Metrics with types: each records through the `metrics` crate, into the series of its labels.
//!
//! The series of all combinations are registered at the start, so none is missing before its first
//! event. Recording allocates nothing and waits for nobody, but for the moment in which a worker is
//! given its ranks.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use metrics::{Key, Label, Recorder, SharedString};

use crate::label::{Labels, ScopeRef};
use crate::scope::Scope;

/// What the table says of a metric.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) meaning: &'static str,
    /// Upper bounds, ascending; of histograms alone.
    pub(crate) buckets: &'static [f64],
}

/// A metric with all its series.
pub(crate) trait Family {
    fn entry(&self) -> &'static Entry;

    fn kind(&self) -> Kind;

    /// Tells the name and the values in words of each label.
    fn describe(&self, each: &mut dyn FnMut(&'static str, Cow<'static, str>));

    /// Registers the series that stand for something; those that are there already go on.
    fn register(&self, recorder: &dyn Recorder);
}

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A counter of whole things.
    Counter,
    /// A counter of seconds.
    Seconds,
    /// A number as it is now.
    Gauge,
    /// Observations by size.
    Histogram,
}

impl Kind {
    /// Returns Prometheus' word for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Counter | Self::Seconds => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// How the table makes a metric.
pub(crate) trait Make {
    fn make(scope: &Arc<Scope>, entry: &'static Entry) -> Self;
}

/// The cells of all combinations of labels.
#[derive(Debug)]
struct Cells<L, T> {
    scope: Arc<Scope>,
    entry: &'static Entry,
    /// Those that stand for nothing record nothing. Written where more is known of labels: ranks get their seats, or
    /// the model's layers and experts are told.
    cells: RwLock<Box<[T]>>,
    labels: PhantomData<fn(L)>,
}

impl<L: Labels, T: Clone> Cells<L, T> {
    fn new(scope: &Arc<Scope>, entry: &'static Entry, nothing: &T) -> Self {
        let count = L::count(&ScopeRef(scope));
        Self {
            scope: Arc::clone(scope),
            entry,
            cells: RwLock::new(vec![nothing.clone(); count].into()),
            labels: PhantomData,
        }
    }

    /// Records in the cell of a combination. A group or rank that the configuration does not know has
    /// none: that is a mistake of ours, and not worth a panic where it is only counted.
    fn record(&self, labels: L, record: impl FnOnce(&T)) {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        let cell = cells.get(labels.index(&ScopeRef(&self.scope)));
        debug_assert!(cell.is_some(), "{} has no such series", self.entry.name);
        if let Some(cell) = cell {
            record(cell);
        }
    }

    fn register(&self, mut register: impl FnMut(&Key) -> T) {
        let scope = ScopeRef(&self.scope);
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        for (index, cell) in cells.iter_mut().enumerate() {
            let mut labels: Vec<Label> = Vec::new();
            let stands = L::texts(&scope, index, &mut |name, value| {
                labels.push(Label::new(name, value.to_owned()));
            });
            if stands {
                *cell = register(&Key::from_parts(self.entry.name, labels));
            }
        }
    }

    fn meaning(&self) -> SharedString {
        SharedString::const_str(self.entry.meaning.trim())
    }
}

/// Metadata that a recorder may filter by; ours does not.
const METADATA: metrics::Metadata<'static> =
    metrics::Metadata::new(module_path!(), metrics::Level::INFO, None);

/// Counts events; never goes down.
#[derive(Debug)]
pub struct Counter<L = ()>(Cells<L, metrics::Counter>);

impl<L: Labels> Counter<L> {
    /// Counts `more` events.
    pub fn add(&self, labels: L, more: u64) {
        self.0.record(labels, |counter| counter.increment(more));
    }
}

/// Adds time up; never goes down. Shown in seconds.
///
/// Counters of the `metrics` crate are of whole things, so it is one of its gauges; what is scraped
/// says that it is a counter.
#[derive(Debug)]
pub struct Seconds<L = ()>(Cells<L, metrics::Gauge>);

impl<L: Labels> Seconds<L> {
    /// Adds a time.
    pub fn add(&self, labels: L, more: Duration) {
        self.0
            .record(labels, |sum| sum.increment(more.as_secs_f64()));
    }

    /// Takes a sum over that somebody else keeps.
    pub fn set(&self, labels: L, sum: Duration) {
        self.0.record(labels, |gauge| gauge.set(sum.as_secs_f64()));
    }
}

/// Shows a number as it is now.
#[derive(Debug)]
pub struct Gauge<L = ()>(Cells<L, metrics::Gauge>);

impl<L: Labels> Gauge<L> {
    /// Sets the number.
    pub fn set(&self, labels: L, value: f64) {
        self.0.record(labels, |gauge| gauge.set(value));
    }

    /// Adds to the number; less than 0 takes away.
    pub fn add(&self, labels: L, more: f64) {
        self.0.record(labels, |gauge| gauge.increment(more));
    }
}

/// Counts observations by size.
#[derive(Debug)]
pub struct Histogram<L = ()>(Cells<L, metrics::Histogram>);

impl<L: Labels> Histogram<L> {
    /// Counts an observation.
    pub fn observe(&self, labels: L, value: f64) {
        self.0.record(labels, |histogram| histogram.record(value));
    }

    /// Counts an observation that was made `times` times.
    pub fn observe_many(&self, labels: L, value: f64, times: usize) {
        self.0
            .record(labels, |histogram| histogram.record_many(value, times));
    }

    /// Counts a time, in seconds.
    pub fn observe_time(&self, labels: L, time: Duration) {
        self.observe(labels, time.as_secs_f64());
    }
}

/// What the four have in common, but for the calls of the recorder.
macro_rules! family {
    ($name:ident, $cell:ident, $describe:ident, $register:ident) => {
        impl<L: Labels> Make for $name<L> {
            fn make(scope: &Arc<Scope>, entry: &'static Entry) -> Self {
                Self(Cells::new(scope, entry, &metrics::$cell::noop()))
            }
        }

        impl<L: Labels> Family for $name<L> {
            fn entry(&self) -> &'static Entry {
                self.0.entry
            }

            fn kind(&self) -> Kind {
                Kind::$name
            }

            fn describe(&self, each: &mut dyn FnMut(&'static str, Cow<'static, str>)) {
                L::describe(each);
            }

            fn register(&self, recorder: &dyn Recorder) {
                recorder.$describe(self.0.entry.name.into(), None, self.0.meaning());
                self.0.register(|key| recorder.$register(key, &METADATA));
            }
        }
    };
}

family!(Counter, Counter, describe_counter, register_counter);
family!(Seconds, Gauge, describe_gauge, register_gauge);
family!(Gauge, Gauge, describe_gauge, register_gauge);
family!(Histogram, Histogram, describe_histogram, register_histogram);
