//! The order of the tensors, where the files are cut, and the bytes of their headers.
//!
//! The published files were converted from `original/`, which lists the layers in the order of
//! their names as text (0, 1, 10, 11, …, 2, 20, …). For 120b the converter read the seven files
//! of `original/` in the order of a directory listing; following it gives the same index.

use std::fmt::Write;

use spec::Geometry;

use super::{Preset, Spec};
use crate::tensors::{Key, TensorSpec, Weight};

/// Bytes at which the files of `original/` were cut.
const ORIGINAL_FILE_BYTES: u64 = 10 << 30;
/// The order in which 120b's seven files were read.
const ORIGINAL_FILE_ORDER: [usize; 7] = [3, 2, 5, 1, 0, 6, 4];

/// Lists all tensors in the order of the published index.
fn published_order(spec: &Spec) -> Vec<TensorSpec> {
    let geometry = spec.geometry();
    let mut groups = by_name(&geometry);
    if geometry == Spec::new(Preset::Gpt120b).geometry() {
        let files = cut(groups, ORIGINAL_FILE_BYTES, |group| bytes_of(group));
        let files = ORIGINAL_FILE_ORDER.map(|file| files[file].clone());
        groups = files.into_iter().flatten().collect();
    }
    groups.into_iter().flatten().collect()
}

/// Lists the tensors of `original/`, each as the tensors it became: query, key and value are one
/// tensor there, and a file was never cut between them.
fn by_name(geometry: &Geometry) -> Vec<Vec<TensorSpec>> {
    let mut layers: Vec<usize> = (0..geometry.num_layers()).collect();
    layers.sort_by_key(usize::to_string);
    let mut groups: Vec<Vec<TensorSpec>> = Vec::new();
    for layer in layers {
        for weight in Weight::ALL {
            let tensor = TensorSpec::new(Key::Layer(layer, weight), geometry);
            match weight {
                Weight::KeyBias | Weight::ValueBias | Weight::Key | Weight::Value => {
                    let fused = groups.last_mut().expect("the query comes before them");
                    fused.push(tensor);
                }
                _ => groups.push(vec![tensor]),
            }
        }
    }
    let rest = [Key::Embedding, Key::FinalNorm, Key::Head];
    groups.extend(rest.map(|key| vec![TensorSpec::new(key, geometry)]));
    groups
}

fn bytes_of(tensors: &[TensorSpec]) -> u64 {
    tensors.iter().map(TensorSpec::num_bytes).sum()
}

/// Cuts a list greedily so that no part has more than `limit` bytes, unless one item alone does.
fn cut<T>(items: Vec<T>, limit: u64, bytes: impl Fn(&T) -> u64) -> Vec<Vec<T>> {
    let mut parts: Vec<Vec<T>> = vec![Vec::new()];
    let mut filled = 0;
    for item in items {
        let size = bytes(&item);
        let part = match parts.last_mut() {
            Some(part) if part.is_empty() || filled + size <= limit => part,
            _ => {
                filled = 0;
                parts.push_mut(Vec::new())
            }
        };
        filled += size;
        part.push(item);
    }
    parts
}

/// One file of weights, as it will be written.
pub(crate) struct Shard {
    /// Its name.
    pub(crate) name: String,
    /// Length, header text and padding.
    pub(crate) header: Vec<u8>,
    /// The tensors in the order of their data.
    pub(crate) tensors: Vec<TensorSpec>,
}

impl Shard {
    fn new(name: String, mut tensors: Vec<TensorSpec>) -> Self {
        // Larger elements first, then by name: the order that the format's own writer uses.
        tensors.sort_by(|a, b| (b.dtype.size(), &a.name).cmp(&(a.dtype.size(), &b.name)));
        Self {
            name,
            header: header(&tensors),
            tensors,
        }
    }

    /// Returns the size of the file.
    pub(crate) fn num_bytes(&self) -> u64 {
        self.header.len() as u64 + bytes_of(&self.tensors)
    }
}

fn header(tensors: &[TensorSpec]) -> Vec<u8> {
    let mut text = String::from("{");
    let mut offset = 0;
    for tensor in tensors {
        let TensorSpec {
            name, dtype, shape, ..
        } = tensor;
        let sides: Vec<String> = shape.iter().map(usize::to_string).collect();
        let (sides, end) = (sides.join(","), offset + tensor.num_bytes());
        let comma = if offset == 0 { "" } else { "," };
        write!(
            text,
            r#"{comma}"{name}":{{"dtype":"{dtype}","shape":[{sides}],"data_offsets":[{offset},{end}]}}"#
        )
        .expect("writing to a string does not fail");
        offset = end;
    }
    text.push('}');
    // Padded with blanks, so that the data begins at a multiple of 8.
    let padded = text.len().next_multiple_of(8);
    let mut bytes = (padded as u64).to_le_bytes().to_vec();
    bytes.extend(text.into_bytes());
    bytes.resize(8 + padded, b' ');
    bytes
}

/// All files of weights and their index.
pub(crate) struct Layout {
    /// The files, in order.
    pub(crate) shards: Vec<Shard>,
    /// Text of `model.safetensors.index.json`: one line without a newline.
    pub(crate) index: String,
}

impl Layout {
    /// Lays a model out.
    pub(crate) fn new(spec: &Spec) -> Self {
        let order = published_order(spec);
        let total = bytes_of(&order);
        let parts = cut(order, spec.shard_bytes, TensorSpec::num_bytes);
        // Counted from zero, and "of" the last number instead of how many there are.
        let last = parts.len() - 1;
        let name = |i: usize| format!("model-{i:05}-of-{last:05}.safetensors");
        let mut index = format!(r#"{{"metadata": {{"total_size": {total}}}, "weight_map": {{"#);
        let mut comma = "";
        for (i, part) in parts.iter().enumerate() {
            for tensor in part {
                write!(index, r#"{comma}"{}": "{}""#, tensor.name, name(i))
                    .expect("writing to a string does not fail");
                comma = ", ";
            }
        }
        index.push_str("}}");
        let shards = parts.into_iter().enumerate();
        let shards = shards.map(|(i, part)| Shard::new(name(i), part)).collect();
        Self { shards, index }
    }
}
