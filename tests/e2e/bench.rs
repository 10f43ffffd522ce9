//! `conclave bench` on the model in the box: what docs/measuring.md shows, and what cannot be measured.

use std::path::Path;
use std::process::{Command, Output};

use e2e::{Cluster, Setup, binary};
use serde_json::Value;

/// The commands of the page, as they stand there.
fn commands() -> Vec<Vec<&'static str>> {
    let page = include_str!("../../docs/measuring.md");
    let lines = page
        .lines()
        .filter_map(|line| line.strip_prefix("conclave "));
    let commands: Vec<Vec<&str>> = lines
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(commands.len(), 7);
    commands
}

fn run(arguments: &[&str], dir: &Path, server: &str) -> Output {
    let mut command = Command::new(binary());
    command.args(arguments).current_dir(dir);
    match server {
        "" => command.env_remove("CONCLAVE_SERVER"),
        server => command.env("CONCLAVE_SERVER", server),
    };
    command.output().unwrap()
}

/// The cells of the table's lines below its head.
fn table(output: &Output) -> Vec<Vec<String>> {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = String::from_utf8_lossy(&output.stdout);
    let rows = text.lines().filter(|line| line.starts_with("| "));
    let rows = rows.skip(1).map(|line| {
        let cells = line.trim_matches('|').split('|');
        cells.map(|cell| cell.trim().to_owned()).collect()
    });
    rows.collect()
}

#[test]
fn the_pages_commands_measure() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::start(&Setup::mini(2));
    for command in commands() {
        let rows = table(&run(&command, dir.path(), cluster.grpc()));
        assert!(!rows.is_empty(), "{command:?}");
        for row in rows {
            let number = |cell: &String| cell.parse::<f64>().ok();
            let numbers: Vec<f64> = row[1..].iter().filter_map(number).collect();
            assert!(numbers.len() >= 3, "{command:?}: {row:?}");
            assert!(
                numbers.iter().all(|n| n.is_finite() && *n >= 0.0),
                "{row:?}"
            );
        }
    }
    let served = std::fs::read_to_string(dir.path().join("served.json")).unwrap();
    let served: Value = serde_json::from_str(&served).unwrap();
    assert_eq!(served["completed"], 40);
    assert_eq!(served["failed"], 0);
    assert_eq!(served["total_input_tokens"], 40 * 64);
    assert_eq!(served["total_output_tokens"], 40 * 32);
    let millis = |name: &str| served[name].as_f64().unwrap();
    assert!(millis("median_ttft_ms") <= millis("p99_ttft_ms"));
    assert!(millis("p99_ttft_ms") <= millis("p99_e2el_ms"));
    // Twenty a second: forty take two seconds, but for chance.
    assert!(served["duration"].as_f64().unwrap() > 0.5);
    let chart = std::fs::read_to_string(dir.path().join("served.svg")).unwrap();
    assert!(chart.contains("TTFT") && chart.trim_end().ends_with("</svg>"));
}

#[test]
fn figures_of_every_round_are_written() {
    let dir = tempfile::tempdir().unwrap();
    for numerics in ["exact", "fast"] {
        let arguments =
            "bench batch --sequences 3,5 --prompt 7 --tokens 4 --rounds 3 --ranks 2 --threads 2";
        let mut arguments: Vec<&str> = arguments.split(' ').collect();
        arguments.extend([
            "--model",
            "synth:tiny",
            "--numerics",
            numerics,
            "--json",
            "all.json",
        ]);
        let rows = table(&run(&arguments, dir.path(), ""));
        assert_eq!(rows.len(), 4, "prompts and tokens of two loads: {rows:?}");
        let all = std::fs::read_to_string(dir.path().join("all.json")).unwrap();
        let all: Value = serde_json::from_str(&all).unwrap();
        assert_eq!(all["numerics"], numerics);
        assert_eq!(
            (&all["ranks"], &all["threads_per_rank"]),
            (&2.into(), &1.into())
        );
        for (result, sequences) in all["results"].as_array().unwrap().iter().zip([3, 5]) {
            assert_eq!(
                (&result["pl"], &result["tg"]),
                (&sequences.into(), &4.into())
            );
            for rates in ["samples_pp", "samples_tg"] {
                let rates = result[rates].as_array().unwrap();
                assert_eq!(rates.len(), 3);
                assert!(rates.iter().all(|rate| rate.as_f64().unwrap() > 0.0));
            }
        }
    }
}

#[test]
fn what_cannot_be_measured_is_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let refusals: [(&str, &[&str]); 11] = [
        (
            "numerics --text no-such.txt",
            &["--text no-such.txt", "No such file"],
        ),
        ("numerics --text /dev/null", &["there is no text in it"]),
        ("numerics --tokens 9999999", &["131072", "the model takes"]),
        (
            "decode --ranks 3 --threads 2",
            &["--ranks 3", "--threads 2"],
        ),
        (
            "decode --cores 0-1023",
            &["--cores 0-1023", "may not use core"],
        ),
        ("decode --numerics quick", &["exact", "fast"]),
        ("prefill --tokens 0", &["--tokens", "0"]),
        (
            "decode --model synth:tiny --tokens 1 --json no/file",
            &["--json no/file"],
        ),
        ("serve --rate 0", &["--rate", "at least 0.001"]),
        (
            "decode --model synth:tiny --depth 18446744073709551615",
            &["131072", "the model takes"],
        ),
        (
            "serve --server 127.0.0.1:9",
            &["nothing answers", "--server"],
        ),
    ];
    for (arguments, parts) in refusals {
        let arguments: Vec<&str> = "bench".split(' ').chain(arguments.split(' ')).collect();
        let output = run(&arguments, dir.path(), "");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{arguments:?}");
        for part in parts {
            assert!(said.contains(part), "{arguments:?}: {said}");
        }
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
}
