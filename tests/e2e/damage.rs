//! A damaged weight costs the sequences that meet it, and no others.

use std::path::Path;
use std::process::Command;
use std::sync::mpsc;

use e2e::{Cluster, Setup, binary, post};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::streams::stream;

/// The token whose embedding is damaged.
const TOKEN: usize = 77;

/// Writes a tiny model in which one row of the embedding is not a number.
fn damaged_model(dir: &Path) {
    let status = Command::new(binary()).arg("synth").arg(dir).status();
    assert!(status.unwrap().success());
    let index = std::fs::read(dir.join("model.safetensors.index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    let name = "model.embed_tokens.weight";
    let shard = dir.join(index["weight_map"][name].as_str().unwrap());
    let mut bytes = std::fs::read(&shard).unwrap();
    let header = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let tensors: Value = serde_json::from_slice(&bytes[8..8 + header]).unwrap();
    let number = |value: &Value| value.as_u64().unwrap() as usize;
    let width = 2 * number(&tensors[name]["shape"][1]);
    let start = 8 + header + number(&tensors[name]["data_offsets"][0]) + TOKEN * width;
    bytes[start..start + width].fill(0xff);
    std::fs::write(shard, bytes).unwrap();
}

#[test]
fn a_sequence_that_meets_a_damaged_weight_ends_alone() {
    let folder = TempDir::new().unwrap();
    let model = folder.path().join("model");
    damaged_model(&model);
    let cluster = Cluster::start(&Setup {
        model: Some(model.to_str().unwrap().into()),
        ..Setup::mini(2)
    });
    let url = cluster.url("/v1/completions");
    let good = json!({
        "prompt": [5, 6, 7], "max_tokens": 200, "temperature": 0, "ignore_eos": true,
        "logit_bias": {TOKEN.to_string(): -100},
    });
    let bad = json!({"prompt": [5, TOKEN, 7], "max_tokens": 4});
    let refuse = || {
        let answer = post(&url, &bad);
        assert_eq!(answer.status, 500, "{}", answer.text);
        let said = answer.json["error"]["message"].as_str().unwrap_or_default();
        assert!(said.contains("not finite"), "{said}");
    };
    let alone = stream(&cluster, &good, 1, || {});
    let (begin, begun) = mpsc::channel();
    std::thread::scope(|scope| {
        let beside = scope.spawn(|| stream(&cluster, &good, 1, move || begin.send(()).unwrap()));
        begun.recv().unwrap();
        refuse();
        assert!(!beside.is_finished(), "they ran together");
        refuse();
        refuse();
        assert_eq!(beside.join().unwrap(), alone);
    });
    // Worker and lead name the request.
    for said in ["step failed", "generation failed"] {
        let log = cluster.log();
        let mut lines = log.lines().filter(|line| line.contains(said));
        assert!(
            lines.any(|line| line.contains(" request_id=\"cmpl-")),
            "{log}"
        );
    }
}
