//! What the logs of all processes tell of one request.

use std::time::Duration;

use e2e::{Cluster, Setup, post, wait_until};
use serde_json::{Value, json};

use crate::generations::{named, run, with_client};

const LIMIT: Duration = Duration::from_secs(30);

/// What is said of a generation that runs to its end: by the front, by its lead, by the worker.
const LIFE: [&str; 8] = [
    "generation accepted",
    "generation followed",
    "generation runs",
    "generation opened on a rank",
    "sequence opened",
    "generation ended",
    "generation followed no more",
    "sequence closed",
];

/// Runs a request of this name, and another one after it: a rank hears of an end with its next step.
fn serve(format: &str, id: &str) -> Cluster {
    let cluster = Cluster::start(&Setup {
        arguments: vec!["--log-format".into(), format.into()],
        log: Some("debug"),
        ..Setup::mini(1)
    });
    with_client(&cluster, async |mut client| {
        run(&mut client, named(id, 4)).await.unwrap();
        run(&mut client, named("after-it", 2)).await.unwrap();
    });
    cluster
}

/// Waits until each of these is said once in the lines that this search finds.
fn told(cluster: &Cluster, search: impl Fn(&str) -> Option<String>) {
    let mut found = Vec::new();
    wait_until("all processes have told of the request", LIMIT, || {
        found = cluster.log().lines().filter_map(&search).collect();
        found.len() >= LIFE.len()
    });
    for said in LIFE {
        let times = found.iter().filter(|line| line.ends_with(said)).count();
        assert_eq!(times, 1, "{said}: {found:#?}");
    }
}

#[test]
fn a_request_is_followed_through_all_processes_in_text() {
    let cluster = serve("text", "find-me");
    told(&cluster, |line| {
        let found = line.contains(" request_id=\"find-me\"");
        // The fields come after what is said.
        let said = line.split(" request_id=").next()?;
        found.then(|| said.to_owned())
    });
}

#[test]
fn a_request_is_followed_through_all_processes_in_json() {
    let cluster = serve("json", "find-me");
    let mut sequences = Vec::new();
    told(&cluster, |line| {
        let fields = serde_json::from_str::<Value>(line).ok()?["fields"].take();
        let said = fields["message"].as_str()?.to_owned();
        (fields["request_id"] == "find-me").then_some(said)
    });
    for line in cluster.log().lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else {
            continue;
        };
        if line["fields"]["request_id"] == "find-me" {
            sequences.extend(line["fields"]["sequence"].as_u64());
        }
    }
    assert!(sequences.len() > 4, "{sequences:?}");
    assert!(sequences.iter().all(|sequence| *sequence == sequences[0]));

    // By HTTP, one line joins the client's own name to the generation's.
    let answer = post(
        &cluster.url("/v1/completions"),
        &json!({"prompt": "x", "max_tokens": 1}),
    );
    let id = answer.json["id"].as_str().unwrap();
    let log = cluster.log();
    let joined = log.lines().filter(|line| line.contains(id));
    let joined = joined.filter(|line| line.contains("x_request_id")).count();
    assert_eq!(joined, 1, "{log}");
}
