//! What only hosts of their own can show: a name that moves to another address, and a client whose cable
//! is pulled.

use std::time::Duration;

use e2e::{Host, Killed, Network, get, wait_until};

const LIMIT: Duration = Duration::from_secs(60);
const MODEL: [&str; 2] = ["--model", "synth:tiny,seed=7"];

/// How long a client may be gone before its place is free. One that says nothing is asked whether it is
/// there and gone after 50 s; while something is on its way to it that nobody acknowledges, TCP has to give up,
/// after 60 s. The system looks at these limits only when one of its timers fires, each of which may be set for
/// tens of seconds. Without either it takes a quarter of an hour.
const NOTICED: Duration = Duration::from_secs(120);

fn coordinator(host: &Host) -> Killed {
    let at = |port: u16| format!("{}:{port}", host.address);
    let (internal, grpc, http) = (at(7101), at(7100), at(8000));
    let own = ["coordinator", "--ranks", "1", "--internal", &internal];
    let apis = ["--grpc", &grpc, "--http", &http];
    Killed::start_on(host, &[&own[..], &apis, &MODEL].concat())
}

fn worker(host: &Host, store: &str) -> Killed {
    let listen = format!("{}:7200", host.address);
    let own = ["worker", "--store", store, "--listen", &listen];
    Killed::start_on(host, &[&own[..], &MODEL].concat())
}

fn serves(host: &Host) {
    let http = format!("{}:8000", host.address);
    wait_until("the group serves", LIMIT, || {
        // Nothing listens until the coordinator does.
        std::net::TcpStream::connect(&http).is_ok()
            && get(&format!("http://{http}/readyz")).status == 200
    });
}

#[test]
fn a_name_is_looked_up_again_when_its_process_has_moved() {
    if super::etcd().is_none() {
        return;
    }
    let mut network = Network::new();
    let (first, second, its) = (network.host(), network.host(), network.host());
    its.knows("coordinator.test", &first.address);
    let old = coordinator(&first);
    let _worker = worker(&its, "coordinator.test:7101");
    serves(&first);
    its.knows("coordinator.test", &second.address);
    drop(old);
    let _new = coordinator(&second);
    serves(&second);
}

#[test]
fn a_client_whose_cable_is_pulled_frees_its_place() {
    if super::etcd().is_none() {
        return;
    }
    let mut network = Network::new();
    let (host, far) = (network.host(), network.host());
    let served = coordinator(&host);
    let _worker = worker(&host, &format!("{}:7101", host.address));
    serves(&host);
    let server = format!("http://{}:7100", host.address);
    let asked = ["generate", "a story", "--ignore-eos", "--server", &server];
    let _client = Killed::start_on(&far, &asked);
    wait_until("the client is there", LIMIT, || {
        served.connections(7100) == 1
    });
    far.cut();
    let is_free = || served.connections(7100) == 0;
    wait_until("its place is free", NOTICED, is_free);
}
