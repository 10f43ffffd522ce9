//! `config.json` and `generation_config.json`, letter by letter as published.

use spec::{Attention, Rope};

use super::{MAX_POSITIONS, Spec};

/// Writes `config.json`: keys in alphabetical order, indented by two, with a final newline.
pub(super) fn config_json(spec: &Spec) -> String {
    let ids = spec.special_ids();
    let Rope {
        theta,
        factor,
        original_max_positions,
        ..
    } = Rope::GPT_OSS;
    let layer_types = layer_types(spec);
    format!(
        r#"{{
  "architectures": [
    "GptOssForCausalLM"
  ],
  "attention_bias": true,
  "attention_dropout": 0.0,
  "eos_token_id": {eos},
  "experts_per_token": {experts_per_token},
  "head_dim": {head_dim},
  "hidden_act": "silu",
  "hidden_size": {hidden},
  "initial_context_length": {original_max_positions},
  "initializer_range": 0.02,
  "intermediate_size": {intermediate},
  "layer_types": [
{layer_types}
  ],
  "max_position_embeddings": {MAX_POSITIONS},
  "model_type": "gpt_oss",
  "num_attention_heads": {heads},
  "num_experts_per_tok": {experts_per_token},
  "num_hidden_layers": {layers},
  "num_key_value_heads": {kv_heads},
  "num_local_experts": {experts},
  "output_router_logits": false,
  "pad_token_id": {pad},
  "quantization_config": {{
    "modules_to_not_convert": [
      "model.layers.*.self_attn",
      "model.layers.*.mlp.router",
      "model.embed_tokens",
      "lm_head"
    ],
    "quant_method": "mxfp4"
  }},
  "rms_norm_eps": 1e-05,
  "rope_scaling": {{
    "beta_fast": 32.0,
    "beta_slow": 1.0,
    "factor": {factor:.1},
    "original_max_position_embeddings": {original_max_positions},
    "rope_type": "yarn",
    "truncate": false
  }},
  "rope_theta": {theta},
  "router_aux_loss_coef": 0.9,
  "sliding_window": {window},
  "swiglu_limit": 7.0,
  "tie_word_embeddings": false,
  "transformers_version": "4.55.0.dev0",
  "use_cache": true,
  "vocab_size": {vocab}
}}
"#,
        eos = ids.eos,
        pad = ids.pad,
        experts_per_token = spec.experts_per_token,
        head_dim = spec.head_dim,
        hidden = spec.hidden,
        intermediate = spec.intermediate,
        heads = spec.heads,
        layers = spec.layers,
        kv_heads = spec.kv_heads,
        experts = spec.experts,
        window = spec.window,
        vocab = spec.vocab,
    )
}

/// Lists the kinds of the layers, a line each.
fn layer_types(spec: &Spec) -> String {
    let layers = spec.geometry().layers;
    let kinds = layers.iter().map(|layer| match layer {
        Attention::Sliding => "    \"sliding_attention\"",
        Attention::Full => "    \"full_attention\"",
    });
    kinds.collect::<Vec<_>>().join(",\n")
}

/// Writes `generation_config.json`.
pub(super) fn generation_json(spec: &Spec) -> String {
    let ids = spec.special_ids();
    format!(
        r#"{{
  "bos_token_id": {bos},
  "do_sample": true,
  "eos_token_id": [
    {eos},
    {pad},
    {call}
  ],
  "pad_token_id": {pad},
  "transformers_version": "4.55.0.dev0"
}}
"#,
        bos = ids.bos,
        eos = ids.eos,
        pad = ids.pad,
        call = ids.call,
    )
}
