//! Bad input gets an error that names what and where, and the cluster lives on.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{Cluster, Killed, Setup, binary, free_address, get, post, wait_until};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Longest that a command with a fault may run.
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn every_bad_field_is_named_and_the_cluster_lives_on() {
    let cluster = Cluster::start(&Setup::mini(2));
    let url = cluster.url("/v1/completions");
    let cases: [(Value, &str); 10] = [
        (json!({"prompt": ""}), "prompt"),
        (json!({"max_tokens": 4}), "prompt"),
        (json!({"prompt": [4_000_000_000_u32]}), "prompt"),
        (json!({"prompt": [1, -1]}), "prompt"),
        (json!({"prompt": vec![5; 200_000]}), "prompt"),
        (json!({"prompt": "x", "temperature": -1}), "temperature"),
        (json!({"prompt": "x", "top_p": 0}), "top_p"),
        (json!({"prompt": "x", "logprobs": 21}), "logprobs"),
        (json!({"prompt": "x", "max_tokens": -3}), "max_tokens"),
        (
            json!({"prompt": "x", "logit_bias": {"99999999": 1}}),
            "logit_bias",
        ),
    ];
    for (body, field) in cases {
        let answer = post(&url, &body);
        let shown = body.to_string();
        let shown = &shown[..shown.len().min(80)];
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text);
        let message = answer.json["error"]["message"].as_str().unwrap_or_default();
        assert!(message.contains(field), "{shown}: {message}");
    }
    let answer = post(&url, &json!({"prompt": "x", "model": "gpt-9"}));
    assert_eq!(answer.status, 404, "{}", answer.text);
    assert_eq!(get(&cluster.url("/nowhere")).status, 404);
    let answer = post(&url, &json!({"prompt": "x", "max_tokens": 3}));
    assert_eq!(answer.status, 200, "{}", answer.text);
}

/// Runs the binary to its end and returns its exit code and standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let mut process = Command::new(binary())
        .env("CONCLAVE_ADMIN", "127.0.0.1:0")
        .env("CONCLAVE_LISTEN", "127.0.0.1:0")
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let start = Instant::now();
    let ended = loop {
        match process.try_wait().unwrap() {
            Some(_) => break true,
            None if start.elapsed() > LIMIT => break false,
            None => std::thread::park_timeout(Duration::from_millis(20)),
        }
    };
    if !ended {
        process.kill().unwrap();
    }
    let output = process.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(ended, "{arguments:?} goes on after {LIMIT:?}: {said}");
    (output.status.code(), said)
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, said) = run(&["up", "--model", "synth:tiny", "--grpc", &address]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&address) && said.contains("--grpc"), "{said}");
}

#[test]
fn what_every_worker_would_refuse_is_told_at_the_start() {
    let cases = [
        (
            ["--ranks", "2", "--max-step-rows", "2000"],
            "--max-step-rows 2000",
            // The model's shape is known once it is open.
            1,
        ),
        (
            ["--ranks", "2000", "--max-step-rows", "128"],
            "--ranks 2000",
            2,
        ),
    ];
    for (wrong, named, status) in cases {
        let [grpc, http, internal] = [free_address(), free_address(), free_address()];
        let mut arguments = vec!["coordinator", "--model", "synth:20b,layers=2,vocab=4096"];
        arguments.extend(["--grpc", &grpc, "--http", &http, "--internal", &internal]);
        arguments.extend(wrong);
        let (code, said) = run(&arguments);
        assert_eq!(code, Some(status), "{said}");
        assert!(said.contains(named), "{said}");
    }
}

#[test]
fn cores_that_cannot_be_had_are_named() {
    let decode = |cores| ["bench", "decode", "--model", "synth:tiny", "--cores", cores];
    let cases = [
        (&decode("0-x")[..], 2, "'0-x' is no core"),
        (&decode("3-1"), 2, "'3-1' is no core"),
        (&decode("0,0"), 2, "core 0 is named twice"),
        (&decode("1023"), 1, "may not use core 1023, only "),
        (
            &["up", "--cores", "0", "--threads-per-worker", "1"],
            2,
            "--threads-per-worker",
        ),
    ];
    for (arguments, status, named) in cases {
        let (code, said) = run(arguments);
        assert_eq!(code, Some(status), "{said}");
        assert!(said.contains(named), "{said}");
    }
    let [grpc, http] = [free_address(), free_address()];
    let up = [
        "up",
        "--model",
        "synth:tiny",
        "--grpc",
        &grpc,
        "--http",
        &http,
    ];
    let (code, said) = run(&[&up[..], &["--cores", "0", "--workers", "2"]].concat());
    assert_eq!(code, Some(2), "{said}");
    let named = "--cores 0: not as many for each of 2 workers";
    assert!(said.contains(named), "{said}");
}

#[test]
fn a_model_that_is_not_there_is_named() {
    let [grpc, http] = [free_address(), free_address()];
    let arguments = [
        "up",
        "--model",
        "/no/such/model",
        "--grpc",
        &grpc,
        "--http",
        &http,
    ];
    let (code, said) = run(&arguments);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("/no/such/model"), "{said}");
}

#[test]
fn a_worker_with_another_model_is_refused_and_told_why() {
    let internal = free_address();
    let _coordinator = Killed::start(&[
        "coordinator",
        "--model",
        "synth:tiny,seed=1",
        "--ranks",
        "1",
        "--internal",
        &internal,
        "--grpc",
        "127.0.0.1:0",
        "--http",
        "127.0.0.1:0",
    ]);
    let (code, said) = run(&[
        "worker",
        "--model",
        "synth:tiny,seed=2",
        "--store",
        &internal,
        "--name",
        "other",
    ]);
    assert_eq!(code, Some(1), "{said}");
    // The refusal's own words: a worker names its model at its start, too.
    for words in ["'other' has model", "this group has", "the same model"] {
        assert!(said.contains(words), "not '{words}': {said}");
    }
}

#[test]
fn a_worker_that_computes_otherwise_is_refused_and_told_why() {
    let internal = free_address();
    let model = ["--model", "synth:tiny,seed=1"];
    let first = [&["--ranks", "1"][..], &model].concat();
    let _first = first_coordinator(&internal, &first);
    let worker = ["worker", "--store", &internal, "--name", "w"];
    let (code, said) = run(&[&worker[..], &model, &["--numerics", "exact"]].concat());
    assert_eq!(code, Some(1), "{said}");
    for words in ["'w' has numerics exact-2", "this group has fast"] {
        assert!(said.contains(words), "not '{words}': {said}");
    }
    let (code, said) = run(&[&worker[..], &model, &["--numerics", "fastest"]].concat());
    assert_eq!(code, Some(2), "{said}");
    for words in ["--numerics", "fastest", "exact", "fast"] {
        assert!(said.contains(words), "not '{words}': {said}");
    }
}

/// Copies a model's folder, with another name for one of its tokenizer's special tokens.
fn with_another_tokenizer(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
    let file = to.join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let specials = tokenizer["added_tokens"].as_array_mut().unwrap();
    specials.last_mut().unwrap()["content"] = "<|another|>".into();
    std::fs::write(&file, tokenizer.to_string()).unwrap();
}

#[test]
fn a_worker_with_another_tokenizer_is_refused_and_told_why() {
    let (ours, theirs) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let model = ours.path().join("model").display().to_string();
    let (code, said) = run(&["synth", &model]);
    assert_eq!(code, Some(0), "{said}");
    with_another_tokenizer(Path::new(&model), theirs.path());
    let internal = free_address();
    let _first = first_coordinator(&internal, &["--ranks", "1", "--model", &model]);
    let other = theirs.path().display().to_string();
    let (code, said) = run(&[
        "worker", "--model", &other, "--store", &internal, "--name", "w",
    ]);
    assert_eq!(code, Some(1), "{said}");
    for words in ["'w' has tokenizer", "this group has", "the same tokenizer"] {
        assert!(said.contains(words), "not '{words}': {said}");
    }
}

/// Arguments of a coordinator on ports of its own.
fn coordinator<'a>(internal: &'a str, http: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let own = ["coordinator", "--internal", internal];
    let apis = ["--grpc", "127.0.0.1:0", "--http", http];
    [&own[..], &apis, more].concat()
}

/// Starts a coordinator with a store of its own, and waits until it is in there and leads.
fn first_coordinator(internal: &str, model: &[&str]) -> Killed {
    let http = free_address();
    let first = Killed::start(&coordinator(internal, &http, model));
    wait_until("the first coordinator leads", LIMIT, || {
        std::net::TcpStream::connect(&http).is_ok()
            && get(&format!("http://{http}/readyz"))
                .text
                .contains("present")
    });
    first
}

#[test]
fn two_clusters_on_one_prefix_are_told_apart() {
    let (internal, other) = (free_address(), free_address());
    let first = ["--ranks", "1", "--model", "synth:tiny,seed=1"];
    let _first = first_coordinator(&internal, &first);
    for (model, ranks, difference) in [
        ("synth:tiny,seed=2", "1", "serves other weights"),
        ("synth:tiny,seed=1", "2", "groups of 1 ranks, not of 2,"),
    ] {
        let second = ["--ranks", ranks, "--model", model, "--store", &internal];
        let (code, said) = run(&coordinator(&other, "127.0.0.1:0", &second));
        assert_eq!(code, Some(1), "{said}");
        for words in [&internal, difference, "--cluster"] {
            assert!(said.contains(words), "not '{words}': {said}");
        }
    }
}

#[test]
fn of_two_live_coordinators_of_a_name_the_second_is_refused() {
    let (internal, other) = (free_address(), free_address());
    let model = [
        "--ranks",
        "1",
        "--model",
        "synth:tiny,seed=1",
        "--name",
        "c",
    ];
    let _first = first_coordinator(&internal, &model);
    let store = ["--store", &internal];
    let (code, said) = run(&coordinator(
        &other,
        "127.0.0.1:0",
        &[&model[..], &store].concat(),
    ));
    assert_eq!(code, Some(1), "{said}");
    for words in ["'c' is the name of another one", &internal, "--name"] {
        assert!(said.contains(words), "not '{words}': {said}");
    }
}
