//! Which files hold the weights: `model.safetensors.index.json`, or a single file without one.
//!
//! Shard names are taken from the index, never built from a count: the published ones count from
//! zero and say the last index where others say the number of files. Only the folder itself is
//! looked at; `original/` and `metal/` hold the same numbers in other layouts.

use std::fs;
use std::io::Read;
use std::path::Path;

use serde_json::{Map, Value};

use crate::fault::{FOLDER, Fault, What};
use crate::json;

/// Name of the index.
pub(crate) const INDEX: &str = "model.safetensors.index.json";
/// Name of the only file of a checkpoint that has no index.
const SINGLE: &str = "model.safetensors";
const EXTENSION: &str = ".safetensors";
/// Far above the some 50 kB of a real index or configuration.
const MAX_TEXT_BYTES: u64 = 16 << 20;

/// Reads a text file of the checkpoint whole, within a limit.
pub(crate) fn read_text(dir: &Path, name: &str, faults: &mut Vec<Fault>) -> Option<Vec<u8>> {
    let read = || {
        let file = fs::File::open(dir.join(name))?;
        let size = file.metadata()?.len();
        let mut bytes = Vec::new();
        file.take(MAX_TEXT_BYTES + 1).read_to_end(&mut bytes)?;
        Ok((size, bytes))
    };
    match read() {
        Ok((size, bytes)) if bytes.len() as u64 > MAX_TEXT_BYTES => {
            let limit = MAX_TEXT_BYTES;
            faults.push(Fault::file(name, What::TooLarge { size, limit }));
            None
        }
        Ok((_, bytes)) => Some(bytes),
        Err(error) => {
            faults.push(Fault::unreadable(name, &error));
            None
        }
    }
}

/// The files of a checkpoint and what each should hold.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// File names, ascending.
    pub(crate) shards: Vec<String>,
    /// Tensor and the shard it is in, as the index says; `None` where there is no index.
    pub(crate) tensors: Option<Vec<(String, usize)>>,
    /// Bytes of all tensors, if the index says them.
    pub(crate) total_size: Option<u64>,
}

impl Index {
    /// Reads the index of `dir`, or finds the single file that needs none.
    pub(crate) fn read(dir: &Path, faults: &mut Vec<Fault>) -> Self {
        let has_index = dir.join(INDEX).exists();
        let index = if !has_index && dir.join(SINGLE).exists() {
            Self {
                shards: vec![SINGLE.to_owned()],
                ..Self::default()
            }
        } else {
            let text = read_text(dir, INDEX, faults);
            text.map_or_else(Self::default, |text| Self::parse(&text, faults))
        };
        index.refuse_extra_files(dir, faults);
        index
    }

    fn parse(text: &[u8], faults: &mut Vec<Fault>) -> Self {
        let value = match json::parse(text) {
            Ok(value) => value,
            Err(error) => {
                let why = error.to_string();
                faults.push(Fault::file(INDEX, What::Json { why }));
                return Self::default();
            }
        };
        let total_size = value.pointer("/metadata/total_size");
        let mut index = Self {
            total_size: total_size.and_then(Value::as_u64),
            ..Self::default()
        };
        match value.get("weight_map") {
            Some(Value::Object(map)) => index.take_map(map, faults),
            Some(other) => {
                let what = What::Key {
                    key: "weight_map".to_owned(),
                    expected: "an object".to_owned(),
                    found: json::excerpt(other),
                };
                faults.push(Fault::file(INDEX, what));
            }
            None => {
                let key = "weight_map".to_owned();
                faults.push(Fault::file(INDEX, What::KeyMissing { key }));
            }
        }
        index
    }

    fn take_map(&mut self, map: &Map<String, Value>, faults: &mut Vec<Fault>) {
        let mut entries = Vec::with_capacity(map.len());
        for (tensor, shard) in map {
            match shard.as_str() {
                Some(shard) if is_plain(shard) => entries.push((tensor, shard)),
                _ => {
                    let shard = json::excerpt(shard);
                    faults.push(Fault::tensor(INDEX, tensor, What::ShardName { shard }));
                }
            }
        }
        self.shards = entries
            .iter()
            .map(|(_, shard)| (*shard).to_owned())
            .collect();
        self.shards.sort();
        self.shards.dedup();
        let place = |shard: &str| self.shards.partition_point(|name| name.as_str() < shard);
        let tensors = entries
            .iter()
            .map(|(tensor, shard)| ((*tensor).clone(), place(shard)));
        self.tensors = Some(tensors.collect());
    }

    /// Files that look like weights but are not the model's are a half-finished download or
    /// another model's, and the reader of the folder should know.
    fn refuse_extra_files(&self, dir: &Path, faults: &mut Vec<Fault>) {
        let names = fs::read_dir(dir).and_then(|entries| {
            let names = entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
            names.collect::<Result<Vec<String>, std::io::Error>>()
        });
        match names {
            Ok(mut names) => {
                names.sort();
                names.retain(|name| is_shard(name) && !self.shards.contains(name));
                // Without an index every file would be extra, and only the index is to blame.
                if !self.shards.is_empty() {
                    faults.extend(names.iter().map(|name| Fault::file(name, What::FileExtra)));
                }
            }
            Err(error) => faults.push(Fault::unreadable(FOLDER, &error)),
        }
    }
}

/// Returns whether a file's name is that of a file of weights.
pub(crate) fn is_shard(name: &str) -> bool {
    name.ends_with(EXTENSION)
}

/// Returns whether a shard's name stays inside the folder.
fn is_plain(name: &str) -> bool {
    is_shard(name) && !name.contains(['/', '\\', '\0'])
}
