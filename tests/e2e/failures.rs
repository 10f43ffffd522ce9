//! Failures of every kind of process and of the network, each under 16 streams: none fails, nothing is
//! lost, nothing comes twice, and every answer is that of the undisturbed run.

use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::{Fleet, Network, Received, generate};
use rustix::process::Signal;

/// Streams at a time.
const STREAMS: usize = 16;

/// Tokens of each.
const TOKENS: u32 = 160;

/// Where `cargo xtask test` says that etcd's program is.
const ETCD: &str = "CONCLAVE_TEST_ETCD";

/// Returns etcd's program, or says why these tests cannot run.
fn etcd() -> Option<PathBuf> {
    let program = std::env::var_os(ETCD).map(PathBuf::from);
    let missing = match &program {
        Some(_) => Network::hindrance(),
        None => Some(format!("{ETCD} is not set")),
    };
    let Some(why) = missing else {
        return program;
    };
    let why = format!("{why}; run 'cargo xtask test --only cluster' as root");
    assert!(std::env::var_os("CI").is_none(), "{why}");
    let mut errors = std::io::stderr();
    writeln!(errors, "SKIPPED failures in a network of hosts: {why}").unwrap();
    None
}

/// What is done to a fleet while it serves.
type Hurt = fn(&mut Fleet);

/// Runs all streams; `hurt` happens once each has had some tokens, on the average.
fn streams(fleet: &mut Fleet, name: &str, hurt: Hurt) -> Vec<Received> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let fronts = Arc::new(fleet.fronts());
    let seen = Arc::new(AtomicUsize::new(0));
    let mut running = Vec::new();
    for index in 0..STREAMS {
        let (fronts, seen) = (Arc::clone(&fronts), Arc::clone(&seen));
        let id = format!("{name}-{index}").replace(' ', "-");
        running.push(runtime.spawn(async move {
            let prompt = format!("story number {index}");
            let count = || {
                seen.fetch_add(1, Ordering::Relaxed);
            };
            generate(&fronts, index, (&id, &prompt, TOKENS), count).await
        }));
    }
    e2e::wait_until("the streams have begun", Duration::from_secs(100), || {
        // What has ended by now has failed, and says so below.
        let is_over = running.iter().any(|stream| stream.is_finished());
        is_over || seen.load(Ordering::Relaxed) >= STREAMS * 20
    });
    hurt(fleet);
    let received = running.into_iter().map(|stream| {
        let received = runtime.block_on(stream).unwrap();
        received.unwrap_or_else(|why| panic!("{why}"))
    });
    received.collect()
}

/// Demands that a failure changes no answer.
fn check(fleet: &mut Fleet, expected: &[Received], name: &str, hurt: Hurt) {
    let received = streams(fleet, name, hurt);
    for (index, (received, expected)) in received.iter().zip(expected).enumerate() {
        assert_eq!(
            received.tokens, expected.tokens,
            "stream {index} after '{name}'"
        );
    }
    let repeated = received
        .iter()
        .map(|received| received.calls - 1)
        .sum::<usize>();
    let mut errors = std::io::stderr();
    writeln!(errors, "{name}: {repeated} calls were repeated").unwrap();
}

#[test]
fn no_failure_costs_a_request() {
    let Some(etcd) = etcd() else { return };
    let mut fleet = Fleet::start(&etcd, 3, 2, &[("0", 3)], 2);
    let expected = streams(&mut fleet, "undisturbed", |_| {});
    assert!(
        expected
            .iter()
            .all(|received| received.tokens.len() == TOKENS as usize)
    );
    let hurts: [(&str, Hurt); 8] = [
        ("a worker is killed", |fleet| {
            fleet.workers[0].kill();
            fleet.workers[0].start();
        }),
        ("a worker is stopped", |fleet| {
            fleet.workers[1].signal(Signal::STOP);
            std::thread::sleep(Duration::from_secs(8));
            fleet.workers[1].signal(Signal::CONT);
        }),
        ("a worker's cable is pulled", |fleet| {
            fleet.workers[0].host().cut();
            std::thread::sleep(Duration::from_secs(8));
            fleet.workers[0].host().mend();
        }),
        ("the lead is killed", |fleet| {
            let lead = fleet.lead_of("0");
            fleet.coordinators[lead].kill();
            fleet.coordinators[lead].start();
        }),
        ("a front is killed", |fleet| {
            let other = 1 - fleet.lead_of("0");
            fleet.coordinators[other].kill();
            fleet.coordinators[other].start();
        }),
        ("the lead's cable is pulled", |fleet| {
            let lead = fleet.lead_of("0");
            fleet.coordinators[lead].host().cut();
            std::thread::sleep(Duration::from_secs(15));
            fleet.coordinators[lead].host().mend();
        }),
        ("etcd is down for a while", |fleet| {
            fleet.stores.iter_mut().for_each(e2e::Node::kill);
            std::thread::sleep(Duration::from_secs(12));
            fleet.stores.iter_mut().for_each(e2e::Node::start);
        }),
        ("all are restarted in turn", |fleet| {
            let Fleet {
                coordinators,
                workers,
                ..
            } = fleet;
            for node in coordinators.iter_mut().chain(workers) {
                assert_eq!(node.end(), Some(0), "{}", node.said());
                node.start();
            }
        }),
    ];
    for (name, hurt) in hurts {
        check(&mut fleet, &expected, name, hurt);
    }
}
