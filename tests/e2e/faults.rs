//! What dies, and what it costs.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use e2e::{Cluster, Setup, children_of, get, is_alive, post_within, signal, wait_until};
use rustix::process::Signal;

use crate::streams::{greedy, stream};

/// Most tokens of an answer that nobody waits for: minutes of work.
const ENDLESS: usize = 100_000;

/// Longest wait for what takes a second or two; a machine may be busy.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longest that something may take which waits for nothing, and far less than streams are given.
const AT_ONCE: Duration = Duration::from_secs(4);

#[test]
fn a_stopped_worker_is_sent_away_and_may_come_back() {
    let cluster = Cluster::start(&Setup::mini(2));
    let expected = stream(&cluster, &greedy(), 20, || {});
    let stopped = cluster.workers()[1];
    std::thread::scope(|scope| {
        let answer =
            scope.spawn(|| stream(&cluster, &greedy(), 20, || signal(stopped, Signal::STOP)));
        let url = cluster.url("/readyz");
        wait_until("the group is incomplete", Duration::from_secs(30), || {
            get(&url).status == 503
        });
        signal(stopped, Signal::CONT);
        assert_eq!(answer.join().unwrap(), expected);
    });
}

#[test]
fn ctrl_c_ends_every_child_and_the_exit_code_is_zero() {
    let cluster = Cluster::start(&Setup::mini(2));
    let mut children = cluster.workers();
    children.extend(children_of(cluster.id(), "coordinator"));
    assert_eq!(children.len(), 3);
    assert_eq!(cluster.end(), Some(0));
    assert!(!children.into_iter().any(is_alive), "a child is left");
}

#[test]
fn the_children_of_a_killed_up_end_too() {
    let mut cluster = Cluster::start(&Setup::mini(2));
    let mut children = cluster.workers();
    children.extend(children_of(cluster.id(), "coordinator"));
    signal(cluster.id(), Signal::KILL);
    cluster.wait_end();
    wait_until("the children end", Duration::from_secs(30), || {
        !children.iter().copied().any(is_alive)
    });
}

#[test]
fn a_worker_that_cannot_live_is_named() {
    let mut cluster = Cluster::start(&Setup::mini(2));
    let limit = Duration::from_secs(30);
    for _ in 0..5 {
        let mut found = None;
        wait_until("the worker is there", limit, || {
            found = worker_named(&cluster, "worker-1");
            found.is_some()
        });
        signal(found.unwrap(), Signal::KILL);
        wait_until("it is gone", limit, || !is_alive(found.unwrap()));
    }
    assert_eq!(cluster.wait_end(), Some(1));
    let log = cluster.log();
    assert!(
        log.contains("worker-1 ended by itself") && log.contains("for the 5th time"),
        "{log}"
    );
}

/// Finds a worker by its `--name`.
fn worker_named(cluster: &Cluster, name: &str) -> Option<u32> {
    let named = children_of(cluster.id(), name);
    named.first().copied()
}

/// A cluster in which one sequence runs at a time, and may run for minutes.
fn cluster_of_one_place() -> Cluster {
    Cluster::start(&Setup {
        kv_memory: "256MiB",
        arguments: vec!["--max-sequences".into(), "1".into()],
        ..Setup::mini(1)
    })
}

/// Asks for an endless stream and reads its beginning; it goes on while the socket is open.
fn endless_stream(cluster: &Cluster) -> TcpStream {
    let mut body = greedy();
    body["max_tokens"] = ENDLESS.into();
    body["stream"] = true.into();
    let body = body.to_string();
    let address = cluster.url("").replace("http://", "");
    let mut socket = TcpStream::connect(address).unwrap();
    let head = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    socket
        .write_all(format!("{head}{body}").as_bytes())
        .unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut first = [0; 15];
    socket.read_exact(&mut first).unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    // An event, so that it runs and does not merely wait.
    let mut lines = BufReader::new(&socket).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.starts_with("data: ")));
    socket
}

#[test]
fn a_client_that_goes_away_frees_its_place() {
    let cluster = cluster_of_one_place();
    for _ in 0..3 {
        drop(endless_stream(&cluster));
    }
    let url = cluster.url("/v1/completions");
    let answer = post_within(&url, &greedy(), PATIENCE);
    assert_eq!(answer.status, 200, "{}", answer.text);
}

#[test]
fn a_second_ctrl_c_ends_everything_at_once() {
    let mut cluster = cluster_of_one_place();
    let mut children = cluster.workers();
    children.extend(children_of(cluster.id(), "coordinator"));
    assert_eq!(children.len(), 2);
    // Open for longer than the coordinator waits for it, which is ten seconds.
    let stream = endless_stream(&cluster);
    signal(cluster.id(), Signal::INT);
    wait_until("the first is noticed", PATIENCE, || {
        cluster.log().contains("ending ...")
    });
    assert!(is_alive(cluster.id()), "it waits for the stream");
    let start = Instant::now();
    signal(cluster.id(), Signal::INT);
    assert_eq!(cluster.wait_end(), Some(130));
    assert!(start.elapsed() < AT_ONCE, "{:?}", start.elapsed());
    wait_until("the children end", PATIENCE, || {
        !children.iter().copied().any(is_alive)
    });
    drop(stream);
}
