//! What planning costs: `next_step` and `complete` of one step, against the limit of
//! 20 us + 0.3 us a row.
//!
//! Run with `cargo bench -p engine --bench plan`; words after `--` choose the cases that have one
//! of them in their name. The median is what counts: it is not disturbed by other programs.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::{Engine, EngineConfig, Stop, Submit};
use spec::{
    Fence, KvPlan, LineResult, PartResult, SampledToken, Sampling, SequenceId, Step, TokenId,
};

/// The allocator of the `conclave` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const NUM_RANKS: usize = 8;
const STEPS: usize = 2_000;

struct Case {
    name: &'static str,
    sequences: usize,
    prompt: usize,
    /// Sequences that wait all the time, there being no slot for them.
    waiting: usize,
}

const CASES: [Case; 8] = [
    decode("decode 1", 1, 1_000),
    decode("decode 16", 16, 1_000),
    decode("decode 64", 64, 1_000),
    decode("decode 256", 256, 1_000),
    decode("decode 2048", 2_048, 200),
    decode("decode 8, contexts of 100,000", 8, 100_000),
    decode("decode 64, contexts of 100,000", 64, 100_000),
    Case {
        name: "decode 2048, 1,000 waiting",
        sequences: 2_048,
        prompt: 200,
        waiting: 1_000,
    },
];

const fn decode(name: &'static str, sequences: usize, prompt: usize) -> Case {
    Case {
        name,
        sequences,
        prompt,
        waiting: 0,
    }
}

fn engine() -> Engine {
    let config = EngineConfig {
        num_ranks: NUM_RANKS,
        kv: KvPlan {
            block_size: 16,
            full_blocks: 65_536,
            window_blocks: 16_384,
            num_slots: 256,
        },
        sliding_window: 128,
        max_step_rows: 4_096,
        max_in_flight: 2,
        max_waiting: 4_096,
        max_context: 131_072,
        checkpoint_interval: 1_024,
    };
    Engine::new(config, Fence::default()).expect("the configuration holds")
}

fn submit(engine: &mut Engine, id: usize, prompt: usize) {
    let tokens = (0..prompt).map(|i| TokenId((id * 7_919 + i) as u32));
    let submit = Submit {
        sequence: SequenceId(id as u64),
        tokens: tokens.collect(),
        prompt_len: prompt,
        sampling: Arc::new(Sampling::default()),
        stop: Stop {
            max_tokens: 100_000,
            stop_tokens: vec![TokenId(u32::MAX)],
        },
        principal: (id % 8) as u32,
        cache_salt: 0,
    };
    engine.submit(submit).expect("there is room");
}

/// What ranks would answer.
fn answer(step: &Step) -> Vec<PartResult> {
    let part = |part: &spec::Part| PartResult {
        rank: part.rank,
        lines: part
            .lines
            .iter()
            .map(|line| LineResult {
                ran: true,
                tokens: match line.samples {
                    true => vec![SampledToken {
                        token: TokenId(1),
                        logprob: None,
                    }],
                    false => Vec::new(),
                },
                prompt_logprobs: Vec::new(),
            })
            .collect(),
    };
    step.parts.iter().map(part).collect()
}

fn rows(step: &Step) -> usize {
    let lines = step.parts.iter().flat_map(|part| &part.lines);
    lines.map(|line| line.len as usize).sum()
}

/// Runs until every running sequence decodes, and returns the slowest step's time.
fn prefill(engine: &mut Engine, sequences: usize) -> Duration {
    let mut slowest = Duration::ZERO;
    loop {
        let begin = Instant::now();
        let step = engine.next_step().expect("there is work");
        let planned = begin.elapsed();
        let results = answer(&step);
        let begin = Instant::now();
        let completed = engine.complete(step.number, results);
        slowest = slowest.max(planned + begin.elapsed());
        completed.expect("the results answer the step");
        if rows(&step) == sequences {
            return slowest;
        }
    }
}

fn run(case: &Case) {
    let mut engine = engine();
    for id in 0..case.sequences {
        // Of different lengths, so that not all fill their blocks in the same step.
        submit(&mut engine, id, case.prompt + id % 16);
    }
    let slowest_prefill = prefill(&mut engine, case.sequences);
    for id in 0..case.waiting {
        submit(&mut engine, case.sequences + id, case.prompt);
    }
    let mut times = Vec::with_capacity(STEPS);
    let mut ahead = engine.next_step().expect("there is work");
    for _ in 0..STEPS {
        let begin = Instant::now();
        let next = engine.next_step();
        let planned = begin.elapsed();
        let results = answer(&ahead);
        let begin = Instant::now();
        let completed = engine.complete(ahead.number, results);
        times.push(planned + begin.elapsed());
        completed.expect("the results answer the step");
        ahead = next.expect("there is work");
        assert_eq!(rows(&ahead), case.sequences);
    }
    times.sort_unstable();
    let micros = |time: Duration| time.as_secs_f64() * 1e6;
    let mean = micros(times.iter().sum()) / STEPS as f64;
    let median = micros(times[STEPS / 2]);
    let limit = 20.0 + 0.3 * case.sequences as f64;
    println!(
        "{:32} {mean:9.1} {median:9.1} {:9.1} {limit:9.1} {:>7} {:12.1}",
        case.name,
        micros(times[STEPS * 99 / 100]),
        if median <= limit { "within" } else { "OVER" },
        micros(slowest_prefill),
    );
}

fn main() {
    println!("next_step + complete on {NUM_RANKS} ranks, two steps in flight, microseconds");
    println!(
        "{:32} {:>9} {:>9} {:>9} {:>9} {:>7} {:>12}",
        "", "mean", "median", "p99", "limit", "", "worst prompt"
    );
    let words: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    for case in &CASES {
        if words.is_empty() || words.iter().any(|word| case.name.contains(word)) {
            run(case);
        }
    }
}
