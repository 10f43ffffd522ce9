//! What dies, and what it costs.

use std::time::Duration;

use e2e::{Cluster, Setup, children_of, get, is_alive, post, post_stream, signal, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

fn request(stream: bool) -> Value {
    json!({
        "prompt": "a story", "max_tokens": 200, "temperature": 0, "ignore_eos": true,
        "stream": stream,
    })
}

/// Streams a long answer and calls `meanwhile` once, after 20 events; returns text and events.
fn stream(cluster: &Cluster, meanwhile: impl FnOnce()) -> (String, usize) {
    let (mut text, mut events, mut meanwhile) = (String::new(), 0, Some(meanwhile));
    let mut is_done = false;
    post_stream(&cluster.url("/v1/completions"), &request(true), |event| {
        if event == "[DONE]" {
            is_done = true;
            return;
        }
        let event: Value = serde_json::from_str(event).unwrap();
        assert!(event.get("error").is_none(), "{event}");
        text.push_str(event["choices"][0]["text"].as_str().unwrap_or_default());
        events += 1;
        if events == 20
            && let Some(meanwhile) = meanwhile.take()
        {
            meanwhile();
        }
    });
    assert!(is_done, "the stream ends with [DONE]");
    (text, events)
}

#[test]
fn a_killed_worker_costs_a_pause_and_nothing_else() {
    let cluster = Cluster::start(&Setup::tiny(3));
    let (expected, _) = stream(&cluster, || {});
    for victim in [1, 0] {
        let before = cluster.workers();
        assert_eq!(before.len(), 3, "{before:?}");
        let kill = || signal(before[victim], Signal::KILL);
        let (text, _) = stream(&cluster, kill);
        assert_eq!(text, expected, "after worker {victim} was killed");
        assert!(
            !cluster.workers().contains(&before[victim]),
            "it was really killed"
        );
    }
    assert_eq!(cluster.end(), Some(0));
}

#[test]
fn a_stopped_worker_is_sent_away_and_may_come_back() {
    let cluster = Cluster::start(&Setup::tiny(2));
    let (expected, _) = stream(&cluster, || {});
    let stopped = cluster.workers()[1];
    std::thread::scope(|scope| {
        let answer = scope.spawn(|| stream(&cluster, || signal(stopped, Signal::STOP)).0);
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
    let cluster = Cluster::start(&Setup::tiny(2));
    let mut children = cluster.workers();
    children.extend(children_of(cluster.id(), "coordinator"));
    assert_eq!(children.len(), 3);
    assert_eq!(cluster.end(), Some(0));
    assert!(!children.into_iter().any(is_alive), "a child is left");
}

#[test]
fn the_children_of_a_killed_up_end_too() {
    let mut cluster = Cluster::start(&Setup::tiny(2));
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
    let mut cluster = Cluster::start(&Setup::tiny(2));
    let limit = Duration::from_secs(30);
    for _ in 0..6 {
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
    assert!(log.contains("worker-1 ended by itself"), "{log}");
}

/// Finds a worker by its `--name`.
fn worker_named(cluster: &Cluster, name: &str) -> Option<u32> {
    let named = children_of(cluster.id(), name);
    named.first().copied()
}

#[test]
fn a_client_that_goes_away_frees_its_place() {
    let arguments = vec!["--max-sequences".into(), "1".into()];
    let cluster = Cluster::start(&Setup {
        arguments,
        ..Setup::tiny(1)
    });
    for _ in 0..3 {
        // The connection is closed while the answer streams.
        let body = request(true).to_string();
        let address = cluster.url("").replace("http://", "");
        let mut socket = std::net::TcpStream::connect(address).unwrap();
        let head = format!(
            "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
             content-length: {}\r\n\r\n",
            body.len()
        );
        std::io::Write::write_all(&mut socket, format!("{head}{body}").as_bytes()).unwrap();
        let mut first = [0; 64];
        std::io::Read::read_exact(&mut socket, &mut first).unwrap();
    }
    let answer = post(&cluster.url("/v1/completions"), &request(false));
    assert_eq!(answer.status, 200, "{}", answer.text);
}
