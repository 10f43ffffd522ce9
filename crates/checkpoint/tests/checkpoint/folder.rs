//! A small checkpoint in a temporary folder, and the tools to damage it.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use checkpoint::synth::{self, Spec, WriteOptions};
use checkpoint::{Checkpoint, Progress};
use serde_json::Value;
use tempfile::TempDir;

/// Lets every piece of work run to its end.
pub(crate) fn go_on(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

pub(crate) const PLAIN: WriteOptions<'_> = WriteOptions {
    files: &[],
    overwrite: false,
    threads: 2,
};

/// A checkpoint of several shards that a test may change.
pub(crate) struct Folder {
    _temp: TempDir,
    pub(crate) dir: PathBuf,
}

impl Folder {
    pub(crate) fn new(description: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("model");
        let spec = Spec::parse(description).unwrap();
        synth::write(&dir, &spec, &PLAIN, &mut go_on).unwrap();
        Self { _temp: temp, dir }
    }

    /// The tiny model in six files; some layers are split between two.
    pub(crate) fn tiny() -> Self {
        let folder = Self::new("tiny,shard_bytes=120000");
        assert_eq!(folder.shards().len(), 6);
        folder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Names of the files of weights.
    pub(crate) fn shards(&self) -> Vec<String> {
        let names = fs::read_dir(&self.dir).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<String> = names.filter(|n| n.ends_with(".safetensors")).collect();
        names.sort();
        names
    }

    /// Returns the file that holds a tensor.
    pub(crate) fn shard_of(&self, tensor: &str) -> String {
        let index = fs::read(self.path("model.safetensors.index.json")).unwrap();
        let index: Value = serde_json::from_slice(&index).unwrap();
        index["weight_map"][tensor].as_str().unwrap().to_owned()
    }

    /// Changes a JSON file.
    pub(crate) fn edit_json(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut value = serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap();
        edit(&mut value);
        fs::write(self.path(name), value.to_string()).unwrap();
    }

    /// Changes a shard's header and leaves its data.
    pub(crate) fn edit_header(&self, shard: &str, edit: impl FnOnce(&mut Value)) {
        self.edit_header_text(shard, |text| {
            let mut value = serde_json::from_str(text).unwrap();
            edit(&mut value);
            value.to_string()
        });
    }

    pub(crate) fn edit_header_text(&self, shard: &str, edit: impl FnOnce(&str) -> String) {
        let bytes = fs::read(self.path(shard)).unwrap();
        let (text, data) = split(&bytes);
        let mut text = edit(std::str::from_utf8(text).unwrap());
        while !text.len().is_multiple_of(8) {
            text.push(' ');
        }
        fs::write(self.path(shard), join(text.as_bytes(), data)).unwrap();
    }

    /// Opens the checkpoint and returns its faults, one a line.
    pub(crate) fn faults(&self) -> Vec<String> {
        let faults = Checkpoint::open(&self.dir).expect_err("the checkpoint is broken");
        faults.list.iter().map(ToString::to_string).collect()
    }
}

/// Takes a shard apart into header text and data.
pub(crate) fn split(shard: &[u8]) -> (&[u8], &[u8]) {
    let (length, rest) = shard.split_first_chunk().unwrap();
    rest.split_at(u64::from_le_bytes(*length) as usize)
}

/// Puts a shard together.
pub(crate) fn join(header: &[u8], data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header, data].concat()
}

/// Returns all files of a folder with their bytes, by name.
pub(crate) fn contents(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let files = fs::read_dir(dir).unwrap().map(|entry| {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        (name, fs::read(path).unwrap())
    });
    let mut files: Vec<_> = files.collect();
    files.sort();
    files
}
