//! How long the two exchanges of a layer take between two processes on this machine, one row on
//! each rank, at the width and top-k of gpt-oss: what a decode step pays for each layer.
#![expect(clippy::print_stdout, reason = "the report of a benchmark")]

use std::thread;
use std::time::{Duration, Instant};

use exchange::{Exchange, HostExchange, Moment, Transport, local_group};
use exchange_grpc::{Hub, Peer, server};
use kernels::Dispatch;
use sockets::{Dialer, Listener};
use spec::{Fence, Rank, StepNumber};
use tokio::runtime::{Builder, Runtime};

/// The allocator of the `conclave` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const HIDDEN: usize = 2880;
const EXPERTS: u32 = 128;
const K: usize = 4;
const WARM_UP: u64 = 200;
const ROUNDS: u64 = 3000;

fn main() {
    for rows in [1, 16] {
        report("threads of one process", rows, local_group(2));
        for (name, has_door) in [("two hubs, TCP", false), ("two hubs, Unix sockets", true)] {
            let hubs = [process(has_door), process(has_door)];
            let [first, second] = [(0, 1), (1, 0)].map(|(own, other): (usize, usize)| {
                let ranks = vec![Rank(other as u32)];
                let peers = vec![Peer {
                    address: hubs[other].2.clone(),
                    ranks,
                }];
                let mut exchanges = hubs[own]
                    .1
                    .enter(Fence::default(), &[Rank(own as u32)], peers);
                exchanges
                    .as_mut()
                    .expect("two ranks fit together")
                    .remove(0)
            });
            report(name, rows, vec![first, second]);
        }
    }
}

fn process(has_door: bool) -> (Runtime, Hub, String) {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let runtime = runtime.expect("a runtime starts");
    let listener = runtime
        .block_on(Listener::bind("127.0.0.1:0"))
        .expect("a free port");
    let address = listener.local_addr().to_string();
    let hub = {
        let _inside = runtime.enter();
        Hub::new(Dialer::default(), "0")
    };
    if has_door {
        hub.open_door(&address).expect("nobody else has this door");
    }
    runtime.spawn(
        server()
            .add_service(hub.service())
            .serve_with_incoming(listener),
    );
    (runtime, hub, address)
}

fn report<T: Transport + 'static>(name: &str, rows: usize, group: Vec<HostExchange<T>>) {
    let threads: Vec<_> = group
        .into_iter()
        .map(|exchange| thread::spawn(move || run(exchange, rows)))
        .collect();
    let times: Vec<_> = threads
        .into_iter()
        .map(|t| t.join().expect("no rank fails"))
        .collect();
    let [dispatches, combines] = &times[0];
    let row = |times: &[Duration], per_mille: usize| times[times.len() * per_mille / 1000];
    for (phase, times) in [("dispatch", dispatches), ("combine", combines)] {
        println!(
            "{name}, {rows} rows a rank, {phase}: median {:?}, p90 {:?}, p99 {:?}",
            row(times, 500),
            row(times, 900),
            row(times, 990)
        );
    }
}

/// Returns the times of the two phases, ascending.
fn run<T: Transport>(mut exchange: HostExchange<T>, num_rows: usize) -> [Vec<Duration>; 2] {
    let own = exchange.rank().0;
    let rows = vec![1.0; num_rows * HIDDEN];
    let experts: Vec<u32> = (0..(num_rows * K) as u32)
        .map(|place| (place * 37 + own) % EXPERTS)
        .collect();
    let owners: Vec<Rank> = (0..EXPERTS).map(|expert| Rank(expert % 2)).collect();
    let mut times = [Vec::new(), Vec::new()];
    for step in 1..=WARM_UP + ROUNDS {
        let moment = Moment {
            fence: Fence::default(),
            step: StepNumber(step),
            layer: 0,
        };
        let (k, hidden) = (K, HIDDEN);
        let (rows, experts, owners) = (&rows, &experts, &owners);
        let began = Instant::now();
        let received = exchange.dispatch(Dispatch {
            moment,
            hidden,
            k,
            rows,
            experts,
            owners,
        });
        let received = received.expect("the other rank is there");
        let dispatched = Instant::now();
        let outputs: Vec<f32> = received
            .work
            .iter()
            .flat_map(|work| &received.rows[work.row as usize * HIDDEN..][..HIDDEN])
            .copied()
            .collect();
        let combining = Instant::now();
        exchange
            .combine(&received, &outputs)
            .expect("the other rank is there");
        if step > WARM_UP {
            times[0].push(dispatched - began);
            times[1].push(combining.elapsed());
        }
    }
    times.each_mut().map(|times| {
        times.sort();
        std::mem::take(times)
    })
}
