//! Random-weight models in the published layout: described in a few words, made in memory or
//! written to a folder, with the same bytes.

mod layout;
mod preset;
mod texts;
mod values;
mod write;

use std::fmt;

use spec::{Attention, Geometry, GeometryError, Rope, TokenId};

use crate::config::{ModelConfig, SamplingDefaults};
pub use preset::Preset;
pub(crate) use values::Stream;
pub use write::{WriteOptions, Written, write};

/// What stands before a synthetic model's description where a model is named.
pub const PREFIX: &str = "synth:";

/// The published models' context, the same in every synthetic one.
pub(crate) const MAX_POSITIONS: usize = 131_072;

/// A synthetic model: a preset, and what differs from it.
///
/// Its text form is `synth:PRESET[,key=value]…` with the keys `layers`, `experts`,
/// `experts_per_token`, `hidden`, `intermediate`, `heads`, `kv_heads`, `head_dim`, `vocab`,
/// `window`, `seed`, `shard_bytes` and `edge_scales`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// Where the other values come from.
    pub preset: Preset,
    /// Number of layers; sliding and full alternate, sliding first.
    pub layers: usize,
    /// Experts of a layer.
    pub experts: usize,
    /// Experts a token visits.
    pub experts_per_token: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Width inside an expert.
    pub intermediate: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads.
    pub kv_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Rows of the vocabulary.
    pub vocab: usize,
    /// Keys a sliding layer sees.
    pub window: usize,
    /// All weights follow from it.
    pub seed: u64,
    /// Bytes of tensors after which a new file is begun.
    pub shard_bytes: u64,
    /// Whether two in a hundred blocks get the scale byte 0 or 1, which decode to almost nothing.
    pub edge_scales: bool,
    /// The ids the configuration names, those of its tokenizer; `None` where there is none: the last four.
    pub special: Option<SpecialIds>,
}

/// The token ids that a checkpoint's configuration names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpecialIds {
    /// First token of a text.
    pub bos: TokenId,
    /// Fills unused places, and ends a text.
    pub pad: TokenId,
    /// Ends the model's turn.
    pub eos: TokenId,
    /// Ends the model's turn with a tool call.
    pub call: TokenId,
}

impl SpecialIds {
    /// The last four rows, of a model without a tokenizer.
    fn last_of(vocab: usize) -> Self {
        let last = |back: usize| TokenId(vocab.saturating_sub(back) as u32);
        Self {
            bos: last(4),
            pad: last(1),
            eos: last(2),
            call: last(3),
        }
    }
}

/// Why a synthetic model's description was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No preset of that name.
    #[error("{name:?} is not a preset (tiny, mini, 20b, 120b)")]
    Preset {
        /// The name.
        name: String,
    },
    /// A part is not `key=value`, or the key is not known.
    #[error("{part:?} is not one of KEY=VALUE with {}", keys())]
    Key {
        /// The part.
        part: String,
    },
    /// A value cannot be read.
    #[error("{key}: {value:?} is not {expected}")]
    Value {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it should be.
        expected: &'static str,
    },
    /// The model described cannot be served.
    #[error("this model cannot be served: {0}")]
    Geometry(GeometryError),
    /// A special id is not a row of the vocabulary.
    #[error("special id {id} is outside the vocabulary of {vocab} tokens")]
    SpecialId {
        /// The id.
        id: TokenId,
        /// Rows of the vocabulary.
        vocab: usize,
    },
}

/// The whole numbers of a description: key, value to read, value to write.
type Number = (&'static str, fn(&Spec) -> u64, fn(&mut Spec, u64));

macro_rules! number {
    ($key:literal, $field:ident) => {
        (
            $key,
            |spec| spec.$field as u64,
            |spec, value| spec.$field = value as _,
        )
    };
}

const NUMBERS: [Number; 12] = [
    number!("layers", layers),
    number!("experts", experts),
    number!("experts_per_token", experts_per_token),
    number!("hidden", hidden),
    number!("intermediate", intermediate),
    number!("heads", heads),
    number!("kv_heads", kv_heads),
    number!("head_dim", head_dim),
    number!("vocab", vocab),
    number!("window", window),
    number!("seed", seed),
    number!("shard_bytes", shard_bytes),
];
const EDGE_SCALES: &str = "edge_scales";

fn keys() -> String {
    let mut keys: Vec<&str> = NUMBERS.iter().map(|(key, ..)| *key).collect();
    keys.push(EDGE_SCALES);
    keys.join(", ")
}

impl Spec {
    /// Returns a preset as it is.
    #[must_use]
    pub fn new(preset: Preset) -> Self {
        preset.spec()
    }

    /// Reads a description, with or without the leading `synth:`.
    ///
    /// # Errors
    ///
    /// The first part that cannot be read, or the first number that makes no model.
    pub fn parse(text: &str) -> Result<Self, SpecError> {
        let text = text.strip_prefix(PREFIX).unwrap_or(text);
        let mut parts = text.split(',');
        let name = parts.next().unwrap_or_default();
        let preset = Preset::ALL.into_iter().find(|p| p.name() == name);
        let mut spec = Self::new(preset.ok_or_else(|| SpecError::Preset {
            name: name.to_owned(),
        })?);
        for part in parts {
            let (key, value) = part.split_once('=').ok_or_else(|| SpecError::Key {
                part: part.to_owned(),
            })?;
            spec.set(key, value)?;
        }
        spec.check()?;
        Ok(spec)
    }

    /// Changes one value by its key, in which `-` and `_` are the same. Check the whole with
    /// [`Spec::check`] at the end.
    ///
    /// # Errors
    ///
    /// If there is no such key or the value is not one for it.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), SpecError> {
        let name = key.trim().replace('-', "_");
        if name == EDGE_SCALES {
            self.edge_scales = value.parse().map_err(|_| SpecError::Value {
                key: EDGE_SCALES,
                value: value.to_owned(),
                expected: "true or false",
            })?;
            return Ok(());
        }
        let number = NUMBERS.iter().find(|(key, ..)| *key == name);
        let (key, _, write) = number.ok_or_else(|| SpecError::Key {
            part: format!("{key}={value}"),
        })?;
        let read = value.trim().parse().map_err(|_| SpecError::Value {
            key,
            value: value.to_owned(),
            expected: "a whole number",
        })?;
        write(self, read);
        Ok(())
    }

    /// Checks that the values make a model.
    ///
    /// # Errors
    ///
    /// The first number or id that does not.
    pub fn check(&self) -> Result<(), SpecError> {
        let refused = |key, why: &str| {
            let why = why.to_owned();
            Err(SpecError::Geometry(GeometryError { key, why }))
        };
        if self.layers > 1024 {
            return refused("num_hidden_layers", "more than 1024 layers");
        }
        if self.shard_bytes == 0 {
            return refused("shard_bytes", "must be at least 1");
        }
        if let Some(fault) = self.geometry().faults().into_iter().next() {
            return Err(SpecError::Geometry(fault));
        }
        let ids = self.special_ids();
        for id in [ids.bos, ids.pad, ids.eos, ids.call] {
            if id.index() >= self.vocab {
                let vocab = self.vocab;
                return Err(SpecError::SpecialId { id, vocab });
            }
        }
        Ok(())
    }

    /// Returns the ids the configuration names.
    #[must_use]
    pub fn special_ids(&self) -> SpecialIds {
        self.special
            .unwrap_or_else(|| SpecialIds::last_of(self.vocab))
    }

    /// Returns what the configuration written for this model says.
    #[must_use]
    pub fn config(&self) -> ModelConfig {
        let ids = self.special_ids();
        let mut eos = vec![ids.eos];
        for id in [ids.pad, ids.call] {
            if !eos.contains(&id) {
                eos.push(id);
            }
        }
        ModelConfig {
            geometry: self.geometry(),
            bos: Some(ids.bos),
            pad: Some(ids.pad),
            eos,
            sampling: SamplingDefaults {
                do_sample: Some(true),
                ..SamplingDefaults::default()
            },
        }
    }

    /// Returns the model's numbers.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        let kind = |layer: usize| match layer % 2 {
            0 => Attention::Sliding,
            _ => Attention::Full,
        };
        Geometry {
            layers: (0..self.layers).map(kind).collect(),
            hidden: self.hidden,
            intermediate: self.intermediate,
            num_experts: self.experts,
            experts_per_token: self.experts_per_token,
            num_heads: self.heads,
            num_kv_heads: self.kv_heads,
            head_dim: self.head_dim,
            vocab_size: self.vocab,
            sliding_window: self.window,
            max_positions: MAX_POSITIONS,
            rope: Rope::GPT_OSS,
            rms_norm_eps: 1e-5,
            swiglu_limit: 7.0,
        }
    }
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.preset.name())?;
        let preset = Self::new(self.preset);
        for (key, value, _) in NUMBERS {
            if value(self) != value(&preset) {
                write!(f, ",{key}={}", value(self))?;
            }
        }
        if self.edge_scales {
            write!(f, ",{EDGE_SCALES}=true")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
