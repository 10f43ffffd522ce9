//! `config.json` and `generation_config.json`: what the model is and where it stops.
//!
//! Two forms of the rotary settings are taken: the published one (`rope_scaling` beside
//! `rope_theta`) and that of newer writers (`rope_parameters` with everything inside). Keys that
//! change nothing here (training settings, `dtype`, versions) are not looked at; keys that would
//! change the arithmetic in a way this program does not follow are refused.

mod fields;
mod rope;

use std::path::Path;

use serde_json::Value;
use spec::{Attention, Geometry, Sampling, TokenId};

use crate::fault::{Fault, Faults, What};
use crate::index::read_text;
use fields::Fields;

/// Name of the configuration.
pub(crate) const CONFIG: &str = "config.json";
/// Name of the file that says where a generation ends.
pub(crate) const GENERATION: &str = "generation_config.json";
/// Far above any real model; keeps a hostile file from asking for millions of tensors.
const MAX_LAYERS: usize = 1024;
/// What the authors' code uses where a configuration says nothing.
const DEFAULT_SWIGLU_LIMIT: f64 = 7.0;

/// What a checkpoint's configuration says.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The numbers that fix shapes and arithmetic.
    pub geometry: Geometry,
    /// First token of a text, where a caller wants one.
    pub bos: Option<TokenId>,
    /// Token that fills unused places.
    pub pad: Option<TokenId>,
    /// Tokens after which the model's turn is over, without repetition.
    pub eos: Vec<TokenId>,
    /// How the authors sample, as far as they say.
    pub sampling: SamplingDefaults,
}

/// Sampling settings of `generation_config.json`; the published files name none but `do_sample`.
/// Each lies in the range that [`Sampling::check`] demands.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SamplingDefaults {
    /// Whether to sample at all, or to take the likeliest token.
    pub do_sample: Option<bool>,
    /// Divides the logits; 0 where the file says not to sample.
    pub temperature: Option<f32>,
    /// Probability mass that is kept.
    pub top_p: Option<f32>,
    /// Number of tokens that are kept.
    pub top_k: Option<u32>,
}

/// What could be read of a configuration; faults may have left it incomplete.
#[derive(Debug, Default)]
pub(crate) struct Collected {
    /// The numbers, if all that shape tensors are sound.
    pub(crate) geometry: Option<Geometry>,
    /// Everything, if everything is sound.
    pub(crate) config: Option<ModelConfig>,
}

impl ModelConfig {
    /// Reads the configuration of a checkpoint's folder. `generation_config.json` may be absent.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with either file.
    pub fn read(dir: &Path) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let config = Self::collect(dir, &mut faults).config;
        Faults::or(&dir.display().to_string(), faults, config)
    }

    /// Takes the texts of `config.json` and, where there is one, `generation_config.json`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with either text.
    pub fn parse(config: &[u8], generation: Option<&[u8]>) -> Result<Self, Faults> {
        let mut faults = Vec::new();
        let parsed = parse(config, generation, &mut faults);
        Faults::or("configuration", faults, parsed.config)
    }

    /// Reads a folder's configuration as far as faults allow.
    pub(crate) fn collect(dir: &Path, faults: &mut Vec<Fault>) -> Collected {
        let config = read_text(dir, CONFIG, faults);
        let generation = if dir.join(GENERATION).exists() {
            read_text(dir, GENERATION, faults)
        } else {
            None
        };
        config.map_or_else(Collected::default, |config| {
            parse(&config, generation.as_deref(), faults)
        })
    }
}

fn parse(config: &[u8], generation: Option<&[u8]>, faults: &mut Vec<Fault>) -> Collected {
    let before = faults.len();
    let Some(root) = fields::object(CONFIG, config, faults) else {
        return Collected::default();
    };
    let mut fields = Fields::new(CONFIG, "", &root);
    refuse_other_models(&mut fields);
    let (geometry, shape_was_read) = geometry(&mut fields);
    let mut eos = fields.ids("eos_token_id").unwrap_or_default();
    let mut bos = fields.id("bos_token_id");
    let mut pad = fields.id("pad_token_id");
    fields.check_ids(&eos, geometry.vocab_size);
    fields.finish(faults);
    let impossible = geometry.faults().into_iter();
    faults.extend(impossible.map(|fault| Fault::file(CONFIG, What::Geometry(fault))));

    let mut sampling = SamplingDefaults::default();
    if let Some(root) = generation.and_then(|text| fields::object(GENERATION, text, faults)) {
        let mut fields = Fields::new(GENERATION, "", &root);
        // This file knows more ends of a turn than config.json, which names one.
        eos = fields.ids("eos_token_id").unwrap_or(eos);
        bos = fields.id("bos_token_id").or(bos);
        pad = fields.id("pad_token_id").or(pad);
        sampling = sampling_defaults(&mut fields);
        fields.check_ids(&eos, geometry.vocab_size);
        fields.check_ids(bos.as_slice(), geometry.vocab_size);
        fields.check_ids(pad.as_slice(), geometry.vocab_size);
        fields.finish(faults);
    }
    let has_shapes = shape_was_read && geometry.shape_faults().is_empty();
    Collected {
        geometry: has_shapes.then(|| geometry.clone()),
        config: (faults.len() == before).then_some(ModelConfig {
            geometry,
            bos,
            pad,
            eos,
            sampling,
        }),
    }
}

/// Reads how the authors sample; what no request could ask for is refused here too.
fn sampling_defaults(fields: &mut Fields<'_>) -> SamplingDefaults {
    let mut sampling = SamplingDefaults {
        do_sample: fields.flag("do_sample"),
        temperature: fields.real("temperature").map(|value| value as f32),
        top_p: fields.real("top_p").map(|value| value as f32),
        top_k: fields.size("top_k").map(|value| value as u32),
    };
    // One at a time, since a check tells the first fault only.
    let each = [
        sampling.temperature.map(|temperature| Sampling {
            temperature,
            ..Sampling::default()
        }),
        sampling.top_p.map(|top_p| Sampling {
            top_p,
            ..Sampling::default()
        }),
    ];
    for alone in each.into_iter().flatten() {
        // No setting that is read here speaks of tokens.
        if let Err(error) = alone.check(0) {
            fields.report(What::Sampling(error));
        }
    }
    if sampling.do_sample == Some(false) {
        sampling.temperature = Some(0.0);
    }
    sampling
}

/// Refuses configurations whose arithmetic is not gpt-oss's.
fn refuse_other_models(fields: &mut Fields<'_>) {
    fields.demand("model_type", true, &Value::from("gpt_oss"));
    fields.demand("attention_bias", true, &Value::from(true));
    fields.demand("tie_word_embeddings", false, &Value::from(false));
    fields.demand("hidden_act", false, &Value::from("silu"));
    if let Some(mut quantization) = fields.child("quantization_config", true) {
        quantization.demand("quant_method", true, &Value::from("mxfp4"));
        fields.join(quantization);
    }
}

/// Reads the geometry, and returns whether all that shapes tensors could be read. A key that is
/// missing or malformed is reported, and stands in as a value that no later check trips over, so
/// that the list of faults holds no echoes.
fn geometry(fields: &mut Fields<'_>) -> (Geometry, bool) {
    const LARGEST: usize = (1 << 24) - 1;
    let mut num_layers = fields.need_size("num_hidden_layers");
    if let Some(many) = num_layers.take_if(|num_layers| *num_layers > MAX_LAYERS) {
        let expected = format!("at most {MAX_LAYERS}");
        fields.refuse("num_hidden_layers", expected, &many.into());
    }
    let per_token = fields.need_size_either("num_experts_per_tok", "experts_per_token");
    let num_kv_heads = fields.need_size("num_key_value_heads");
    let num_heads = fields.need_size("num_attention_heads");
    let layers = layers(fields, num_layers);
    let [hidden, intermediate, num_experts, head_dim, vocab_size] = [
        "hidden_size",
        "intermediate_size",
        "num_local_experts",
        "head_dim",
        "vocab_size",
    ]
    .map(|key| fields.need_size(key));
    let shape = [
        num_layers,
        num_kv_heads,
        num_heads,
        hidden,
        intermediate,
        num_experts,
        head_dim,
        vocab_size,
    ];
    let num_kv_heads = num_kv_heads.unwrap_or(1);
    let mut geometry = Geometry {
        layers,
        hidden: hidden.unwrap_or(32),
        intermediate: intermediate.unwrap_or(32),
        num_experts: num_experts.unwrap_or(LARGEST),
        experts_per_token: per_token.unwrap_or(1),
        num_heads: num_heads.unwrap_or(num_kv_heads),
        num_kv_heads,
        head_dim: head_dim.unwrap_or(2),
        vocab_size: vocab_size.unwrap_or(LARGEST),
        sliding_window: fields.need_size("sliding_window").unwrap_or(1),
        max_positions: fields.need_size("max_position_embeddings").unwrap_or(1),
        rope: rope::unscaled(None),
        rms_norm_eps: 1.0,
        swiglu_limit: DEFAULT_SWIGLU_LIMIT as f32,
    };
    geometry.rope = rope::read(fields);
    let eps = fields.need_real("rms_norm_eps");
    geometry.rms_norm_eps = eps.unwrap_or(1.0) as f32;
    let limit = fields.real("swiglu_limit");
    geometry.swiglu_limit = limit.unwrap_or(DEFAULT_SWIGLU_LIMIT) as f32;
    (geometry, shape.iter().all(Option::is_some))
}

/// Reads the kind of every layer; without `layer_types` they alternate, sliding first, as in the
/// authors' code, and stand in for a list that does not fit.
fn layers(fields: &mut Fields<'_>, num_layers: Option<usize>) -> Vec<Attention> {
    const KEY: &str = "layer_types";
    let known = num_layers;
    let num_layers = known.unwrap_or(1);
    let alternate = |layer: usize| match layer % 2 {
        0 => Attention::Sliding,
        _ => Attention::Full,
    };
    let Some(value) = fields.value(KEY) else {
        return (0..num_layers).map(alternate).collect();
    };
    let kind = |value: &Value| match value.as_str() {
        Some("sliding_attention") => Some(Attention::Sliding),
        Some("full_attention") => Some(Attention::Full),
        _ => None,
    };
    let list: Option<Vec<Attention>> = value
        .as_array()
        .and_then(|list| list.iter().map(kind).collect());
    let Some(list) = list else {
        let expected = r#"a list of "sliding_attention" and "full_attention""#;
        fields.refuse(KEY, expected.to_owned(), value);
        return (0..num_layers).map(alternate).collect();
    };
    if known.is_some() && list.len() != num_layers {
        let expected = format!("{num_layers} entries, as num_hidden_layers says");
        fields.refuse(KEY, expected, &list.len().into());
        return (0..num_layers).map(alternate).collect();
    }
    list
}

#[cfg(test)]
mod tests;
