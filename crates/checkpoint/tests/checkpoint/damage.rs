//! Broken checkpoints: each fault is found, named once, and without echoes.

use std::fs;

use checkpoint::Checkpoint;
use serde_json::json;

use crate::folder::{Folder, join, split};

const INDEX: &str = "model.safetensors.index.json";
const NORM: &str = "model.layers.2.input_layernorm.weight";
const SCALES: &str = "model.layers.2.mlp.experts.down_proj_scales";

fn expect_one(folder: &Folder, fault: &str) {
    assert_eq!(folder.faults(), [fault]);
}

#[test]
fn opens_a_sound_checkpoint() {
    let folder = Folder::tiny();
    let checkpoint = Checkpoint::open(&folder.dir).unwrap();
    assert_eq!(checkpoint.tensors().len(), 4 * 19 + 3);
}

#[test]
fn ignores_other_layouts_in_their_folders() {
    let folder = Folder::tiny();
    for other in ["original", "metal"] {
        fs::create_dir(folder.path(other)).unwrap();
        fs::write(folder.path(other).join("model.safetensors"), "not one").unwrap();
    }
    fs::write(folder.path("README.md"), "a model").unwrap();
    Checkpoint::open(&folder.dir).unwrap();
}

#[test]
fn opens_a_single_file_without_an_index() {
    let folder = Folder::new("tiny");
    let [shard] = &folder.shards()[..] else {
        panic!("one shard");
    };
    fs::rename(folder.path(shard), folder.path("model.safetensors")).unwrap();
    fs::remove_file(folder.path(INDEX)).unwrap();
    Checkpoint::open(&folder.dir).unwrap();

    folder.edit_header("model.safetensors", |header| {
        let entry = header.as_object_mut().unwrap().remove(NORM).unwrap();
        header["odd"] = entry;
    });
    assert_eq!(
        folder.faults(),
        [
            format!("model.safetensors: {NORM}: is missing"),
            "model.safetensors: odd: is not a tensor of this model".to_owned(),
        ]
    );
}

#[test]
fn names_a_folder_that_is_not_there() {
    let folder = Folder::tiny();
    let error = Checkpoint::open(&folder.path("nowhere")).unwrap_err();
    assert!(error.to_string().ends_with(
        "nowhere: 1 fault\n  the folder: cannot be read: No such file or directory (os error 2)"
    ));
    let error = Checkpoint::open(&folder.path("config.json")).unwrap_err();
    assert_eq!(error.list.len(), 1, "{error}");
}

#[test]
fn finds_a_missing_shard() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(NORM);
    fs::remove_file(folder.path(&shard)).unwrap();
    expect_one(&folder, &format!("{shard}: the file is missing"));
}

#[test]
fn finds_a_truncated_shard() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(NORM);
    let bytes = fs::read(folder.path(&shard)).unwrap();
    let (size, short) = (bytes.len(), bytes.len() - 50_000);
    fs::write(folder.path(&shard), &bytes[..short]).unwrap();
    let fault = format!(
        "{shard}: is {short} bytes long, but its header describes {size}: the file is truncated"
    );
    expect_one(&folder, &fault);

    fs::write(folder.path(&shard), &bytes[..1000]).unwrap();
    let needed = 8 + split(&bytes).0.len();
    let fault = format!(
        "{shard}: is 1000 bytes long, but its header needs {needed}: the file is truncated"
    );
    expect_one(&folder, &fault);

    fs::write(folder.path(&shard), &bytes[..5]).unwrap();
    let fault = format!("{shard}: is 5 bytes long, but its header needs 8: the file is truncated");
    expect_one(&folder, &fault);
}

#[test]
fn finds_bytes_after_the_last_tensor() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(NORM);
    let mut bytes = fs::read(folder.path(&shard)).unwrap();
    let size = bytes.len();
    bytes.extend([0; 10]);
    fs::write(folder.path(&shard), bytes).unwrap();
    let long = size + 10;
    expect_one(
        &folder,
        &format!("{shard}: is {long} bytes long, but its header describes {size}"),
    );
}

#[test]
fn finds_a_header_that_is_none() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(NORM);
    let bytes = fs::read(folder.path(&shard)).unwrap();

    let mut huge = bytes.clone();
    huge[..8].copy_from_slice(&u64::MAX.to_le_bytes());
    fs::write(folder.path(&shard), huge).unwrap();
    let fault = format!(
        "{shard}: says that its header is {} bytes long (limit 16777216): not a safetensors file",
        u64::MAX
    );
    expect_one(&folder, &fault);

    let (_, data) = split(&bytes);
    fs::write(folder.path(&shard), join(b"{\"a\": ", data)).unwrap();
    let faults = folder.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].starts_with(&format!("{shard}: not valid JSON: EOF")),
        "{faults:?}"
    );

    fs::write(folder.path(&shard), join(b"[]", data)).unwrap();
    expect_one(
        &folder,
        &format!("{shard}: header: expected an object, found []"),
    );
}

#[test]
fn finds_a_tensor_named_twice_in_a_header() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(NORM);
    folder.edit_header_text(&shard, |text| {
        let end = text.find("},").unwrap() + 1;
        format!("{},{}", &text[..end], &text[1..])
    });
    let faults = folder.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("appears twice"), "{faults:?}");
}

#[test]
fn finds_a_wrong_element_type() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(NORM);
    folder.edit_header(&shard, |header| header[NORM]["dtype"] = "F16".into());
    expect_one(
        &folder,
        &format!("{shard}: {NORM}: expected BF16, found F16"),
    );
    folder.edit_header(&shard, |header| header[NORM]["dtype"] = "F32".into());
    let fault = "shape [64] of F32 needs 256 bytes, but the offsets span 128";
    expect_one(&folder, &format!("{shard}: {NORM}: {fault}"));
}

#[test]
fn finds_a_wrong_shape() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(SCALES);
    folder.edit_header(&shard, |header| header[SCALES]["shape"] = json!([8, 3, 64]));
    let fault = "expected shape [8, 64, 3], found [8, 3, 64]";
    expect_one(&folder, &format!("{shard}: {SCALES}: {fault}"));

    folder.edit_header(&shard, |header| {
        header[SCALES]["shape"] = json!([u64::MAX, u64::MAX, u64::MAX]);
    });
    let faults = folder.faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].contains("but the offsets span 1536"),
        "{faults:?}"
    );
}

#[test]
fn finds_malformed_entries() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(NORM);
    for (entry, fault) in [
        (json!(7), "dtype is missing"),
        (
            json!({"dtype": 1, "shape": [], "data_offsets": [0, 2]}),
            "dtype: expected a name, found 1",
        ),
        (
            json!({"dtype": "BF16", "shape": [-1], "data_offsets": [0, 2]}),
            "shape: expected a list of whole numbers, found [-1]",
        ),
        (
            json!({"dtype": "BF16", "shape": [64], "data_offsets": [128]}),
            "data_offsets: expected two numbers, found [128]",
        ),
        (
            json!({"dtype": "BF16", "shape": [64], "data_offsets": [128, 0]}),
            "data_offsets: expected the start before the end, found [128,0]",
        ),
    ] {
        folder.edit_header(&shard, |header| header[NORM] = entry);
        expect_one(&folder, &format!("{shard}: {NORM}: {fault}"));
    }
}

/// Moves a tensor's offsets by so many bytes.
fn shift(folder: &Folder, shard: &str, tensor: &str, by: i64) -> (i64, i64) {
    let mut moved = (0, 0);
    folder.edit_header(shard, |header| {
        let offsets = &mut header[tensor]["data_offsets"];
        moved = (
            offsets[0].as_i64().unwrap() + by,
            offsets[1].as_i64().unwrap() + by,
        );
        *offsets = json!([moved.0, moved.1]);
    });
    moved
}

#[test]
fn finds_overlaps_and_gaps() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(NORM);
    let (from, to) = shift(&folder, &shard, NORM, 2);
    let faults = folder.faults();
    let gap = format!(
        "{shard}: data bytes {}..{from} belong to no tensor",
        from - 2
    );
    let overlap = format!("data bytes {}..{to} are also those of {NORM}", to - 2);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert_eq!(faults[0], gap);
    assert!(faults[1].ends_with(&overlap), "{faults:?}");
}

#[test]
fn finds_offsets_past_the_end() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(NORM);
    shift(&folder, &shard, NORM, 1 << 40);
    let faults = folder.faults();
    assert_eq!(faults.len(), 3, "{faults:?}");
    assert!(faults[0].contains("belong to no tensor"), "{faults:?}");
    assert!(
        faults[2].contains("do not lie inside the file's"),
        "{faults:?}"
    );

    shift(&folder, &shard, NORM, i64::MAX - (1 << 41));
    assert!(folder.faults()[2].contains("do not lie inside the file's"));
}

#[test]
fn finds_numbers_at_odd_places() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(NORM);
    let bytes = fs::read(folder.path(&shard)).unwrap();
    let (text, data) = split(&bytes);
    let odd = [text, b" "].concat();
    fs::write(folder.path(&shard), join(&odd, data)).unwrap();
    let faults = folder.faults();
    assert!(faults.len() > 10, "{faults:?}");
    let is_told = |fault: &String| {
        fault.contains("of the file; BF16 must begin at an even one") && !fault.contains("blocks")
    };
    assert!(faults.iter().all(is_told), "{faults:?}");
}

#[test]
fn finds_missing_and_extra_tensors() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(NORM);
    folder.edit_header(&shard, |header| {
        let entry = header.as_object_mut().unwrap().remove(NORM).unwrap();
        header["model.layers.2.norm.weight"] = entry;
    });
    assert_eq!(
        folder.faults(),
        [
            format!("{shard}: {NORM}: is missing"),
            format!("{shard}: model.layers.2.norm.weight: is not a tensor of this model"),
        ]
    );
}

#[test]
fn finds_an_extra_file() {
    let folder = Folder::tiny();
    fs::write(folder.path("adapter.safetensors"), "").unwrap();
    expect_one(
        &folder,
        "adapter.safetensors: is not named by the index; move it away",
    );
}

#[test]
fn finds_a_tensor_in_two_files() {
    let folder = Folder::tiny();
    let first = folder.shard_of("model.layers.0.input_layernorm.weight");
    fs::copy(folder.path(&first), folder.path("copy.safetensors")).unwrap();
    folder.edit_json(INDEX, |index| {
        let name = "model.layers.0.input_layernorm.weight";
        index["weight_map"][name] = "copy.safetensors".into();
    });
    let faults = folder.faults();
    let twice = faults
        .iter()
        .filter(|fault| fault.contains("is also in copy.safetensors"));
    let there = serde_json::from_slice::<serde_json::Value>(
        split(&fs::read(folder.path(&first)).unwrap()).0,
    );
    assert_eq!(twice.count(), there.unwrap().as_object().unwrap().len());
}

#[test]
fn finds_a_tensor_in_another_file_than_the_index_says() {
    let folder = Folder::tiny();
    let (here, there) = (folder.shard_of(NORM), folder.shard_of("lm_head.weight"));
    folder.edit_json(INDEX, |index| {
        index["weight_map"][NORM] = there.as_str().into();
    });
    expect_one(
        &folder,
        &format!("{here}: {NORM}: belongs in {there} by the index"),
    );
}

#[test]
fn finds_what_the_index_leaves_out_or_makes_up() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(NORM);
    folder.edit_json(INDEX, |index| {
        let map = index["weight_map"].as_object_mut().unwrap();
        map.remove(NORM);
        map.insert("model.layers.9.sinks".into(), shard.as_str().into());
    });
    assert_eq!(
        folder.faults(),
        [
            format!("{shard}: {NORM}: is not listed in the index"),
            format!("{shard}: model.layers.9.sinks: is not a tensor of this model"),
        ]
    );
}

#[test]
fn finds_index_entries_that_are_no_file_of_the_folder() {
    let folder = Folder::tiny();
    folder.edit_json(INDEX, |index| {
        index["weight_map"][NORM] = "gone.safetensors".into();
        index["weight_map"][SCALES] = "../model.safetensors".into();
    });
    let faults = folder.faults();
    assert!(
        faults[0].starts_with(&format!("{INDEX}: {SCALES}: names the shard")),
        "{faults:?}"
    );
    assert_eq!(faults[1], "gone.safetensors: the file is missing");
}

#[test]
fn finds_an_index_that_is_none() {
    let folder = Folder::tiny();
    for (text, fault) in [
        ("{", "not valid JSON: "),
        ("{}", "weight_map is missing"),
        (
            "{\"weight_map\": 3}",
            "weight_map: expected an object, found 3",
        ),
    ] {
        fs::write(folder.path(INDEX), text).unwrap();
        let faults = folder.faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(
            faults[0].starts_with(&format!("{INDEX}: {fault}")),
            "{faults:?}"
        );
    }
    fs::remove_file(folder.path(INDEX)).unwrap();
    expect_one(&folder, &format!("{INDEX}: the file is missing"));
}

#[test]
fn finds_a_configuration_that_does_not_fit_the_tensors() {
    let folder = Folder::tiny();
    folder.edit_json("config.json", |config| {
        config["num_key_value_heads"] = 4.into();
        config["vocab_size"] = 384.into();
        config["eos_token_id"] = 1.into();
        config["pad_token_id"] = 1.into();
    });
    fs::remove_file(folder.path("generation_config.json")).unwrap();
    let faults = folder.faults();
    // Key and value, weight and bias, in four layers; embedding and head.
    assert_eq!(faults.len(), 4 * 4 + 2, "{faults:?}");
    let shard = folder.shard_of("lm_head.weight");
    let fault = format!("{shard}: lm_head.weight: expected shape [384, 64], found [512, 64]");
    assert_eq!(faults.last(), Some(&fault));
}

/// What is wrong with the configuration hides no tensor, as long as the sizes can be read.
#[test]
fn finds_missing_tensors_beside_faults_of_the_configuration() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(NORM);
    folder.edit_header(&shard, |header| {
        let entry = header.as_object_mut().unwrap().remove(NORM).unwrap();
        header["odd"] = entry;
    });
    folder.edit_json("config.json", |config| {
        config["model_type"] = "llama".into();
        config["eos_token_id"] = 512.into();
        config["rope_theta"] = 1.into();
        config["sliding_window"] = "wide".into();
        config["max_position_embeddings"] = 0.into();
        config["layer_types"] = json!(["full_attention"]);
    });
    folder.edit_json("generation_config.json", |generation| {
        generation["temperature"] = (-1).into();
    });
    assert_eq!(
        folder.faults(),
        [
            r#"config.json: model_type: expected "gpt_oss", found "llama""#,
            "config.json: layer_types: expected 4 entries, as num_hidden_layers says, found 1",
            r#"config.json: sliding_window: expected a whole number below 2^32, found "wide""#,
            "config.json: token ids: expected ids below vocab_size, 512, found 512",
            "config.json: max_position_embeddings: must be at least 1",
            "config.json: rope_theta: 1 must be above 1",
            "generation_config.json: temperature: -1 is not within 0 to 100",
            &format!("{shard}: {NORM}: is missing"),
            &format!("{shard}: odd: is not a tensor of this model"),
        ]
    );
}

#[test]
fn lists_faults_of_all_files_at_once() {
    let folder = Folder::tiny();
    let shards = folder.shards();
    folder.edit_json("config.json", |config| config["head_dim"] = "wide".into());
    fs::write(folder.path("extra.safetensors"), "").unwrap();
    fs::remove_file(folder.path(&shards[1])).unwrap();
    fs::write(folder.path(&shards[3]), "short").unwrap();
    let faults = Checkpoint::open(&folder.dir).unwrap_err();
    let lines = [
        format!("{}: 4 faults", folder.dir.display()),
        "  config.json: head_dim: expected a whole number below 2^32, found \"wide\"".to_owned(),
        "  extra.safetensors: is not named by the index; move it away".to_owned(),
        format!("  {}: the file is missing", shards[1]),
        format!(
            "  {}: is 5 bytes long, but its header needs 8: the file is truncated",
            shards[3]
        ),
    ];
    assert_eq!(faults.to_string(), lines.join("\n"));
}

/// Changes random bytes of all that is read on opening: it must end in a checkpoint or in faults.
#[test]
fn no_damage_to_texts_and_headers_ends_in_a_panic() {
    let folder = Folder::tiny();
    let shard = folder.shard_of(NORM);
    let mut state = 1u64;
    let mut random = |below: usize| {
        // Numerical Recipes' congruential generator; its high bits are good enough here.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let mut refused = 0;
    for name in ["config.json", "generation_config.json", INDEX, &shard] {
        let sound = fs::read(folder.path(name)).unwrap();
        let text = if name == shard {
            8 + split(&sound).0.len()
        } else {
            sound.len()
        };
        for _ in 0..250 {
            let mut bytes = sound.clone();
            for _ in 0..1 + random(3) {
                bytes[random(text)] = b"0123456789{}[]\",:-e \xff\0"[random(22)];
            }
            fs::write(folder.path(name), bytes).unwrap();
            if let Err(faults) = Checkpoint::open(&folder.dir) {
                assert!(!faults.list.is_empty());
                refused += 1;
            }
        }
        fs::write(folder.path(name), sound).unwrap();
    }
    assert!(
        refused > 500,
        "only {refused} of 1000 damaged checkpoints were refused"
    );
    Checkpoint::open(&folder.dir).unwrap();
}
