//! Facts for the operator, and damage that only reading everything shows.

use std::fs;
use std::ops::ControlFlow;

use checkpoint::synth::{Preset, Spec, SpecialIds};
use checkpoint::{Checkpoint, Error, Progress, Report, What, verify};
use spec::TokenId;

use crate::folder::{Folder, go_on, split};

/// Numbers of the published 20b, known from its files.
#[test]
fn the_facts_of_20b_are_the_published_ones() {
    let mut spec = Spec::new(Preset::Gpt20b);
    // Those of the published tokenizer.
    spec.special = Some(SpecialIds {
        bos: TokenId(199_998),
        pad: TokenId(199_999),
        eos: TokenId(200_002),
        call: TokenId(200_012),
    });
    let checkpoint = Checkpoint::synth(&spec).unwrap();
    let report = Report::new(&checkpoint, &[1, 3, 0, 8]).unwrap();
    assert_eq!(report.num_tensors, 459);
    assert_eq!(report.num_bytes, 13_761_264_768);
    assert_eq!(report.num_parameters, 20_914_757_184);
    assert_eq!(report.num_mxfp4, 19_110_297_600);
    assert_eq!(report.expert_bytes, 13_236_480);
    assert_eq!(report.groups.len(), 3);
    assert_eq!(report.groups[0].most, report.num_bytes);
    let group = report.groups[1];
    assert_eq!(group.most - group.least, 24 * report.expert_bytes);
    let text = report.to_string();
    for line in [
        "model        synth:20b",
        "layers       24 (12 sliding with a window of 128, 12 full)",
        "KV           24.58 kB a token, and 3.15 MB a sequence for its window (bfloat16)",
        "ends at      tokens 200002, 199999, 200012",
        "parameters   20 914 757 184, of them 19 110 297 600 in MXFP4",
        "tensors      459, 13 761 264 768 bytes",
        "replicated   3.60 GB",
        "experts      13.24 MB each, in each layer",
        "  1 rank     13.76 GB a rank",
        "  3 ranks    6.77 GB to 7.09 GB a rank",
        "  8 ranks    4.87 GB a rank",
    ] {
        assert!(
            text.lines().any(|found| found == line),
            "{line:?} in\n{text}"
        );
    }
}

#[test]
fn warns_of_what_is_unusual() {
    let folder = Folder::tiny();
    folder.edit_json("model.safetensors.index.json", |index| {
        index["metadata"]["total_size"] = 5.into();
    });
    folder.edit_json("config.json", |config| {
        config["eos_token_id"] = serde_json::Value::Null;
    });
    fs::remove_file(folder.path("generation_config.json")).unwrap();
    let checkpoint = Checkpoint::open(&folder.dir).unwrap();
    let report = Report::new(&checkpoint, &[1]).unwrap();
    let warnings: Vec<String> = report.warnings.iter().map(ToString::to_string).collect();
    let bytes = checkpoint.num_bytes();
    assert_eq!(
        warnings,
        [
            format!("the index says 5 bytes of tensors, but there are {bytes}"),
            "there is no generation_config.json".to_owned(),
            "there is no tokenizer.json".to_owned(),
            "no token ends a generation; every answer will run to its limit".to_owned(),
        ]
    );
    assert_eq!(report.shards.len(), 6);
}

#[test]
fn verifying_reads_all_only_when_asked() {
    let folder = Folder::tiny();
    let mut silent = |_| panic!("headers are read without progress");
    let verified = verify(&folder.dir, false, 2, &mut silent).unwrap();
    assert_eq!(verified.files.len(), 6 + 3);
    assert!(verified.files.iter().all(|file| file.sha256.is_none()));

    let mut last = None;
    let mut watch = |progress: Progress| {
        last = Some(progress);
        ControlFlow::Continue(())
    };
    let verified = verify(&folder.dir, true, 2, &mut watch).unwrap();
    assert_eq!(verified.faults, []);
    let total = verified.files.iter().map(|file| file.num_bytes).sum();
    assert_eq!(last, Some(Progress { done: total, total }));
}

#[test]
fn a_files_sum_is_its_sha256() {
    let folder = Folder::tiny();
    fs::write(folder.path("LICENSE"), "abc").unwrap();
    let verified = verify(&folder.dir, true, 1, &mut go_on).unwrap();
    let licence = verified
        .files
        .iter()
        .find(|file| file.name == "LICENSE")
        .unwrap();
    // The example of FIPS 180-2, appendix B.1.
    assert_eq!(
        licence.sha256.as_deref(),
        Some("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad")
    );
}

/// Writes into a tensor's data, at an offset within the tensor.
fn poke(folder: &Folder, tensor: &str, offset: usize, with: &[u8]) -> String {
    let shard = folder.shard_of(tensor);
    let mut bytes = fs::read(folder.path(&shard)).unwrap();
    let (header, data) = split(&bytes);
    let start = bytes.len() - data.len();
    let header: serde_json::Value = serde_json::from_slice(header).unwrap();
    let begin = header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    bytes[start + begin + offset..][..with.len()].copy_from_slice(with);
    fs::write(folder.path(&shard), bytes).unwrap();
    shard
}

#[test]
fn finds_values_that_are_no_numbers() {
    let folder = Folder::tiny();
    let (scales, bias) = (
        "model.layers.1.mlp.experts.gate_up_proj_scales",
        "model.layers.2.mlp.experts.down_proj_bias",
    );
    poke(&folder, scales, 100, &[255]);
    poke(&folder, scales, 700, &[255, 255]);
    // A NaN and an infinity; and the largest finite number, which is none of these.
    poke(&folder, bias, 6, &[0xc0, 0x7f, 0x80, 0xff]);
    poke(&folder, bias, 20, &[0x7f, 0x7f]);
    // Codes may be any bytes.
    poke(
        &folder,
        "model.layers.1.mlp.experts.down_proj_blocks",
        3,
        &[255, 255],
    );
    assert!(
        Checkpoint::open(&folder.dir).is_ok(),
        "headers do not show it"
    );
    let verified = verify(&folder.dir, true, 2, &mut go_on).unwrap();
    let mut found: Vec<_> = verified
        .faults
        .iter()
        .map(|fault| (fault.tensor.as_deref().unwrap(), fault.what.clone()))
        .collect();
    found.sort_by_key(|(tensor, _)| *tensor);
    assert_eq!(
        found,
        [
            (
                scales,
                What::ScaleNan {
                    count: 3,
                    first: 100
                }
            ),
            (bias, What::NotFinite { count: 2, first: 3 }),
        ]
    );
}

#[test]
fn verifying_a_broken_checkpoint_lists_its_faults() {
    let folder = Folder::tiny();
    fs::remove_file(folder.path("config.json")).unwrap();
    let error = verify(&folder.dir, true, 2, &mut go_on).unwrap_err();
    assert!(matches!(error, Error::Faults(_)), "{error}");
    assert!(
        error
            .to_string()
            .ends_with("config.json: the file is missing"),
        "{error}"
    );
}

#[test]
fn a_link_to_nothing_is_named_itself() {
    let folder = Folder::tiny();
    let link = folder.path("LICENSE");
    std::os::unix::fs::symlink(folder.path("gone"), &link).unwrap();
    let error = verify(&folder.dir, true, 1, &mut go_on).unwrap_err();
    assert!(
        matches!(&error, Error::Read { path, .. } if *path == link),
        "{error}"
    );
}
