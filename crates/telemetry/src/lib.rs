//! What operators see of a process: its metrics, and the listener that shows them.
//!
//! [`table`] lists every metric there is: name, type, unit, closed label sets, buckets, meaning. The
//! fields that code counts with, `conclave --dump-metrics` ([`dump`]) and `docs/metrics.md` ([`page`])
//! are made of that one list, so a metric or a label value that is not in it cannot be written down.
//! All series exist from the start, at 0: rates and `absent()` work before the first event. A process
//! holds its [`Telemetry`], sets [`Vitals`] as it starts and serves, and lets [`admin`] show both.
//!
//! Metrics are recorded through the `metrics` crate, in a recorder of this process's own: nothing is
//! global.

pub mod admin;
pub mod labels;
pub mod table;

mod catalogue;
mod label;
mod process;
mod runtime;
mod scope;
mod series;
mod store;
mod telemetry;
mod text;
mod vitals;

pub use catalogue::{dump, page};
pub use label::{Label, Labels};
pub use scope::About;
pub use series::{Counter, Gauge, Histogram, Seconds};
pub use store::StoreEvent;
pub use telemetry::{CoordinatorTelemetry, Telemetry, WorkerTelemetry};
pub use vitals::{Phase, Pulse, StartupState, Vitals};
