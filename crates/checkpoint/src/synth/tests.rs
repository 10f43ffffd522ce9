//! Layout against the published files, values against what they should be.

use sha2::{Digest, Sha256};

use super::layout::{Layout, Shard};
use super::texts::{config_json, generation_json};
use super::*;
use crate::tensors::{Key, TensorSpec, Weight};

fn sha256(text: &str) -> String {
    let digest = Sha256::digest(text);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A preset of a published model, with the ids of the published tokenizer.
fn published(preset: Preset) -> Spec {
    let mut spec = Spec::new(preset);
    spec.special = Some(SpecialIds {
        bos: TokenId(199_998),
        pad: TokenId(199_999),
        eos: TokenId(200_002),
        call: TokenId(200_012),
    });
    spec
}

/// SHA-256 of config.json and index, and sizes of the shards, as published.
#[test]
fn the_layout_of_20b_is_the_published_one() {
    let spec = published(Preset::Gpt20b);
    assert_eq!(
        sha256(&config_json(&spec)),
        "3a2a26ded679375b7928ddeca59764df7cea83220c1961035f6d6e232659e9ce"
    );
    let layout = Layout::new(&spec);
    assert_eq!(
        sha256(&layout.index),
        "0e085b977c4c9942f85938828e8c989ed7d5cdabf852e4da6a67c116cd502cd1"
    );
    let sizes: Vec<u64> = layout.shards.iter().map(Shard::num_bytes).collect();
    assert_eq!(sizes, [4_792_272_488, 4_798_702_184, 4_170_342_232]);
}

#[test]
fn the_layout_of_120b_is_the_published_one() {
    let spec = published(Preset::Gpt120b);
    assert_eq!(
        sha256(&config_json(&spec)),
        "933aeb666a3fd851133ddd7686414f369bc564c4185fb5704416550879f10566"
    );
    let layout = Layout::new(&spec);
    assert_eq!(
        sha256(&layout.index),
        "ede2655fdc05008561983b6e0829c600727c28d591e071077377059f03a6c00e"
    );
    let sizes: Vec<u64> = layout.shards.iter().map(Shard::num_bytes).collect();
    assert_eq!(
        sizes,
        [
            4_625_017_896,
            4_115_586_736,
            4_625_017_888,
            4_115_586_752,
            4_625_017_896,
            4_115_586_696,
            4_625_017_856,
            4_060_267_176,
            4_625_017_896,
            4_170_906_304,
            4_625_017_896,
            4_115_586_752,
            4_064_660_808,
            4_625_017_896,
            4_115_586_736,
        ]
    );
}

#[test]
fn the_generation_settings_are_the_published_ones() {
    for preset in [Preset::Gpt20b, Preset::Gpt120b] {
        assert_eq!(
            sha256(&generation_json(&published(preset))),
            "f9970ada892d2d1f72e3ed0a6535ccebadd11897318794ca671d8c7014c957da"
        );
    }
}

#[test]
fn the_texts_say_what_the_description_says() {
    for preset in Preset::ALL {
        let spec = Spec::new(preset);
        let texts = (config_json(&spec), generation_json(&spec));
        let read = ModelConfig::parse(texts.0.as_bytes(), Some(texts.1.as_bytes())).unwrap();
        assert_eq!(read, spec.config());
    }
}

#[test]
fn a_description_survives_its_text() {
    for text in [
        "synth:tiny",
        "synth:20b,layers=4,vocab=32768,seed=1",
        "synth:mini,experts=3,experts_per_token=2,shard_bytes=1000000,edge_scales=true",
    ] {
        assert_eq!(Spec::parse(text).unwrap().to_string(), text);
    }
    let dashes = Spec::parse("tiny,kv-heads=4").unwrap();
    assert_eq!(dashes, Spec::parse("synth:tiny,kv_heads=4").unwrap());
}

#[test]
fn refuses_a_description_by_naming_the_part() {
    let refusal = |text: &str| Spec::parse(text).unwrap_err().to_string();
    assert!(refusal("huge").contains("\"huge\" is not a preset (tiny, mini, 20b, 120b)"));
    assert!(refusal("tiny,depth=3").contains("\"depth=3\" is not one of KEY=VALUE with layers,"));
    assert!(refusal("tiny,layers").contains("\"layers\" is not one of"));
    assert_eq!(
        refusal("tiny,layers=many"),
        "layers: \"many\" is not a whole number"
    );
    assert!(refusal("tiny,hidden=65").contains("hidden_size"));
    assert!(refusal("tiny,layers=0").contains("num_hidden_layers"));
    assert!(refusal("tiny,layers=5000000").contains("num_hidden_layers"));
    assert!(refusal("tiny,experts=2").contains("num_experts_per_tok"));
    assert!(refusal("tiny,shard_bytes=0").contains("shard_bytes"));
}

#[test]
fn special_ids_outside_the_vocabulary_are_refused() {
    let mut spec = Spec::new(Preset::Tiny);
    let bos = TokenId(512);
    spec.special = Some(SpecialIds {
        bos,
        ..spec.special_ids()
    });
    let vocab = 512;
    assert_eq!(spec.check(), Err(SpecError::SpecialId { id: bos, vocab }));
}

fn bytes(spec: &Spec, key: Key) -> Vec<u8> {
    let tensor = TensorSpec::new(key, &spec.geometry());
    let mut bytes = vec![0; tensor.num_bytes() as usize];
    Stream::new(spec, &tensor).fill(0, &mut bytes);
    bytes
}

#[test]
fn any_range_can_be_made_alone() {
    let spec = Spec::new(Preset::Tiny);
    for weight in [Weight::GateUpBlocks, Weight::GateUpScales, Weight::DownBias] {
        let key = Key::Layer(1, weight);
        let tensor = TensorSpec::new(key, &spec.geometry());
        let whole = bytes(&spec, key);
        let size = tensor.piece_bytes() as usize;
        for expert in 0..spec.experts {
            let mut piece = vec![0; size];
            Stream::new(&spec, &tensor).fill((expert * size) as u64, &mut piece);
            assert_eq!(piece, whole[expert * size..][..size]);
        }
    }
}

#[test]
fn an_odd_number_of_numbers_ends_inside_a_unit() {
    let spec = Spec::parse("tiny,experts=5").unwrap();
    let key = Key::Layer(0, Weight::RouterBias);
    let five = bytes(&spec, key);
    let six = bytes(&Spec { experts: 6, ..spec }, key);
    assert_eq!((five.len(), &five[..]), (10, &six[..10]));
}

#[test]
fn tensors_differ_by_name_and_seed() {
    let spec = Spec::new(Preset::Tiny);
    let key = |layer| Key::Layer(layer, Weight::DownBlocks);
    let other = Spec {
        seed: 1,
        ..spec.clone()
    };
    assert_ne!(bytes(&spec, key(0)), bytes(&spec, key(1)));
    assert_ne!(bytes(&spec, key(0)), bytes(&other, key(0)));
}

/// Returns mean and standard deviation of a tensor of bfloat16.
fn moments(bytes: &[u8]) -> (f64, f64) {
    let pairs = bytes.as_chunks::<2>().0;
    let values = pairs
        .iter()
        .map(|pair| half::bf16::from_le_bytes(*pair).to_f64());
    let values: Vec<f64> = values.collect();
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

#[test]
fn numbers_have_the_spread_that_was_chosen() {
    let spec = Spec::new(Preset::Mini);
    let (mean, deviation) = moments(&bytes(&spec, Key::Embedding));
    assert!(
        mean.abs() < 0.01 && (deviation - 1.0).abs() < 0.01,
        "{mean} {deviation}"
    );
    let (mean, deviation) = moments(&bytes(&spec, Key::Layer(0, Weight::PostNorm)));
    assert!(
        (mean - 1.0).abs() < 0.06 && (deviation - 0.2).abs() < 0.05,
        "{mean} {deviation}"
    );
    let (_, deviation) = moments(&bytes(&spec, Key::Layer(3, Weight::Router)));
    let wanted = 1.5 / (spec.hidden as f64).sqrt();
    assert!(
        (deviation / wanted - 1.0).abs() < 0.05,
        "{deviation} {wanted}"
    );
}

#[test]
fn expert_matrices_have_the_spread_that_was_chosen() {
    let spec = Spec::new(Preset::Mini);
    for (blocks, scales, gain, width) in [
        (Weight::GateUpBlocks, Weight::GateUpScales, 2.5, spec.hidden),
        (
            Weight::DownBlocks,
            Weight::DownScales,
            0.5 / 3.0,
            spec.intermediate,
        ),
    ] {
        let blocks = bytes(&spec, Key::Layer(0, blocks));
        let scales = bytes(&spec, Key::Layer(0, scales));
        let mut values = vec![0.0; 32 * scales.len()];
        crate::mxfp4::dequantize_into(&blocks, &scales, &mut values);
        let square: f64 = values.iter().map(|value| f64::from(value * value)).sum();
        let ratio = (square / values.len() as f64).sqrt() / (gain / (width as f64).sqrt());
        // Mixed powers of two have a larger mean square than their mean's.
        assert!((1.0..1.25).contains(&ratio), "{ratio}");
        let mut codes = [0; 16];
        for byte in &blocks {
            codes[usize::from(byte & 15)] += 1;
            codes[usize::from(byte >> 4)] += 1;
        }
        assert!(
            codes.iter().all(|count| *count > blocks.len() / 9),
            "{codes:?}"
        );
    }
}

#[test]
fn edge_scales_are_rare_and_both_kinds_occur() {
    let spec = Spec::parse("mini,edge_scales=true").unwrap();
    let scales = bytes(&spec, Key::Layer(0, Weight::GateUpScales));
    for edge in [0, 1] {
        let count = scales.iter().filter(|scale| **scale == edge).count();
        let share = count as f64 / scales.len() as f64;
        assert!((0.008..0.012).contains(&share), "{edge}: {share}");
    }
    let plain = bytes(
        &Spec::new(Preset::Mini),
        Key::Layer(0, Weight::GateUpScales),
    );
    assert!(plain.iter().all(|scale| (100..140).contains(scale)));
}
