//! The commands a person types.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use e2e::{Cluster, Setup, binary, free_address, get};

fn conclave(arguments: &[&str]) -> Output {
    Command::new(binary()).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn synth_mini_has_the_sizes_of_the_model_in_the_box() {
    let folder = tempfile::tempdir().unwrap();
    let made = folder.path().join("model");
    stdout(&conclave(&[
        "synth",
        "--preset",
        "mini",
        made.to_str().unwrap(),
    ]));
    let in_the_box = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/mini");
    let [made, in_the_box] = [made.as_path(), Path::new(in_the_box)].map(|model| {
        let text = fs::read_to_string(model.join("config.json")).unwrap();
        serde_json::from_str::<serde_json::Value>(&text).unwrap()
    });
    for key in [
        "head_dim",
        "hidden_size",
        "intermediate_size",
        "layer_types",
        "num_attention_heads",
        "num_experts_per_tok",
        "num_hidden_layers",
        "num_key_value_heads",
        "num_local_experts",
        "rope_scaling",
        "sliding_window",
        "vocab_size",
    ] {
        assert!(!made[key].is_null(), "{key}");
        assert_eq!(made[key], in_the_box[key], "{key}");
    }
}

#[test]
fn synth_writes_what_inspect_reads_and_up_serves() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model");
    let model = model.to_str().unwrap();
    let written = stdout(&conclave(&[
        "synth", "--preset", "tiny", "--seed", "3", model,
    ]));
    assert!(written.contains(".safetensors"), "{written}");
    let again = conclave(&["synth", "--preset", "tiny", model]);
    assert!(
        !again.status.success(),
        "an existing model is not overwritten"
    );
    let report = stdout(&conclave(&["inspect", model, "--ranks", "3", "--checksum"]));
    assert!(report.contains("nothing is wrong"), "{report}");

    let cluster = Cluster::start(&Setup {
        model: Some(model.into()),
        ..Setup::mini(2)
    });
    let models = get(&cluster.url("/v1/models"));
    assert_eq!(models.json["data"][0]["id"], "model", "{}", models.text);
    let arguments = [
        "generate",
        "--server",
        cluster.grpc(),
        "--max-tokens",
        "8",
        "--ignore-eos",
        "hello",
    ];
    let output = conclave(&arguments);
    assert!(!stdout(&output).is_empty());
    let figures = String::from_utf8_lossy(&output.stderr);
    assert!(figures.contains("output 8 tokens"), "{figures}");
}

#[test]
fn up_tells_what_is_wrong_with_a_model_and_that_the_coordinator_ended() {
    let model = tempfile::tempdir().unwrap();
    let [grpc, http] = [free_address(), free_address()];
    let up = Command::new(binary())
        .args(["up", "--grpc", &grpc, "--http", &http, "--model"])
        .arg(model.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&up.stderr);
    assert_eq!(up.status.code(), Some(1), "{said}");
    assert!(said.contains("config.json: the file is missing"), "{said}");
    let last = said.lines().last().unwrap();
    assert!(last.contains("coordinator ended by itself"), "{said}");
}

#[test]
fn chat_answers_and_ends_with_its_input() {
    use std::io::Write;
    use std::process::Stdio;
    let cluster = Cluster::start(&Setup::mini(1));
    let mut chat = Command::new(binary())
        // As people write it who have just read where the API is.
        .args([
            "chat",
            "--server",
            cluster.grpc().trim_start_matches("http://"),
        ])
        .args(["--max-tokens", "8"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    chat.stdin.take().unwrap().write_all(b"Hello!\n").unwrap();
    let output = chat.wait_with_output().unwrap();
    let figures = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && figures.contains("prompt"),
        "{figures}"
    );
}

#[test]
fn help_teaches() {
    let help = stdout(&conclave(&["help"]));
    for command in [
        "up",
        "coordinator",
        "worker",
        "generate",
        "chat",
        "inspect",
        "synth",
    ] {
        assert!(help.contains(command), "{help}");
    }
}

/// Says which cores a thread may run on, as the kernel lists them.
fn allowed(status: &Path) -> String {
    let status = fs::read_to_string(status).unwrap();
    let line = |line: &str| Some(line.strip_prefix("Cpus_allowed_list:")?.trim().to_owned());
    status.lines().find_map(line).unwrap()
}

#[test]
fn a_worker_keeps_to_the_cores_that_it_is_told() {
    // One of those that this test may use itself.
    let own = allowed(Path::new("/proc/self/status"));
    let core = own.rsplit([',', '-']).next().unwrap();
    let cluster = Cluster::start(&Setup {
        arguments: vec!["--cores".into(), core.into()],
        ..Setup::mini(1)
    });
    let threads = fs::read_dir(format!("/proc/{}/task", cluster.workers()[0])).unwrap();
    let threads: Vec<_> = threads
        .map(|thread| allowed(&thread.unwrap().path().join("status")))
        .collect();
    assert!(
        threads.len() > 2 && threads.iter().all(|cores| cores == core),
        "{threads:?}"
    );
}
