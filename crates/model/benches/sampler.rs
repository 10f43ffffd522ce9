//! How long the choice of a token takes at the real vocabulary: `cargo bench -p model`.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]

use std::hint::black_box;
use std::time::Instant;

use model::{Choice, Sampler};
use spec::Sampling;

const ROWS: u32 = 101;

fn main() {
    let row = |i: u64| ((i * i % 10_007) as f32 / 10_007.0 - 0.5) * 20.0;
    let logits: Vec<f32> = (0..201_088).map(row).collect();
    let plain = Sampling::default();
    let kinds = [
        (
            "greedy",
            Sampling {
                temperature: 0.0,
                ..plain.clone()
            },
        ),
        ("temperature 1", plain.clone()),
        (
            "top_p 0.9",
            Sampling {
                top_p: 0.9,
                ..plain.clone()
            },
        ),
        (
            "top_k 50",
            Sampling {
                top_k: 50,
                ..plain.clone()
            },
        ),
        (
            "20 alternatives",
            Sampling {
                logprobs: Some(20),
                ..plain
            },
        ),
    ];
    for (name, sampling) in kinds {
        let mut sampler = Sampler::default();
        let mut times: Vec<f64> = (0..ROWS)
            .map(|position| {
                let choice = Choice {
                    sampling: &sampling,
                    penalized: &[],
                    position,
                };
                let start = Instant::now();
                black_box(sampler.choose(&logits, &choice));
                start.elapsed().as_secs_f64()
            })
            .collect();
        times.sort_by(f64::total_cmp);
        println!(
            "{name:16} {:6.2} ms a row (median of {ROWS})",
            times[times.len() / 2] * 1e3
        );
    }
}
