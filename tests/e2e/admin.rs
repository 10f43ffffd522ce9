//! `conclave admin` before real processes: what it shows, and what it changes.

use std::process::Command;
use std::time::Duration;

use e2e::{Killed, binary, free_address, get, post, post_stream, wait_until};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(60);
const MODEL: [&str; 2] = ["--model", "synth:tiny,seed=7"];

/// Runs an admin command; returns whether it went well, and what it printed.
fn admin(store: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(binary())
        .args(["admin", "--store", store])
        .args(arguments)
        .output()
        .unwrap();
    let printed = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(printed).unwrap())
}

/// Runs one that must go well; returns its document.
fn document(store: &str, arguments: &[&str]) -> Value {
    let (is_well, said) = admin(store, &[&["--json"], arguments].concat());
    assert!(is_well, "{said}");
    serde_json::from_str(&said).unwrap()
}

fn coordinator(name: &str, store: &str, internal: &str, http: &str) -> Killed {
    let own = [
        "coordinator",
        "--ranks",
        "2",
        "--name",
        name,
        "--store",
        store,
    ];
    let at = [
        "--internal",
        internal,
        "--grpc",
        "127.0.0.1:0",
        "--http",
        http,
    ];
    Killed::start(&[&own[..], &at, &MODEL].concat())
}

fn worker(name: &str, store: &str) -> Killed {
    Killed::start(&[&["worker", "--store", store, "--name", name], &MODEL[..]].concat())
}

#[test]
fn an_operator_sees_a_cluster_and_changes_it_while_it_serves() {
    let [store, second, http, other] = [
        free_address(),
        free_address(),
        free_address(),
        free_address(),
    ];
    let _c0 = coordinator("c0", "memory", &store, &http);
    let (_a, _b) = (worker("a", &store), worker("b", &store));
    let serves = || {
        // Nothing listens until the coordinator does.
        std::net::TcpStream::connect(&http).is_ok()
            && get(&format!("http://{http}/readyz")).status == 200
    };
    wait_until("the group serves", LIMIT, serves);
    let _c1 = coordinator("c1", &store, &second, &other);
    let spare = worker("c", &store);
    let is_registered = || {
        let members = document(&store, &["members"]);
        let is_spare = |its: &Value| its["name"] == "c" && its["state"] == "spare";
        let workers = members["workers"].as_array().unwrap();
        workers.iter().any(is_spare) && members["coordinators"].as_array().unwrap().len() == 2
    };
    wait_until("the spare is registered", LIMIT, is_registered);

    let url = format!("http://{http}/v1/completions");
    let body = |stream: bool| {
        json!({
            "prompt": "x", "max_tokens": 2000, "temperature": 0, "ignore_eos": true,
            "stream": stream,
        })
    };
    reached_where_it_says(&store, &http);
    let expected = post(&url, &body(false)).json["choices"][0]["text"].clone();
    let (mut text, mut looked) = (String::new(), false);
    post_stream(&url, &body(true), |chunk| {
        let chunk: Value = serde_json::from_str(chunk).unwrap_or_default();
        text += chunk["choices"][0]["text"].as_str().unwrap_or_default();
        if !std::mem::replace(&mut looked, true) {
            look_and_change(&store);
        }
    });
    assert_eq!(expected, text);
    assert_eq!(spare.ended(), Some(0));
    let groups = document(&store, &["groups"]);
    assert_eq!(groups["groups"][0]["lead"], "c1", "{groups}");
}

/// Another front, and everybody's probes, are where the members' records say.
fn reached_where_it_says(store: &str, http: &str) {
    let members = document(store, &["members"]);
    let text = |its: &Value, key: &str| its[key].as_str().unwrap().to_owned();
    let coordinators = members["coordinators"].as_array().unwrap();
    let c0 = coordinators.iter().find(|its| its["name"] == "c0").unwrap();
    assert_eq!(text(c0, "http"), format!("http://{http}"), "{members}");
    for coordinator in coordinators {
        let ready = get(&format!("{}/livez", text(coordinator, "http")));
        assert_eq!(ready.status, 200, "{members}");
        let grpc = text(coordinator, "grpc");
        let grpc = grpc.strip_prefix("http://").unwrap();
        assert!(std::net::TcpStream::connect(grpc).is_ok(), "{members}");
    }
    for process in coordinators
        .iter()
        .chain(members["workers"].as_array().unwrap())
    {
        let metrics = get(&format!("{}/metrics", text(process, "admin")));
        assert!(metrics.text.contains("conclave_build_info"), "{members}");
    }
}

/// Looks at everything, ends the spare, and moves the lead.
fn look_and_change(store: &str) {
    let groups = document(store, &["groups"]);
    let group = &groups["groups"][0];
    assert_eq!(
        (&group["lead"], &group["term"]),
        (&json!("c0"), &json!(1)),
        "{groups}"
    );
    assert_eq!(
        (&group["serving"], &group["running"]),
        (&json!(true), &json!(1))
    );
    for (command, words) in [
        ("members", ["WORKER", "ADMIN", "COORDINATOR"]),
        ("groups", ["GROUP", "serving", "2/2"]),
        ("placement", ["EXPERTS", "0-3", "4-7"]),
        ("experts", ["MOST ROWS", "MAX/MEAN", "counted over"]),
        ("sequences", ["REQUEST", "running", "default"]),
    ] {
        let (is_well, said) = admin(store, &[command]);
        assert!(
            is_well && words.iter().all(|word| said.contains(word)),
            "{command}: {said}"
        );
    }
    let (is_well, said) = admin(store, &["drain", "nobody"]);
    assert!(
        !is_well
            && said
                .contains("no worker or coordinator is named 'nobody'; there are: a, b, c, c0, c1"),
        "{said}"
    );
    let (is_well, said) = admin(store, &["--cluster", "other", "groups"]);
    assert!(
        !is_well && said.contains("no cluster is named 'other'"),
        "{said}"
    );
    let (is_well, said) = admin(store, &["drain", "c"]);
    assert!(
        is_well && said.contains("worker 'c' of group '0' has ended"),
        "{said}"
    );
    let (is_well, said) = admin(store, &["move-lead", "0", "--to", "c1"]);
    assert!(
        is_well && said.contains("coordinator 'c1' leads group '0' now, in term 2"),
        "{said}"
    );
}

#[test]
fn an_operator_ends_coordinators_and_the_last_one_too() {
    let [store, second] = [free_address(), free_address()];
    let [http, other] = [free_address(), free_address()];
    let first = coordinator("c0", "memory", &store, &http);
    let (_a, _b) = (worker("a", &store), worker("b", &store));
    let serves = |http: &str| {
        // Nothing listens until the coordinator does.
        std::net::TcpStream::connect(http).is_ok()
            && get(&format!("http://{http}/readyz")).status == 200
    };
    wait_until("the group serves", LIMIT, || serves(&http));
    let next = coordinator("c1", &store, &second, &other);
    wait_until("the other one serves, too", LIMIT, || serves(&other));
    let (is_well, said) = admin(&store, &["move-lead", "0", "--to", "c1"]);
    assert!(is_well, "{said}");

    let url = format!("http://{http}/v1/completions");
    let body = json!({
        "prompt": "x", "max_tokens": 2000, "temperature": 0, "ignore_eos": true, "stream": true,
    });
    let mut has_ordered = false;
    post_stream(&url, &body, |_| {
        if !std::mem::replace(&mut has_ordered, true) {
            let (is_well, said) = admin(&store, &["drain", "c1"]);
            let words = "coordinator 'c1' has ended";
            assert!(is_well && said.contains(words), "{said}");
            wait_until("the other one leads", LIMIT, || {
                document(&store, &["groups"])["groups"][0]["lead"] == "c0"
            });
        }
    });
    assert_eq!(next.ended(), Some(0));
    let (is_well, said) = admin(&store, &["drain", "c1"]);
    let words = "no worker or coordinator is named 'c1'";
    assert!(!is_well && said.contains(words), "{said}");
    // It takes the store with it.
    let (is_well, said) = admin(&store, &["drain", "c0"]);
    let words = "coordinator 'c0' has ended";
    assert!(is_well && said.contains(words), "{said}");
    assert_eq!(first.ended(), Some(0));
}
