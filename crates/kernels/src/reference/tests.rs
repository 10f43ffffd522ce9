//! The reference against numbers worked out by hand.

use half::bf16;
use spec::BlockId;

use super::Reference;
use crate::{Attend, Backend, Codes, ExpertWork, Experts, KvLayout, Mxfp4, Rotate, Route, Span};

fn bf16s(values: &[f32]) -> Vec<bf16> {
    values.iter().map(|&v| bf16::from_f32(v)).collect()
}

#[test]
fn rotates_halves_against_each_other() {
    let mut x = [1.0, 2.0, 3.0, 4.0];
    let quarter = std::f32::consts::FRAC_PI_2;
    Reference.rotate(Rotate {
        x: &mut x,
        positions: &[1],
        inv_freq: &[quarter, 0.0],
        factor: 2.0,
        heads: 1,
    });
    let expected = [-6.0, 4.0, 2.0, 8.0];
    for (x, expected) in x.into_iter().zip(expected) {
        assert!((x - expected).abs() < 1e-6, "{x}, expected {expected}");
    }
}

/// Two query heads on one key head; keys that give scores ln 1 and ln 3, a sink of ln 4 or none.
#[test]
fn the_sink_takes_its_share_and_gives_nothing() {
    let ln = |x: f32| x.ln();
    let mut out = [0.0; 2];
    Reference.attend(Attend {
        q: &[1.0, 1.0],
        heads: 2,
        spans: &[Span {
            first_row: 0,
            len: 1,
            start: 1,
            table: &[BlockId(1)],
        }],
        layout: KvLayout {
            block_size: 2,
            kv_heads: 1,
            head_dim: 1,
        },
        keys: &[f32::NAN, f32::NAN, 2.0 * ln(1.0), 2.0 * ln(3.0)],
        values: &[f32::NAN, f32::NAN, 8.0, 16.0],
        sinks: &bf16s(&[-100.0, 0.0]),
        window: None,
        scale: 0.5,
        out: &mut out,
    });
    assert!((out[0] - (8.0 + 48.0) / 4.0).abs() < 1e-5, "{out:?}");
    assert!((out[1] - (8.0 + 48.0) / 5.0).abs() < 1e-5, "{out:?}");
}

#[test]
fn a_window_counts_the_own_key() {
    let layout = KvLayout {
        block_size: 4,
        kv_heads: 1,
        head_dim: 2,
    };
    let mut args = Attend {
        q: &[],
        heads: 1,
        spans: &[],
        layout,
        keys: &[],
        values: &[],
        sinks: &[],
        window: Some(128),
        scale: 1.0,
        out: &mut [],
    };
    let visible = [0, 126, 127, 128, 300].map(|position| args.visible(position));
    assert_eq!(visible, [0..1, 0..127, 0..128, 1..129, 173..301]);
    args.window = None;
    assert_eq!(args.visible(300), 0..301);
}

#[test]
fn a_place_is_block_then_head_then_for_keys_the_slot_last() {
    let layout = KvLayout {
        block_size: 4,
        kv_heads: 3,
        head_dim: 2,
    };
    let table = [BlockId(9), BlockId(5)];
    assert_eq!(layout.key(&table, 1, 6), 5 * 24 + 8 + 2);
    assert_eq!(layout.value(&table, 1, 6), 5 * 24 + 8 + 2 * 2);
}

#[test]
fn equal_logits_go_to_the_lower_expert() {
    let mut index = [0; 3];
    let mut weight = [0.0; 3];
    Reference.route(Route {
        logits: &[1.0, f32::NAN, 0.0, 2.0, -0.0, 1.0],
        num_experts: 6,
        k: 3,
        index: &mut index,
        weight: &mut weight,
    });
    assert_eq!(index, [3, 0, 5]);
    let e = std::f32::consts::E;
    assert!((weight[0] - e / (e + 2.0)).abs() < 1e-6);
    assert_eq!(weight[1], weight[2]);
}

/// Input 32 ones; each matrix row holds one value in all places, low and high nibble alike.
fn matrix(codes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let blocks = codes.iter().flat_map(|&code| [code | code << 4; 16]);
    (blocks.collect(), vec![127 - 5; codes.len()])
}

#[test]
fn gate_and_up_alternate_and_are_clamped_on_their_own_sides() {
    // Gates 1, 9 (clamped to 7) and -9 (not clamped); ups 0.5, 9 (to 7), -9 (to -7).
    let mut codes = vec![0; 64];
    codes[..2].copy_from_slice(&[0b0010, 0b0001]);
    let (blocks, scales) = matrix(&codes);
    let mut bias = vec![0.0; 64];
    bias[2..6].copy_from_slice(&[9.0, 9.0, -9.0, -9.0]);
    let bias = bf16s(&bias);
    // Output i is the sum of all h, times 32 equal weights of 2^-5: so the mean times 32.
    let (down, down_scales) = matrix(&[0b0010; 32]);
    let down_bias = bf16s(&[0.25; 32]);
    let mut out = [f32::NAN; 64];
    Reference.run_experts(Experts {
        x: &[1.0; 32],
        hidden: 32,
        intermediate: 32,
        limit: 7.0,
        work: &[ExpertWork {
            gate_up: Mxfp4 {
                codes: Codes::Rows {
                    blocks: &blocks,
                    scales: &scales,
                },
                bias: &bias,
            },
            down: Mxfp4 {
                codes: Codes::Rows {
                    blocks: &down,
                    scales: &down_scales,
                },
                bias: &down_bias,
            },
            rows: &[0],
            outputs: &[1],
        }],
        out: &mut out,
    });
    let sigmoid = |x: f64| 1.0 / (1.0 + (-1.702 * x).exp());
    let h = sigmoid(1.0) * 1.5 + 7.0 * sigmoid(7.0) * 8.0 - 9.0 * sigmoid(-9.0) * -6.0;
    let expected = h / 32.0 + 0.25;
    assert!(out[..32].iter().all(|x| x.is_nan()), "another row's place");
    for x in &out[32..] {
        assert!((f64::from(*x) - expected).abs() < 1e-6, "{x}, {expected}");
    }
}

#[test]
#[should_panic(expected = "attend: 1 blocks of 2 do not hold positions 1..3")]
fn refuses_a_table_that_is_too_short() {
    Reference.attend(Attend {
        q: &[0.0, 0.0],
        heads: 1,
        spans: &[Span {
            first_row: 0,
            len: 2,
            start: 1,
            table: &[BlockId(0)],
        }],
        layout: KvLayout {
            block_size: 2,
            kv_heads: 1,
            head_dim: 1,
        },
        keys: &[0.0; 4],
        values: &[0.0; 4],
        sinks: &bf16s(&[0.0]),
        window: None,
        scale: 1.0,
        out: &mut [0.0; 2],
    });
}
