//! Which crate may use which: a new edge is a change of this table, so it is seen in review.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, BTreeSet};

/// Crate, its layer, and the crates of ours that it may use.
const ALLOWED: [(&str, u32, &[&str]); 23] = [
    ("spec", 0, &[]),
    ("kernels", 0, &["spec"]),
    ("proto", 0, &[]),
    ("sockets", 0, &[]),
    ("checkpoint", 1, &["kernels", "spec"]),
    ("exchange", 1, &["kernels", "spec"]),
    ("kernels-cpu", 1, &["kernels", "spec"]),
    ("settings", 1, &[]),
    ("telemetry", 1, &["sockets"]),
    ("engine", 2, &["spec"]),
    ("tokenizer", 2, &["spec"]),
    ("cluster", 2, &["spec"]),
    ("records", 1, &["proto", "spec"]),
    ("store", 2, &["sockets", "telemetry"]),
    ("presence", 3, &["proto", "records", "sockets", "store"]),
    ("model", 2, &["checkpoint", "exchange", "kernels", "spec"]),
    (
        "exchange-grpc",
        3,
        &[
            "exchange",
            "exchange-unix",
            "kernels",
            "proto",
            "sockets",
            "spec",
        ],
    ),
    ("exchange-unix", 2, &["exchange", "spec"]),
    (
        "bench",
        4,
        &[
            "checkpoint",
            "exchange",
            "kernels",
            "kernels-cpu",
            "model",
            "spec",
        ],
    ),
    (
        "worker",
        4,
        &[
            "checkpoint",
            "exchange",
            "exchange-grpc",
            "kernels",
            "kernels-cpu",
            "model",
            "presence",
            "proto",
            "records",
            "sockets",
            "spec",
            "store",
            "telemetry",
        ],
    ),
    (
        "coordinator",
        4,
        &[
            "cluster",
            "engine",
            "exchange",
            "presence",
            "proto",
            "records",
            "sockets",
            "spec",
            "store",
            "telemetry",
            "tokenizer",
        ],
    ),
    (
        "cli",
        5,
        &[
            "bench",
            "checkpoint",
            "coordinator",
            "proto",
            "records",
            "settings",
            "sockets",
            "spec",
            "store",
            "telemetry",
            "tokenizer",
            "worker",
        ],
    ),
    // Stand outside and may use all.
    ("e2e", 9, &[]),
];

fn metadata() -> cargo_metadata::Metadata {
    let mut command = cargo_metadata::MetadataCommand::new();
    command.manifest_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
    command.no_deps().exec().unwrap()
}

#[test]
fn crates_use_only_what_the_table_allows() {
    let metadata = metadata();
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let layers: BTreeMap<&str, u32> = ALLOWED
        .iter()
        .map(|(name, layer, _)| (*name, *layer))
        .collect();
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        if matches!(name, "e2e" | "xtask") {
            continue;
        }
        let Some((_, layer, allowed)) = ALLOWED.iter().find(|(known, _, _)| *known == name) else {
            wrong.push(format!("{name} is not in the table"));
            continue;
        };
        for dependency in &package.dependencies {
            let used = dependency.name.as_str();
            let is_test = dependency.kind == cargo_metadata::DependencyKind::Development;
            if !ours.contains(used) || is_test || used == name {
                continue;
            }
            if !allowed.contains(&used) {
                wrong.push(format!("{name} must not use {used}"));
            }
            if used != "spec" && *layer > 0 && layers[used] >= *layer {
                wrong.push(format!(
                    "{name} (layer {layer}) uses {used} of layer {}",
                    layers[used]
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_pure_crates_know_no_runtime_and_no_network() {
    let metadata = metadata();
    for name in [
        "spec",
        "kernels",
        "engine",
        "cluster",
        "exchange",
        "model",
        "checkpoint",
    ] {
        let package = metadata
            .packages
            .iter()
            .find(|p| p.name.as_str() == name)
            .unwrap();
        let used: Vec<&str> = package
            .dependencies
            .iter()
            .map(|d| d.name.as_str())
            .collect();
        for banned in ["tokio", "tonic", "axum", "hyper", "proto", "tracing"] {
            assert!(!used.contains(&banned), "{name} must not use {banned}");
        }
    }
}
