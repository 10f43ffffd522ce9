//! Series as atomic numbers, one for each combination of labels, all there from the start.
//!
//! Recording never blocks, allocates or fails. An observation is a few relaxed additions; a scrape
//! that comes in between may see it in one of the numbers and not yet in the other, as it would had it
//! come a moment earlier.

use std::borrow::Cow;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::label::{Labels, ScopeRef};
use crate::scope::Scope;
use crate::text::{Line, Text, number};

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

    /// `counter`, `gauge` or `histogram`.
    fn kind(&self) -> &'static str;

    /// Tells the name and the values in words of each label.
    fn describe(&self, each: &mut dyn FnMut(&'static str, Cow<'static, str>));

    /// Writes all series.
    fn write(&self, text: &mut Text<'_>);

    /// Sets the series of a seat to 0.
    fn clear_seat(&self, seat: usize);
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
    cells: Box<[T]>,
    labels: PhantomData<fn(L)>,
}

impl<L: Labels, T> Cells<L, T> {
    fn new(scope: &Arc<Scope>, entry: &'static Entry, cell: impl Fn() -> T) -> Self {
        let count = L::count(&ScopeRef(scope));
        Self {
            scope: Arc::clone(scope),
            entry,
            cells: (0..count).map(|_| cell()).collect(),
            labels: PhantomData,
        }
    }

    /// Returns the cell of a combination. A group or rank that the configuration does not know has
    /// none: that is a mistake of ours, and not worth a panic where it is only counted.
    fn of(&self, labels: L) -> Option<&T> {
        let cell = self.cells.get(labels.index(&ScopeRef(&self.scope)));
        debug_assert!(cell.is_some(), "{} has no such series", self.entry.name);
        cell
    }

    fn each(&self, text: &mut Text<'_>, mut write: impl FnMut(&T, &mut Line<'_, '_>)) {
        for (index, cell) in self.cells.iter().enumerate() {
            let mut line = text.line(self.entry.name);
            let stands = L::texts(&ScopeRef(&self.scope), index, &mut |name, value| {
                line.label(name, value);
            });
            if stands {
                write(cell, &mut line);
            }
        }
    }

    fn of_seat(&self, seat: usize) -> impl Iterator<Item = &T> {
        let scope = &self.scope;
        let cells = self.cells.iter().enumerate();
        cells
            .filter(move |(index, _)| L::is_of_seat(&ScopeRef(scope), *index, seat))
            .map(|(_, cell)| cell)
    }
}

/// Counts events; never goes down.
#[derive(Debug)]
pub struct Counter<L = ()>(Cells<L, AtomicU64>);

impl<L: Labels> Counter<L> {
    /// Counts `more` events.
    pub fn add(&self, labels: L, more: u64) {
        if let Some(cell) = self.0.of(labels) {
            cell.fetch_add(more, Ordering::Relaxed);
        }
    }
}

/// Adds time up; never goes down. Shown in seconds.
#[derive(Debug)]
pub struct Seconds<L = ()>(Cells<L, AtomicU64>);

impl<L: Labels> Seconds<L> {
    /// Adds a time.
    pub fn add(&self, labels: L, more: Duration) {
        if let Some(cell) = self.0.of(labels) {
            cell.fetch_add(nanoseconds(more), Ordering::Relaxed);
        }
    }

    /// Takes a sum over that somebody else keeps.
    pub fn set(&self, labels: L, sum: Duration) {
        if let Some(cell) = self.0.of(labels) {
            cell.store(nanoseconds(sum), Ordering::Relaxed);
        }
    }
}

fn nanoseconds(time: Duration) -> u64 {
    // More than five hundred years.
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Shows a number as it is now.
#[derive(Debug)]
pub struct Gauge<L = ()>(Cells<L, AtomicU64>);

impl<L: Labels> Gauge<L> {
    /// Sets the number.
    pub fn set(&self, labels: L, value: f64) {
        if let Some(cell) = self.0.of(labels) {
            cell.store(value.to_bits(), Ordering::Relaxed);
        }
    }

    /// Adds to the number; less than 0 takes away.
    pub fn add(&self, labels: L, more: f64) {
        if let Some(cell) = self.0.of(labels) {
            add_bits(cell, more);
        }
    }
}

/// Adds to an `f64` that is kept as its bits.
fn add_bits(cell: &AtomicU64, more: f64) {
    let add = |bits| Some((f64::from_bits(bits) + more).to_bits());
    // The function never declines, so there is no error.
    _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
}

impl Spread {
    /// Writes buckets, each with those below it, then sum and count.
    fn write(&self, line: &mut Line<'_, '_>) {
        let mut count = 0;
        for (bucket, bound) in self.counts.iter().zip(self.bounds) {
            count += bucket.load(Ordering::Relaxed);
            line.bucket(&number(*bound), count);
        }
        count += self.counts[self.bounds.len()].load(Ordering::Relaxed);
        line.bucket("+Inf", count);
        let sum = f64::from_bits(self.sum.load(Ordering::Relaxed));
        line.end("_sum", &number(sum));
        line.end("_count", &count.to_string());
    }

    fn clear(&self) {
        let all = self.counts.iter().chain([&self.sum]);
        all.for_each(|number| number.store(0, Ordering::Relaxed));
    }
}

/// Counts observations by size.
#[derive(Debug)]
pub struct Histogram<L = ()>(Cells<L, Spread>);

/// One series of a histogram.
#[derive(Debug)]
struct Spread {
    /// Upper bounds of all buckets but the last.
    bounds: &'static [f64],
    /// Observations of each bucket alone; the last is above all bounds.
    counts: Box<[AtomicU64]>,
    /// The bits of an `f64`.
    sum: AtomicU64,
}

impl<L: Labels> Histogram<L> {
    /// Counts an observation.
    pub fn observe(&self, labels: L, value: f64) {
        self.observe_many(labels, value, 1);
    }

    /// Counts an observation that was made `times` times.
    pub fn observe_many(&self, labels: L, value: f64, times: u64) {
        if let Some(spread) = self.0.of(labels) {
            let bucket = spread.bounds.partition_point(|bound| *bound < value);
            spread.counts[bucket].fetch_add(times, Ordering::Relaxed);
            add_bits(&spread.sum, value * times as f64);
        }
    }

    /// Counts a time, in seconds.
    pub fn observe_time(&self, labels: L, time: Duration) {
        self.observe(labels, time.as_secs_f64());
    }
}

impl<L: Labels> Make for Counter<L> {
    fn make(scope: &Arc<Scope>, entry: &'static Entry) -> Self {
        Self(Cells::new(scope, entry, AtomicU64::default))
    }
}

impl<L: Labels> Make for Seconds<L> {
    fn make(scope: &Arc<Scope>, entry: &'static Entry) -> Self {
        Self(Cells::new(scope, entry, AtomicU64::default))
    }
}

impl<L: Labels> Make for Gauge<L> {
    fn make(scope: &Arc<Scope>, entry: &'static Entry) -> Self {
        Self(Cells::new(scope, entry, AtomicU64::default))
    }
}

impl<L: Labels> Make for Histogram<L> {
    fn make(scope: &Arc<Scope>, entry: &'static Entry) -> Self {
        let spread = || Spread {
            bounds: entry.buckets,
            counts: (0..=entry.buckets.len())
                .map(|_| AtomicU64::default())
                .collect(),
            sum: AtomicU64::default(),
        };
        Self(Cells::new(scope, entry, spread))
    }
}

/// What the families of one cell have in common.
macro_rules! family {
    ($name:ident, $kind:literal, |$cell:ident, $line:ident| $write:expr, |$clear:ident| $zero:expr) => {
        impl<L: Labels> Family for $name<L> {
            fn entry(&self) -> &'static Entry {
                self.0.entry
            }

            fn kind(&self) -> &'static str {
                $kind
            }

            fn describe(&self, each: &mut dyn FnMut(&'static str, Cow<'static, str>)) {
                L::describe(each);
            }

            fn write(&self, text: &mut Text<'_>) {
                self.0.each(text, |$cell, $line| $write);
            }

            fn clear_seat(&self, seat: usize) {
                self.0.of_seat(seat).for_each(|$clear| $zero);
            }
        }
    };
}

family!(
    Counter,
    "counter",
    |cell, line| line.end("", &cell.load(Ordering::Relaxed).to_string()),
    |cell| cell.store(0, Ordering::Relaxed)
);
family!(
    Seconds,
    "counter",
    |cell, line| {
        let sum = Duration::from_nanos(cell.load(Ordering::Relaxed));
        line.end("", &number(sum.as_secs_f64()));
    },
    |cell| cell.store(0, Ordering::Relaxed)
);
family!(
    Gauge,
    "gauge",
    |cell, line| line.end("", &number(f64::from_bits(cell.load(Ordering::Relaxed)))),
    |cell| cell.store(0, Ordering::Relaxed)
);
family!(
    Histogram,
    "histogram",
    |spread, line| spread.write(line),
    |spread| spread.clear()
);
