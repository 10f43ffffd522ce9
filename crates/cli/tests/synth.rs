//! `conclave synth` as a process: interrupted, limited, and told to overwrite.
#![expect(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// So large that it is still being written when the signal comes: more than a gigabyte, of which
/// little reaches the disk.
const LONG: [&str; 3] = ["--preset=20b", "--layers=2", "--vocab=32768"];

fn conclave(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_conclave"));
    command.args(arguments);
    command
}

fn count(dir: &Path) -> usize {
    fs::read_dir(dir).unwrap().count()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_signal_leaves_nothing_behind() {
    for signal in [Signal::INT, Signal::TERM] {
        let temp = tempfile::tempdir().unwrap();
        let model = temp.path().join("model");
        let mut synth = conclave(&["synth", model.to_str().unwrap()]);
        let mut running = synth.args(LONG).stderr(Stdio::piped()).spawn().unwrap();
        // The first file is made after signals are listened for.
        while count(temp.path()) == 0 {
            assert_eq!(running.try_wait().unwrap(), None, "it ended too early");
            std::thread::yield_now();
        }
        let id = Pid::from_child(&running);
        kill_process(id, signal).unwrap();
        let output = running.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(130), "{}", errors(&output));
        assert!(
            errors(&output).contains("interrupted"),
            "{}",
            errors(&output)
        );
        assert_eq!(count(temp.path()), 0);
    }
}

#[test]
fn a_limit_on_the_size_of_files_does_not_kill() {
    let temp = tempfile::tempdir().unwrap();
    let model = temp.path().join("model");
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -f 100; exec "$0" synth "$1""#]);
    shell.arg(env!("CARGO_BIN_EXE_conclave")).arg(&model);
    let output = shell.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", errors(&output));
    assert!(errors(&output).contains("ulimit -f"), "{}", errors(&output));
    assert_eq!(count(temp.path()), 0);
}

#[test]
fn a_checkpoint_is_overwritten_when_told() {
    let temp = tempfile::tempdir().unwrap();
    let model = temp.path().join("model");
    let synth = |more: &[&str]| {
        let mut synth = conclave(&["synth", model.to_str().unwrap()]);
        synth.args(more).output().unwrap()
    };
    assert!(synth(&[]).status.success());
    let refused = synth(&["--seed=2"]);
    assert!(!refused.status.success());
    assert!(
        errors(&refused).contains("--overwrite"),
        "{}",
        errors(&refused)
    );
    assert!(synth(&["--seed=2", "--overwrite"]).status.success());
    assert_eq!(count(temp.path()), 1);

    fs::remove_file(model.join("config.json")).unwrap();
    let other = synth(&["--overwrite"]);
    assert!(
        errors(&other).contains("it is no checkpoint"),
        "{}",
        errors(&other)
    );
}

#[test]
fn inspect_refuses_more_ranks_than_any_cluster_has() {
    let mut many = conclave(&["inspect", "synth:tiny", "--ranks", "5000000000"]);
    let output = many.output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(errors(&output).contains("4096"), "{}", errors(&output));
    let output = conclave(&["inspect", "synth:tiny", "--ranks=4096"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", errors(&output));
}
