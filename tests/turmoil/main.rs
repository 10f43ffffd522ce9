//! The real services on a simulated network: twenty seeded schedules of crashes, partitions, held and
//! lost messages, in simulated time. No request fails, nothing is lost, nothing comes twice, and in the
//! end all is well.
//!
//! A seed decides what goes wrong and when, and what the network draws; the ranks' threads are real
//! ones, so that a run of the same seed may differ in some milliseconds.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod hosts;
mod network;
mod pace;
mod run;
mod schedule;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use e2e::Received;

/// The seeds of all runs.
const SEEDS: [u64; 20] = [
    1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20,
];

/// Names one seed, which is then run alone, and is shown what all processes say.
const SEED: &str = "CONCLAVE_TEST_SEED";

/// Runs at a time; each is one thread, and those of its ranks.
const AT_A_TIME: usize = 2;

#[test]
fn no_schedule_of_failures_costs_a_request() {
    let expected = run::undisturbed();
    if let Some(seed) = one_seed() {
        show_logs();
        let outcome = run::seeded(seed, &expected);
        return outcome.unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(seed) = SEEDS.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(why) = attempt(*seed, &expected) {
                        failed.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

/// Returns the seed that is to run alone. A range is meant for the simulation of the control plane, whose
/// seeds take milliseconds: the seeds of this test are run as without it.
fn one_seed() -> Option<u64> {
    let given = variable(SEED)?;
    let seed = given.parse::<u64>();
    if seed.is_err() {
        say(&format!(
            "{SEED} is {given:?}: this test runs one seed alone, as {SEED}=7; now it runs its own {}",
            SEEDS.len()
        ));
    }
    seed.ok()
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name)?.into_string().ok()
}

/// Runs one seed; says how to run it again if it fails.
fn attempt(seed: u64, expected: &[Received]) -> Result<(), String> {
    let outcome = catch_unwind(AssertUnwindSafe(|| run::seeded(seed, expected)));
    let outcome = outcome.unwrap_or_else(|_| Err("it panicked, see above".into()));
    outcome.map_err(|why| {
        format!(
            "seed {seed}: {why}\nrun it again: {SEED}={seed} cargo test -p e2e --test turmoil -- \
             --nocapture"
        )
    })
}

/// Shows what processes say, and on which host.
fn show_logs() {
    let filter = variable("CONCLAVE_LOG").unwrap_or_else(|| "info,turmoil=warn".into());
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(filter))
        .with_writer(std::io::stderr)
        .init();
}

/// Says how a run went, also where the test's own output is captured.
pub(crate) fn say(line: &str) {
    let mut errors = std::io::stderr();
    writeln!(errors, "{line}").unwrap();
}
