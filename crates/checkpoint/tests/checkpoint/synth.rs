//! Writing a synthetic model: the same bytes always, whole or not at all.

use std::fs;
use std::ops::ControlFlow;

use checkpoint::synth::{self, Spec, WriteOptions};
use checkpoint::{Checkpoint, Error, ModelName, Progress};

use crate::folder::{Folder, PLAIN, contents, go_on};

#[test]
fn the_same_description_gives_the_same_bytes() {
    let temp = tempfile::tempdir().unwrap();
    let spec = Spec::parse("tiny,seed=3,shard_bytes=200000").unwrap();
    for (name, threads) in [("one", 1), ("two", 3)] {
        let options = WriteOptions { threads, ..PLAIN };
        synth::write(&temp.path().join(name), &spec, &options, &mut go_on).unwrap();
    }
    let written = |name| contents(&temp.path().join(name));
    assert_eq!(written("one"), written("two"));

    let other = Spec { seed: 4, ..spec };
    synth::write(&temp.path().join("other"), &other, &PLAIN, &mut go_on).unwrap();
    let differ = written("one").into_iter().zip(written("other"));
    let differ: Vec<String> = differ
        .filter(|(a, b)| a.1 != b.1)
        .map(|(a, _)| a.0)
        .collect();
    assert_eq!(
        differ.len(),
        4,
        "all weights differ and nothing else: {differ:?}"
    );
}

/// The bytes are a format: goldens made from them elsewhere must stay valid.
#[test]
fn the_weights_of_a_seed_never_change() {
    for (description, fingerprint) in [
        (
            "synth:tiny",
            "3fc956ae57d857b613e7791c0f766555f9e1a5ff2d6f9d263bb89d52fe6b1186",
        ),
        (
            "synth:mini,intermediate=256,vocab=2048,seed=7,edge_scales=true",
            "1d1f4ccb9ef1a3abde8a0cab9c95146e65a60c18a8d7b52dd24703968d0a3c75",
        ),
    ] {
        let checkpoint = Checkpoint::named(&ModelName::parse(description).unwrap()).unwrap();
        assert_eq!(checkpoint.fingerprint().unwrap().to_string(), fingerprint);
    }
}

#[test]
fn the_fingerprint_is_that_of_the_bytes() {
    let fingerprint = |description: &str| {
        let name = ModelName::parse(description).unwrap();
        Checkpoint::named(&name).unwrap().fingerprint().unwrap()
    };
    let folder = Folder::new("tiny,shard_bytes=70000");
    let on_disk = || {
        Checkpoint::open(&folder.dir)
            .unwrap()
            .fingerprint()
            .unwrap()
    };
    assert_eq!(on_disk(), fingerprint("synth:tiny"));
    assert_ne!(on_disk(), fingerprint("synth:tiny,seed=1"));
    folder.edit_json("config.json", |config| config["sliding_window"] = 9.into());
    assert_ne!(on_disk(), fingerprint("synth:tiny"));
}

#[test]
fn reports_every_byte_once() {
    let temp = tempfile::tempdir().unwrap();
    let spec = Spec::parse("tiny").unwrap();
    let mut last = Progress { done: 0, total: 0 };
    let mut watch = |progress: Progress| {
        // At the end it is asked once more for each file that reached the disk.
        assert!(progress.done > last.done || progress.done == progress.total);
        last = progress;
        ControlFlow::Continue(())
    };
    let written = synth::write(&temp.path().join("m"), &spec, &PLAIN, &mut watch).unwrap();
    assert_eq!(last.done, last.total);
    assert_eq!(last.done, Checkpoint::synth(&spec).unwrap().num_bytes());
    let on_disk = contents(&written.dir);
    let on_disk: u64 = on_disk.iter().map(|(_, bytes)| bytes.len() as u64).sum();
    assert_eq!(on_disk, written.num_bytes);
}

/// Whoever waits for a slow disk can still stop.
#[test]
fn a_write_can_be_cancelled_until_its_files_are_on_disk() {
    let temp = tempfile::tempdir().unwrap();
    let mut ends = 0;
    let mut stop = |progress: Progress| {
        ends += u32::from(progress.done == progress.total);
        match ends {
            2 => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        }
    };
    let spec = Spec::parse("tiny").unwrap();
    let error = synth::write(&temp.path().join("m"), &spec, &PLAIN, &mut stop).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(contents(temp.path()).is_empty());
}

#[test]
fn refuses_sizes_that_no_disk_has() {
    let all = "tiny,hidden=16777184,intermediate=16777184,experts=16777215";
    let error = Spec::parse(all).unwrap_err().to_string();
    assert!(error.contains("sizes of the weights together: "), "{error}");
    // What is merely large is counted right, and refused for want of room.
    let large = Spec::parse("120b,hidden=65536,intermediate=65536,experts=4096").unwrap();
    let bytes = Checkpoint::synth(&large).unwrap().num_bytes();
    assert!(bytes > 1 << 49, "{bytes}");
    let temp = tempfile::tempdir().unwrap();
    let error = synth::write(&temp.path().join("m"), &large, &PLAIN, &mut go_on).unwrap_err();
    assert!(
        matches!(error, Error::NoSpace { needed, .. } if needed > bytes),
        "{error}"
    );
    assert!(contents(temp.path()).is_empty());
}

#[test]
fn lays_the_callers_files_beside_the_weights() {
    let temp = tempfile::tempdir().unwrap();
    let spec = Spec::parse("tiny").unwrap();
    let write = |name: &str| {
        let files = [(name.to_owned(), b"vocabulary".to_vec())];
        let options = WriteOptions {
            files: &files,
            ..PLAIN
        };
        synth::write(&temp.path().join("m"), &spec, &options, &mut go_on)
    };
    for name in ["config.json", "../a", "", "a/b", "x.safetensors", ".."] {
        let error = write(name).unwrap_err();
        assert!(matches!(error, Error::FileName { .. }), "{name:?}: {error}");
    }
    write("tokenizer.json").unwrap();
    assert_eq!(
        fs::read(temp.path().join("m/tokenizer.json")).unwrap(),
        b"vocabulary"
    );
}

#[test]
fn a_cancelled_write_leaves_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let spec = Spec::parse("mini").unwrap();
    let mut stop = |_| ControlFlow::Break(());
    let error = synth::write(&temp.path().join("m"), &spec, &PLAIN, &mut stop).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error}");
    assert!(contents(temp.path()).is_empty());
}

#[test]
fn overwrites_a_checkpoint_only_when_told() {
    let folder = Folder::tiny();
    let before = contents(&folder.dir);
    let spec = Spec::parse("tiny,seed=9").unwrap();
    let error = synth::write(&folder.dir, &spec, &PLAIN, &mut go_on).unwrap_err();
    assert!(matches!(error, Error::Exists { .. }), "{error}");
    assert_eq!(contents(&folder.dir), before);

    let overwrite = WriteOptions {
        overwrite: true,
        ..PLAIN
    };
    let mut stop = |_| ControlFlow::Break(());
    synth::write(&folder.dir, &spec, &overwrite, &mut stop).unwrap_err();
    assert_eq!(
        contents(&folder.dir),
        before,
        "cancelled: the old one stays"
    );

    synth::write(&folder.dir, &spec, &overwrite, &mut go_on).unwrap();
    assert_eq!(folder.shards(), ["model-00000-of-00000.safetensors"]);
    let checkpoint = Checkpoint::open(&folder.dir).unwrap();
    let wanted = Checkpoint::synth(&spec).unwrap();
    assert_eq!(
        checkpoint.fingerprint().unwrap(),
        wanted.fingerprint().unwrap()
    );
    let beside = fs::read_dir(folder.dir.parent().unwrap()).unwrap();
    assert_eq!(beside.count(), 1, "nothing is left beside it");
}

#[test]
fn never_overwrites_what_is_no_checkpoint() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("home");
    fs::create_dir(&dir).unwrap();
    fs::write(dir.join("thesis.txt"), "years").unwrap();
    let options = WriteOptions {
        overwrite: true,
        ..PLAIN
    };
    let spec = Spec::parse("tiny").unwrap();
    let error = synth::write(&dir, &spec, &options, &mut go_on).unwrap_err();
    assert!(matches!(error, Error::NotACheckpoint { .. }), "{error}");
    let error = synth::write(&dir.join("thesis.txt"), &spec, &options, &mut go_on).unwrap_err();
    assert!(matches!(error, Error::NotACheckpoint { .. }), "{error}");
    let error = synth::write(&dir.join("a/b"), &spec, &options, &mut go_on).unwrap_err();
    assert!(matches!(error, Error::Write { .. }), "{error}");
    assert_eq!(contents(&dir).len(), 1);
}

#[test]
fn writes_into_an_empty_folder() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("empty");
    fs::create_dir(&dir).unwrap();
    let spec = Spec::parse("tiny").unwrap();
    synth::write(&dir, &spec, &PLAIN, &mut go_on).unwrap();
    Checkpoint::open(&dir).unwrap();
}
