//! Reads the files that `make.py` wrote.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use serde_json::Value;
use spec::TokenId;

/// One case: what transformers computed, and for which model and prompt.
pub(crate) struct Golden {
    pub(crate) name: String,
    /// The model, as `checkpoint::synth::Spec::parse` reads it.
    pub(crate) spec: String,
    pub(crate) fingerprint: String,
    pub(crate) prompt: Vec<TokenId>,
    /// How far a logit may be off.
    pub(crate) tolerance: f64,
    /// Positions whose stages are kept.
    pub(crate) stages: Vec<usize>,
    /// First position whose row is kept.
    pub(crate) first_row: usize,
    pub(crate) inv_freq: Vec<f32>,
    pub(crate) vocab_ids: Vec<usize>,
    /// `[rows, vocab_ids]`.
    pub(crate) logits: Vec<f32>,
    pub(crate) log_sum_exp: Vec<f32>,
    pub(crate) argmax: Vec<i32>,
    pub(crate) margin: Vec<f32>,
    /// `[layers, rows, k]`.
    pub(crate) experts: Vec<u8>,
    /// `[layers, rows]`.
    pub(crate) router_margin: Vec<f32>,
    pub(crate) greedy: Vec<i32>,
    pub(crate) greedy_margin: Vec<f32>,
    stage_tensors: HashMap<String, Vec<f32>>,
}

impl Golden {
    pub(crate) fn read(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
        let bytes = fs::read(folder.join(format!("{name}.safetensors"))).unwrap();
        let file = Tensors::parse(&bytes);
        let case: HashMap<&str, Value> = file.metadata.as_object().unwrap().iter().fold(
            HashMap::new(),
            |mut case, (key, text)| {
                let text = text.as_str().unwrap();
                let value = serde_json::from_str(text).unwrap_or_else(|_| Value::from(text));
                case.insert(key, value);
                case
            },
        );
        let text = |key: &str| case[key].as_str().unwrap().to_owned();
        let number = |key: &str| case[key].as_u64().unwrap();
        let (spec, tokens) = (text("spec"), number("tokens") as usize);
        let stages = case.get("stages").map_or(Vec::new(), |positions| {
            let positions = positions.as_array().unwrap();
            positions
                .iter()
                .map(|p| p.as_u64().unwrap() as usize)
                .collect()
        });
        let vocab_size = checkpoint::synth::Spec::parse(&spec).unwrap().vocab;
        let argmax = file.words("argmax", i32::from_le_bytes);
        let stage_names = file.header.keys().filter(|name| name.starts_with("stage."));
        Self {
            name: name.to_owned(),
            fingerprint: text("fingerprint"),
            prompt: token_ids(number("seed"), tokens, vocab_size),
            tolerance: case["tolerance"].as_f64().unwrap(),
            stages,
            first_row: tokens - argmax.len(),
            inv_freq: file.words("inv_freq", f32::from_le_bytes),
            vocab_ids: file
                .words("vocab_ids", u32::from_le_bytes)
                .into_iter()
                .map(|id| id as usize)
                .collect(),
            logits: file.words("logits", f32::from_le_bytes),
            log_sum_exp: file.words("log_sum_exp", f32::from_le_bytes),
            argmax,
            margin: file.words("margin", f32::from_le_bytes),
            experts: file.bytes("experts").to_vec(),
            router_margin: file.words("router_margin", f32::from_le_bytes),
            greedy: file.words("greedy", i32::from_le_bytes),
            greedy_margin: file.words("greedy_margin", f32::from_le_bytes),
            stage_tensors: stage_names
                .map(|name| (name.clone(), file.words(name, f32::from_le_bytes)))
                .collect(),
            spec,
        }
    }

    /// Rows that are kept.
    pub(crate) fn rows(&self) -> usize {
        self.argmax.len()
    }

    /// A tensor `stage.NAME`, `[stages, …]`.
    pub(crate) fn stage(&self, name: &str) -> &[f32] {
        &self.stage_tensors[&format!("stage.{name}")]
    }
}

/// SplitMix64, as in `make.py`.
fn token_ids(seed: u64, count: usize, vocab_size: usize) -> Vec<TokenId> {
    let id = |i: u64| {
        let mut z = seed.wrapping_add(i.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        TokenId(((z ^ (z >> 31)) % vocab_size as u64) as u32)
    };
    (1..=count as u64).map(id).collect()
}

/// A safetensors file.
struct Tensors<'a> {
    header: serde_json::Map<String, Value>,
    metadata: Value,
    payload: &'a [u8],
}

impl<'a> Tensors<'a> {
    fn parse(bytes: &'a [u8]) -> Self {
        let (len, rest) = bytes.split_at(8);
        let len = u64::from_le_bytes(len.try_into().unwrap()) as usize;
        let (header, payload) = rest.split_at(len);
        let mut header: serde_json::Map<String, Value> = serde_json::from_slice(header).unwrap();
        let metadata = header.remove("__metadata__").unwrap();
        Self {
            header,
            metadata,
            payload,
        }
    }

    fn bytes(&self, name: &str) -> &'a [u8] {
        let offset = |i: usize| self.header[name]["data_offsets"][i].as_u64().unwrap() as usize;
        &self.payload[offset(0)..offset(1)]
    }

    fn words<T>(&self, name: &str, read: fn([u8; 4]) -> T) -> Vec<T> {
        let (words, rest) = self.bytes(name).as_chunks::<4>();
        assert!(rest.is_empty(), "{name} is not of 32-bit words");
        words.iter().map(|word| read(*word)).collect()
    }
}
