//! A process's telemetry as scrapes and probes see it.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod admin;
mod exposition;
mod page;
mod series;

use telemetry::{About, CoordinatorTelemetry, Telemetry, WorkerTelemetry};

fn about() -> About {
    About {
        version: "1.2.3".into(),
        model: "tiny".into(),
    }
}

/// A worker that has been given its ranks.
fn worker(ranks: u32) -> WorkerTelemetry {
    let telemetry = Telemetry::worker(about(), "blue", ranks as usize);
    telemetry.seat(0..ranks);
    telemetry
}

fn coordinator(groups: &[&str], ranks: usize) -> CoordinatorTelemetry {
    let groups = groups.iter().map(|group| (*group).to_owned()).collect();
    Telemetry::coordinator(about(), groups, ranks)
}
