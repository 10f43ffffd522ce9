//! What planning costs: `next_step` and `complete` of one step, against the limit of
//! 20 us + 0.3 us a row.
//!
//! Run with `cargo bench -p engine --bench plan`; words after `--` choose the cases that have one
//! of them in their name. The median is what counts, and it fails if one is over the limit; run it on
//! a quiet machine. The worst step is that in which all that wait are looked at for the first time, or
//! a prefix again.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::process::ExitCode;
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
/// Sets the prefix apart from the text of any sequence.
const PREFIX: usize = 1 << 16;
const MAX_TOKENS: usize = 100_000;

struct Case {
    name: &'static str,
    sequences: usize,
    prompt: usize,
    /// Sequences that wait all the time, there being no slot for them or, with a prefix, no blocks.
    waiting: usize,
    /// Tokens at the beginning of all that wait which every rank has cached.
    prefix: usize,
    full_blocks: usize,
}

const CASES: [Case; 11] = [
    decode("decode 1", 1, 1_000),
    decode("decode 16", 16, 1_000),
    decode("decode 64", 64, 1_000),
    decode("decode 256", 256, 1_000),
    decode("decode 512, 64 a rank", 512, 200),
    decode("decode 2048", 2_048, 200),
    decode("decode 8, contexts of 100,000", 8, 100_000),
    decode("decode 64, contexts of 100,000", 64, 100_000),
    Case {
        waiting: 1_000,
        ..decode("decode 2048, 1,000 waiting", 2_048, 200)
    },
    Case {
        waiting: 100,
        prefix: 100_000,
        // Those that decode hold 4,000 to 5,000; those that wait want 7,500, of which 6,250 are
        // there, but idle.
        full_blocks: 11_400,
        ..decode("decode 64, hits of 100,000 waiting", 64, 8_000)
    },
    Case {
        waiting: 100,
        prefix: 100_000,
        // Here the cache gives up some of the prefix all the time.
        full_blocks: 9_000,
        ..decode("decode 64, such hits evicted", 64, 8_000)
    },
];

const fn decode(name: &'static str, sequences: usize, prompt: usize) -> Case {
    Case {
        name,
        sequences,
        prompt,
        waiting: 0,
        prefix: 0,
        full_blocks: 65_536,
    }
}

fn engine(full_blocks: usize) -> Engine {
    let config = EngineConfig {
        num_ranks: NUM_RANKS,
        kv: KvPlan {
            block_size: 16,
            full_blocks,
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

fn submit(engine: &mut Engine, id: usize, tokens: Vec<TokenId>, max_tokens: usize) {
    let submit = Submit {
        sequence: SequenceId(id as u64),
        prompt_len: tokens.len(),
        tokens,
        sampling: Arc::new(Sampling::default()),
        stop: Stop {
            max_tokens,
            stop_tokens: vec![TokenId(u32::MAX)],
        },
        principal: (id % 8) as u32,
        cache_salt: 0,
        was_accepted: false,
        priority: 0,
    };
    engine.submit(submit).expect("there is room");
}

fn text(id: usize, len: usize) -> Vec<TokenId> {
    let tokens = (0..len).map(|i| TokenId((id * 7_919 + i) as u32));
    tokens.collect()
}

/// Leaves a prefix in the cache of every rank, each computing one of as many sequences.
fn cache(engine: &mut Engine, prefix: usize) {
    for id in 0..NUM_RANKS {
        submit(engine, 8 * id, text(PREFIX, prefix), 1);
    }
    while let Some(step) = engine.next_step() {
        let completed = engine.complete(step.number, answer(&step));
        completed.expect("the results answer the step");
    }
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

/// Runs a case, prints its line, and returns whether it is within the limit.
fn run(case: &Case) -> bool {
    let mut engine = engine(case.full_blocks);
    if case.prefix > 0 {
        cache(&mut engine, case.prefix);
    }
    for id in 0..case.sequences {
        // Of different lengths, so that not all fill their blocks in the same step.
        let tokens = text(id, case.prompt + id % 16);
        submit(&mut engine, id, tokens, MAX_TOKENS);
    }
    let slowest_prefill = prefill(&mut engine, case.sequences);
    for id in case.sequences..case.sequences + case.waiting {
        if case.prefix == 0 {
            submit(&mut engine, id, text(id, case.prompt), MAX_TOKENS);
        } else {
            let mut tokens = text(PREFIX, case.prefix);
            tokens.extend(text(id, case.prefix / 5));
            submit(&mut engine, 8 * id, tokens, MAX_TOKENS);
        }
    }
    let mut times = Vec::with_capacity(STEPS);
    let begin = Instant::now();
    let mut ahead = engine.next_step().expect("there is work");
    let first = begin.elapsed();
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
        "{:36} {mean:9.1} {median:9.1} {:9.1} {:10.1} {limit:9.1} {:>7} {:12.1}",
        case.name,
        micros(times[STEPS * 99 / 100]),
        micros(first.max(times[STEPS - 1])),
        if median <= limit { "within" } else { "OVER" },
        micros(slowest_prefill),
    );
    median <= limit
}

fn main() -> ExitCode {
    println!("next_step + complete on {NUM_RANKS} ranks, two steps in flight, microseconds");
    println!(
        "{:36} {:>9} {:>9} {:>9} {:>10} {:>9} {:>7} {:>12}",
        "", "mean", "median", "p99", "worst step", "limit", "", "worst prompt"
    );
    let words: Vec<_> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    let is_chosen =
        |case: &&Case| words.is_empty() || words.iter().any(|word| case.name.contains(word));
    let within: Vec<_> = CASES.iter().filter(is_chosen).map(run).collect();
    match within.contains(&false) {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}
