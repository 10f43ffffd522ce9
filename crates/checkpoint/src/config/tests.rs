//! Both forms of the file, and every fault at once.

use super::*;
use crate::synth::{Preset, Spec};

/// The published 20b configuration as far as it matters, with `edit` applied.
fn published(edit: impl FnOnce(&mut serde_json::Map<String, Value>)) -> Vec<u8> {
    let mut config = serde_json::json!({
        "architectures": ["GptOssForCausalLM"],
        "attention_bias": true,
        "eos_token_id": 200_002,
        "experts_per_token": 4,
        "head_dim": 64,
        "hidden_act": "silu",
        "hidden_size": 2880,
        "initial_context_length": 4096,
        "intermediate_size": 2880,
        "layer_types": (0..24).map(|layer| ["sliding_attention", "full_attention"][layer % 2])
            .collect::<Vec<_>>(),
        "max_position_embeddings": 131_072,
        "model_type": "gpt_oss",
        "num_attention_heads": 64,
        "num_experts_per_tok": 4,
        "num_hidden_layers": 24,
        "num_key_value_heads": 8,
        "num_local_experts": 32,
        "pad_token_id": 199_999,
        "quantization_config": {"quant_method": "mxfp4"},
        "rms_norm_eps": 1e-5,
        "rope_scaling": {
            "beta_fast": 32.0, "beta_slow": 1.0, "factor": 32.0,
            "original_max_position_embeddings": 4096, "rope_type": "yarn", "truncate": false
        },
        "rope_theta": 150_000,
        "sliding_window": 128,
        "swiglu_limit": 7.0,
        "tie_word_embeddings": false,
        "vocab_size": 201_088
    });
    edit(config.as_object_mut().unwrap());
    config.to_string().into_bytes()
}

fn faults(config: &[u8]) -> Vec<String> {
    let faults = ModelConfig::parse(config, None).unwrap_err();
    faults.list.iter().map(ToString::to_string).collect()
}

#[test]
fn reads_the_published_form() {
    let config = ModelConfig::parse(&published(|_| ()), None).unwrap();
    assert_eq!(config.geometry, Spec::new(Preset::Gpt20b).geometry());
    assert_eq!(config.eos, [TokenId(200_002)]);
    assert_eq!(config.pad, Some(TokenId(199_999)));
}

#[test]
fn reads_the_newer_form_of_the_rotary_settings() {
    let newer = published(|config| {
        let mut rope = config.remove("rope_scaling").unwrap();
        rope["rope_theta"] = config.remove("rope_theta").unwrap();
        config.insert("rope_parameters".into(), rope);
        config.insert("dtype".into(), "bfloat16".into());
    });
    assert_eq!(
        ModelConfig::parse(&newer, None).unwrap(),
        ModelConfig::parse(&published(|_| ()), None).unwrap()
    );
}

#[test]
fn the_generation_settings_know_more_ends() {
    let generation = br#"{"bos_token_id": 199998, "eos_token_id": [200002, 199999, 200002, 200012],
        "temperature": 0.5, "top_p": 0.9, "top_k": 40, "do_sample": true}"#;
    let config = ModelConfig::parse(&published(|_| ()), Some(generation)).unwrap();
    assert_eq!(config.eos, [200_002, 199_999, 200_012].map(TokenId));
    assert_eq!(config.bos, Some(TokenId(199_998)));
    let sampling = SamplingDefaults {
        do_sample: Some(true),
        temperature: Some(0.5),
        top_p: Some(0.9),
        top_k: Some(40),
    };
    assert_eq!(config.sampling, sampling);
}

fn generation_faults(generation: &str) -> Vec<String> {
    let parsed = ModelConfig::parse(&published(|_| ()), Some(generation.as_bytes()));
    let faults = parsed.unwrap_err();
    faults.list.iter().map(ToString::to_string).collect()
}

#[test]
fn sampling_that_no_request_could_ask_for_is_a_fault() {
    for (generation, fault) in [
        (
            r#"{"temperature": -1}"#,
            "temperature: -1 is not within 0 to 100",
        ),
        (
            r#"{"temperature": 1e300}"#,
            "temperature: inf is not within 0 to 100",
        ),
        (r#"{"top_p": 0}"#, "top_p: 0 is not within"),
        (r#"{"top_p": 1.5}"#, "top_p: 1.5 is not within"),
        (
            r#"{"top_k": -1}"#,
            "top_k: expected a whole number below 2^32, found -1",
        ),
    ] {
        let faults = generation_faults(generation);
        assert_eq!(faults.len(), 1, "{faults:?}");
        let wanted = format!("generation_config.json: {fault}");
        assert!(faults[0].starts_with(&wanted), "{faults:?}");
    }
    let both = generation_faults(r#"{"temperature": -1, "top_p": 2, "do_sample": false}"#);
    assert_eq!(both.len(), 2, "{both:?}");
}

#[test]
fn not_to_sample_is_temperature_zero() {
    let generation = br#"{"do_sample": false, "temperature": 0.7}"#;
    let config = ModelConfig::parse(&published(|_| ()), Some(generation)).unwrap();
    assert_eq!(config.sampling.temperature, Some(0.0));
    assert_eq!(config.sampling.top_p, None);
    let config = ModelConfig::parse(&published(|_| ()), Some(br#"{"do_sample": true}"#)).unwrap();
    assert_eq!(config.sampling.temperature, None);
}

#[test]
fn refuses_sizes_that_wrap() {
    let large = published(|config| {
        config["hidden_size"] = 16_777_184.into();
        config["intermediate_size"] = 16_777_184.into();
        config["num_local_experts"] = 16_777_215.into();
    });
    let faults = faults(&large);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(
        faults[0].starts_with("config.json: sizes of the weights together: "),
        "{faults:?}"
    );
}

#[test]
fn a_missing_truncate_is_what_transformers_assumes() {
    let silent = published(|config| {
        let rope = config["rope_scaling"].as_object_mut().unwrap();
        rope.remove("truncate");
        rope.remove("original_max_position_embeddings");
    });
    let rope = ModelConfig::parse(&silent, None).unwrap().geometry.rope;
    assert!(rope.truncate);
    assert_eq!(rope.original_max_positions, 4096);
}

#[test]
fn every_missing_key_is_named() {
    let missing = faults(b"{}");
    for key in [
        "model_type",
        "attention_bias",
        "quantization_config",
        "num_hidden_layers",
        "hidden_size",
        "intermediate_size",
        "num_local_experts",
        "num_experts_per_tok",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "vocab_size",
        "sliding_window",
        "max_position_embeddings",
        "rms_norm_eps",
        "rope_theta",
        "rope_scaling",
    ] {
        let line = format!("config.json: {key} is missing");
        assert!(missing.contains(&line), "{key}: {missing:#?}");
    }
    assert_eq!(missing.len(), 17, "no fault is an echo: {missing:#?}");
}

#[test]
fn faults_of_all_kinds_are_found_at_once() {
    let broken = published(|config| {
        config["model_type"] = "llama".into();
        config["attention_bias"] = false.into();
        config["tie_word_embeddings"] = true.into();
        config["quantization_config"]["quant_method"] = "bitsandbytes".into();
        config["hidden_size"] = 2881.into();
        config["head_dim"] = "wide".into();
        config["num_experts_per_tok"] = 5.into();
        config["layer_types"] = serde_json::json!(["full_attention"]);
        config["rope_scaling"]["rope_type"] = "linear".into();
        config["rope_scaling"]["attention_factor"] = 1.5.into();
        config["eos_token_id"] = 201_088.into();
    });
    assert_eq!(
        faults(&broken),
        [
            r#"config.json: model_type: expected "gpt_oss", found "llama""#,
            "config.json: attention_bias: expected true, found false",
            "config.json: tie_word_embeddings: expected false, found true",
            r#"config.json: quantization_config.quant_method: expected "mxfp4", found "bitsandbytes""#,
            "config.json: experts_per_token: expected 5, as num_experts_per_tok says, found 4",
            "config.json: layer_types: expected 24 entries, as num_hidden_layers says, found 1",
            r#"config.json: head_dim: expected a whole number below 2^32, found "wide""#,
            r#"config.json: rope_scaling.rope_type: expected "yarn" or "default", found "linear""#,
            "config.json: rope_scaling.attention_factor: expected no such key, found 1.5",
            "config.json: token ids: expected ids below vocab_size, 201088, found 201088",
            "config.json: hidden_size: 2881 is not a multiple of 32 (one MXFP4 block)",
        ]
    );
}

#[test]
fn refuses_what_is_not_an_object_or_says_a_key_twice() {
    assert!(faults(b"[1]")[0].contains("expected an object"));
    assert!(faults(b"{\"a\": 1").len() == 1);
    assert!(faults(br#"{"head_dim": 64, "head_dim": 32}"#)[0].contains("appears twice"));
}

#[test]
fn refuses_more_layers_than_any_model_has() {
    let deep = published(|config| {
        config["num_hidden_layers"] = 16_000_000.into();
        config.remove("layer_types");
    });
    let faults = faults(&deep);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].contains("num_hidden_layers: expected at most 1024"));
}
