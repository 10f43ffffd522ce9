//! What each parameter does to the choice, and that the choice depends on nothing else.

use super::*;

fn choose_at(logits: &[f32], sampling: &Sampling, position: u32) -> u32 {
    let choice = Choice {
        sampling,
        penalized: &[],
        position,
    };
    Sampler::default().choose(logits, &choice).0
}

/// How often each token comes in `draws` positions.
fn histogram(logits: &[f32], sampling: &Sampling, draws: u32) -> Vec<f64> {
    let mut counts = vec![0.0; logits.len()];
    for position in 0..draws {
        counts[choose_at(logits, sampling, position) as usize] += 1.0;
    }
    counts
}

/// Chi-square of `counts` against `probabilities`; a token of probability 0 must not come at all.
fn chi_square(counts: &[f64], probabilities: &[f64]) -> f64 {
    let draws: f64 = counts.iter().sum();
    let terms = counts.iter().zip(probabilities).map(|(count, p)| {
        if *p == 0.0 {
            assert_eq!(*count, 0.0, "{counts:?}");
            return 0.0;
        }
        (count - draws * p).powi(2) / (draws * p)
    });
    terms.sum()
}

/// 5 tokens; exceeded once in a thousand seeds with 4 degrees of freedom.
const CHI_LIMIT: f64 = 18.5;
const LOGITS: [f32; 5] = [0.0, 1.0, -1.0, 2.0, 0.5];

fn softmax(logits: &[f64]) -> Vec<f64> {
    let exps: Vec<f64> = logits.iter().map(|l| l.exp()).collect();
    let sum: f64 = exps.iter().sum();
    exps.iter().map(|e| e / sum).collect()
}

#[test]
fn temperature_zero_takes_the_lowest_of_equals() {
    let sampling = Sampling {
        temperature: 0.0,
        ..Sampling::default()
    };
    assert_eq!(choose_at(&[1.0, 3.0, 3.0], &sampling, 0), 1);
}

#[test]
fn draws_in_proportion_to_the_probabilities() {
    for temperature in [1.0_f32, 0.5, 2.0] {
        let sampling = Sampling {
            temperature,
            seed: 11,
            ..Sampling::default()
        };
        let scaled: Vec<f64> = LOGITS.map(|l| f64::from(l / temperature)).to_vec();
        let chi = chi_square(&histogram(&LOGITS, &sampling, 20_000), &softmax(&scaled));
        assert!(chi < CHI_LIMIT, "{temperature}: {chi}");
    }
}

#[test]
fn draws_from_many_blocks_in_proportion() {
    // Token `i` of 5 sits in block `i`, and all others are far below.
    let mut logits = vec![-80.0; 5 * BLOCK];
    for (i, logit) in LOGITS.iter().enumerate() {
        logits[i * BLOCK + 7 * i] = *logit;
    }
    let counts = histogram(&logits, &Sampling::default(), 5_000);
    let five: Vec<f64> = (0..5).map(|i| counts[i * BLOCK + 7 * i]).collect();
    assert_eq!(five.iter().sum::<f64>(), 5_000.0);
    let chi = chi_square(&five, &softmax(&LOGITS.map(f64::from)));
    assert!(chi < CHI_LIMIT, "{chi}");
}

#[test]
fn top_k_top_p_and_min_p_cut_and_renormalize() {
    let all = softmax(&LOGITS.map(f64::from));
    // By probability: tokens 3, 1, 4, 0, 2 with shares .517, .190, .115, .070, .026 of .918.
    let kept = |tokens: &[usize]| {
        let sum: f64 = tokens.iter().map(|t| all[*t]).sum();
        let mut p = vec![0.0; 5];
        tokens.iter().for_each(|t| p[*t] = all[*t] / sum);
        p
    };
    let base = Sampling::default;
    let cases = [
        (Sampling { top_k: 2, ..base() }, kept(&[3, 1])),
        (
            Sampling {
                top_p: 0.6,
                ..base()
            },
            kept(&[3, 1]),
        ),
        (
            Sampling {
                top_p: 0.1,
                ..base()
            },
            kept(&[3]),
        ),
        (
            Sampling {
                min_p: 0.2,
                ..base()
            },
            kept(&[3, 1, 4]),
        ),
        // Half of what the best three have: the best alone.
        (
            Sampling {
                top_k: 3,
                top_p: 0.5,
                ..base()
            },
            kept(&[3]),
        ),
        (
            Sampling {
                min_p: 0.2,
                top_p: 0.9,
                ..base()
            },
            kept(&[3, 1, 4]),
        ),
        (
            Sampling {
                min_p: 0.3,
                top_k: 3,
                ..base()
            },
            kept(&[3, 1]),
        ),
        (
            Sampling {
                top_k: 99,
                ..base()
            },
            all.clone(),
        ),
    ];
    for (sampling, expected) in cases {
        let chi = chi_square(&histogram(&LOGITS, &sampling, 20_000), &expected);
        assert!(chi < CHI_LIMIT, "{sampling:?}: {chi}");
    }
}

#[test]
fn a_flat_distribution_is_cut_where_the_sum_is_reached() {
    let logits = vec![0.0; 10_000];
    let sampling = Sampling {
        top_p: 0.5,
        ..Sampling::default()
    };
    let chosen: Vec<u32> = (0..500).map(|p| choose_at(&logits, &sampling, p)).collect();
    // Equals are kept by ascending id.
    assert!(chosen.iter().all(|token| *token < 5_000));
    assert!(chosen.iter().any(|token| *token > 4_500));
}

#[test]
fn penalties_and_bias_follow_their_formulas() {
    let count = |generated| Penalized { generated };
    let penalized = [
        (TokenId(0), count(2)),
        (TokenId(1), count(0)),
        (TokenId(2), count(1)),
    ];
    let sampling = Sampling {
        presence_penalty: 0.5,
        frequency_penalty: 0.25,
        repetition_penalty: 2.0,
        logit_bias: vec![(TokenId(1), 1.0), (TokenId(3), -0.5)],
        ..Sampling::default()
    };
    let mut logits = [4.0, 3.0, -1.0, 1.0];
    let choice = Choice {
        sampling: &sampling,
        penalized: &penalized,
        position: 0,
    };
    adjust(&mut logits, &choice);
    assert_eq!(
        logits,
        [
            4.0 / 2.0 - 0.5 - 0.5,
            (3.0 + 1.0) / 2.0,
            -2.0 - 0.25 - 0.5,
            0.5
        ]
    );
}

#[test]
fn extreme_parameters_still_choose_the_best_token() {
    let huge = [f32::MAX, f32::MIN, 0.0];
    let sampling = Sampling {
        temperature: f32::MIN_POSITIVE,
        repetition_penalty: 0.01,
        logit_bias: vec![(TokenId(0), 100.0)],
        ..Sampling::default()
    };
    let penalized = [(TokenId(0), Penalized::default())];
    let choice = Choice {
        sampling: &sampling,
        penalized: &penalized,
        position: 0,
    };
    assert_eq!(Sampler::default().choose(&huge, &choice), TokenId(0));
}

#[test]
fn a_draw_depends_on_seed_choice_and_position_alone() {
    let sampling = Sampling {
        seed: 3,
        ..Sampling::default()
    };
    let draws = |sampling: &Sampling| -> Vec<u32> {
        (0..64).map(|p| choose_at(&LOGITS, sampling, p)).collect()
    };
    assert_eq!(draws(&sampling), draws(&sampling.clone()));
    let other_seed = Sampling {
        seed: 4,
        ..sampling.clone()
    };
    let other_choice = Sampling {
        choice: 1,
        ..sampling.clone()
    };
    assert_ne!(draws(&sampling), draws(&other_seed));
    assert_ne!(draws(&sampling), draws(&other_choice));
}
