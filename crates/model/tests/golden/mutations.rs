//! Plausible mistakes, one at a time: the goldens must notice each. The mistakes are made outside
//! the model, in the ops it calls.

use std::sync::Arc;

use checkpoint::RankWeights;
use half::bf16;
use kernels::{Attend, Experts, Reference, RmsNorm};
use model::Rotary;
use spec::Rope;

use crate::compare::{Differences, compare};
use crate::file::Golden;
use crate::mistakes::{
    halves_order, in_attend, in_both, in_experts, in_norm, interleaved, softmax_over_all,
    with_activation, with_heads_at, with_rotary, with_sinks, with_weights, with_window,
    without_bias,
};
use crate::model_of;
use crate::session::whole_model;
use crate::twist::{Twist, Twisted};

/// Sizes of the model that `tiny-40` runs; all different.
const HIDDEN: usize = 64;
const QUERY: usize = 160;
const KV: usize = 32;
const NUM_EXPERTS: usize = 8;

type Mistakes = Vec<(&'static str, Arc<dyn Twist>)>;

fn in_experts_and_router() -> Mistakes {
    let limit = |limit| in_experts(move |inner, args| inner.run_experts(Experts { limit, ..args }));
    vec![
        (
            "high nibble first",
            in_both(|m| {
                m.blocks
                    .iter_mut()
                    .for_each(|byte| *byte = byte.rotate_left(4));
            }),
        ),
        ("values j and j + 16 in a byte", in_both(halves_order)),
        (
            "scale bias 128",
            in_both(|m| m.scales.iter_mut().for_each(|s| *s -= 1)),
        ),
        (
            "gate and up one after the other",
            with_weights(|gate_up, _| {
                let half = gate_up.bias.len() / 2;
                gate_up.reorder(|row| row % 2 * half + row / 2);
            }),
        ),
        (
            "gate and up swapped",
            with_weights(|gate_up, _| gate_up.reorder(|row| row ^ 1)),
        ),
        (
            "no bias before the activation",
            with_weights(|gate_up, _| {
                gate_up.bias.fill(bf16::ZERO);
            }),
        ),
        (
            "no bias after the activation",
            with_weights(|_, down| down.bias.fill(bf16::ZERO)),
        ),
        ("no clamp", limit(f32::MAX)),
        ("clamp at 6", limit(6.0)),
        ("up without one", with_activation(1.702, 0.0)),
        ("sigmoid of the gate itself", with_activation(1.0, 1.0)),
        ("softmax over all experts", softmax_over_all()),
        ("no router bias", without_bias(HIDDEN, NUM_EXPERTS)),
    ]
}

fn in_attention() -> Mistakes {
    vec![
        ("no query bias", without_bias(HIDDEN, QUERY)),
        ("no key and value bias", without_bias(HIDDEN, KV)),
        ("no output bias", without_bias(QUERY, HIDDEN)),
        ("no sinks", with_sinks(|_, _| f32::MIN)),
        (
            "sinks scaled like scores",
            with_sinks(|sink, args| sink * args.scale),
        ),
        (
            "scores not scaled",
            in_attend(|inner, args| inner.attend(Attend { scale: 1.0, ..args })),
        ),
        (
            "window one larger",
            with_window(|window| window.map(|w| w + 1)),
        ),
        (
            "window one smaller",
            with_window(|window| window.map(|w| w - 1)),
        ),
        (
            "window on odd layers",
            with_window(|window| match window {
                Some(_) => None,
                None => Some(8),
            }),
        ),
        ("no window", with_window(|_| None)),
        (
            "key heads dealt in turn",
            with_heads_at(|head, args| {
                let kv = args.layout.kv_heads;
                head % kv * args.group() + head / kv
            }),
        ),
    ]
}

fn in_rotation_and_norm() -> Mistakes {
    let eps = in_norm(|inner, args| inner.rms_norm(RmsNorm { eps: 1e-6, ..args }));
    vec![
        ("neighbours turned together", interleaved()),
        (
            "turned backwards",
            with_rotary(|rope, head_dim| {
                let mut rotary = Rotary::new(rope, head_dim);
                rotary.inv_freq.iter_mut().for_each(|f| *f = -*f);
                rotary
            }),
        ),
        (
            "no scaling of frequencies",
            with_rotary(|rope, head_dim| {
                let plain = Rope {
                    factor: 1.0,
                    ..rope.clone()
                };
                Rotary {
                    inv_freq: Rotary::new(&plain, head_dim).inv_freq,
                    ..Rotary::new(rope, head_dim)
                }
            }),
        ),
        (
            "no factor on cosine and sine",
            with_rotary(|rope, head_dim| Rotary {
                factor: 1.0,
                ..Rotary::new(rope, head_dim)
            }),
        ),
        (
            "range of frequencies truncated",
            with_rotary(|rope, head_dim| {
                Rotary::new(
                    &Rope {
                        truncate: true,
                        ..rope.clone()
                    },
                    head_dim,
                )
            }),
        ),
        ("another epsilon", eps),
    ]
}

fn run(golden: &Golden, weights: &Arc<RankWeights>, twist: Arc<dyn Twist>) -> Differences {
    let inner = Arc::new(Reference);
    compare(golden, weights, Arc::new(Twisted { inner, twist }), 40)
}

#[test]
fn every_mistake_is_noticed() {
    let golden = Golden::read("tiny-40");
    let weights = whole_model(&model_of(&golden));
    let mut unnoticed = Vec::new();
    let all = [
        in_experts_and_router(),
        in_attention(),
        in_rotation_and_norm(),
    ];
    for (name, twist) in all.into_iter().flatten() {
        let found = run(&golden, &weights, twist);
        println!("{name}: logits differ by {:.1e}", found.logits);
        if found.logits <= golden.tolerance {
            unnoticed.push(name);
        }
    }
    assert!(unnoticed.is_empty(), "{unnoticed:?}");
}

/// Otherwise the mistakes above might be those of the twists.
#[test]
fn twists_without_a_mistake_change_nothing() {
    let golden = Golden::read("tiny-40");
    let weights = whole_model(&model_of(&golden));
    for (name, twist) in [
        ("experts copied", with_weights(|_, _| ())),
        ("own activation", with_activation(1.702, 1.0)),
        ("sinks copied", with_sinks(|sink, _| sink)),
        ("heads where they are", with_heads_at(|head, _| head)),
        ("bias of no layer left out", without_bias(1, 1)),
        ("rotary of the model", with_rotary(Rotary::new)),
    ] {
        let faults = run(&golden, &weights, twist).faults(&golden);
        assert!(faults.is_empty(), "{name}: {faults:?}");
    }
}
