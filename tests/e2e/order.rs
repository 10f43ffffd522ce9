//! Processes may start in any order, and come back.

use std::time::Duration;

use e2e::{Killed, free_address, get, post, wait_until};
use serde_json::json;

const MODEL: &str = "synth:tiny,seed=7";
const LIMIT: Duration = Duration::from_secs(60);

fn start(arguments: &[&str]) -> Killed {
    Killed::start(&[arguments, &["--model", MODEL]].concat())
}

#[test]
fn workers_may_come_first_and_the_coordinator_may_come_back() {
    let [internal, grpc, http] = [free_address(), free_address(), free_address()];
    let worker = |name| {
        start(&[
            "worker", "--store", &internal, "--name", name, "--ranks", "2",
        ])
    };
    let coordinator = || {
        let addresses = ["--internal", &internal, "--grpc", &grpc, "--http", &http];
        start(&[&["coordinator", "--ranks", "4"], &addresses[..]].concat())
    };
    let is_ready = || {
        // Nothing listens until the coordinator does.
        std::net::TcpStream::connect(&http).is_ok()
            && get(&format!("http://{http}/readyz")).status == 200
    };
    let ask = || {
        let body = json!({"prompt": "x", "max_tokens": 24, "temperature": 0, "ignore_eos": true});
        let answer = post(&format!("http://{http}/v1/completions"), &body);
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json["choices"][0]["text"].clone()
    };
    let _first = worker("a");
    let serving = coordinator();
    let _second = worker("b");
    wait_until("the group is complete", LIMIT, is_ready);
    let expected = ask();
    drop(serving);
    let _again = coordinator();
    wait_until(
        "the workers have found the new coordinator",
        LIMIT,
        is_ready,
    );
    assert_eq!(ask(), expected);
}
