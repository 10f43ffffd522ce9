//! Speed of the ops at the widths of gpt-oss-20b: arithmetic rate, and bytes of weights or KV read
//! per second beside what plain reading reaches.
//!
//! `cargo bench -p kernels-cpu [-- WORD]` prints the lines that contain the word. Each line is the
//! fastest of several runs, each of them on memory that the runs before have pushed from the caches.
//! It fails if an op on a batch is below [`DEMAND`]; run it on a quiet machine.
#![expect(clippy::print_stdout, reason = "a benchmark prints its table")]

use std::cell::Cell;
use std::hint::black_box;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use half::bf16;
use kernels::{Attend, Backend, Bf16, Codes, ExpertWork, Experts, KvLayout, Linear, Mxfp4, Span};
use kernels_cpu::Cpu;
use spec::BlockId;

const HIDDEN: usize = 2880;
const QUERIES: usize = 4096;
const EXPERTS: usize = 32;
const TOP_K: usize = 4;
/// What a thread must reach, in GFLOP/s, from [`BATCH`] rows on. Fewer rows are bound by reading their
/// weights: one row computes one operation for each byte of bf16.
const DEMAND: f64 = 15.0;
const BATCH: usize = 16;

fn main() -> ExitCode {
    let word = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    let bench = Bench {
        word: word.unwrap_or_default(),
        slow: Cell::new(0),
    };
    println!(
        "{:32} {:>7} {:>10} {:>9} {:>7}",
        "op", "threads", "time", "GFLOP/s", "GB/s"
    );
    bench.read();
    bench.wake();
    bench.linear();
    bench.experts();
    bench.attend();
    match bench.slow.get() {
        0 => ExitCode::SUCCESS,
        slow => {
            println!("{slow} lines are SLOW: below {DEMAND} GFLOP/s a thread");
            ExitCode::FAILURE
        }
    }
}

struct Bench {
    word: String,
    /// Lines below [`DEMAND`].
    slow: Cell<usize>,
}

impl Bench {
    /// Runs an op on so many rows on one and two threads and prints a line for each.
    fn line(&self, (name, rows): (&str, usize), flops: f64, bytes: f64, run: impl Fn(&Cpu)) {
        if !name.contains(&self.word) {
            return;
        }
        for threads in [1, 2] {
            let cpu = cpu(threads);
            let best = fastest(|| run(&cpu));
            let seconds = best.as_secs_f64();
            let rate = flops / seconds / 1e9;
            let is_slow = rows >= BATCH && rate < DEMAND * threads as f64;
            self.slow.set(self.slow.get() + usize::from(is_slow));
            println!(
                "{name:32} {threads:>7} {best:>10.1?} {rate:>9.1} {:>7.1}{}",
                bytes / seconds / 1e9,
                if is_slow { " SLOW" } else { "" },
            );
        }
    }

    /// The bound: reading 64 MiB pieces of memory and nothing else.
    fn read(&self) {
        if !"read".contains(&self.word) {
            return;
        }
        let memory = vec![1u64; 32 << 20];
        let turn = Turn::of(4);
        for threads in [1, 2] {
            let best = fastest(|| {
                let piece = &memory[turn.next() * (8 << 20)..][..8 << 20];
                std::thread::scope(|scope| {
                    for part in piece.chunks(piece.len() / threads) {
                        scope.spawn(|| black_box(part.iter().fold(0, |sum, word| sum ^ word)));
                    }
                });
            });
            let rate = f64::from(64 << 20) / best.as_secs_f64() / 1e9;
            println!(
                "{:32} {threads:>7} {best:>10.1?} {:>9} {rate:>7.1}",
                "read", ""
            );
        }
    }

    /// The cost of handing work to threads: a product too small to matter.
    fn wake(&self) {
        let x = vec![1.0; 32];
        let weight = vec![bf16::ONE; 64 * 32];
        self.line(("wake (linear 32 -> 64)", 1), 4096.0, 4096.0, |cpu| {
            linear(cpu, &x, &weight, (1, 32, 64));
        });
    }

    fn linear(&self) {
        let copies = 4;
        let size = HIDDEN * QUERIES;
        let weight = vec![bf16::from_f32(0.01); copies * size];
        let turn = Turn::of(copies);
        for rows in [1, 2, 4, 8, 16, 64, 256, 1024] {
            let x = vec![0.5; rows * HIDDEN];
            self.line(
                (&format!("linear 2880 -> 4096, {rows} rows"), rows),
                2.0 * (rows * size) as f64,
                2.0 * size as f64,
                |cpu| {
                    let weight = &weight[turn.next() * size..][..size];
                    linear(cpu, &x, weight, (rows, HIDDEN, QUERIES));
                },
            );
        }
    }

    fn experts(&self) {
        let values = HIDDEN * HIDDEN / 2;
        let blocks = vec![0x53u8; EXPERTS * 3 * values];
        let scales = vec![120u8; EXPERTS * 3 * values / 16];
        let bias = vec![bf16::ONE; 2 * HIDDEN];
        let matrix = |place: usize, outputs: usize| Mxfp4 {
            codes: Codes::Rows {
                blocks: &blocks[place * values..][..outputs * HIDDEN / 2],
                scales: &scales[place * values / 16..][..outputs * HIDDEN / 32],
            },
            bias: &bias[..outputs],
        };
        let turn = Turn::of(EXPERTS);
        for rows in [1, 4, 16, 128, 512] {
            let pairs = rows * TOP_K;
            let active = EXPERTS.min(pairs);
            let x = vec![0.5; rows * HIDDEN];
            self.line(
                (&format!("experts 4 of 32, {rows} rows"), rows),
                6.0 * (pairs * HIDDEN * HIDDEN) as f64,
                (active * 3 * values) as f64 * 17.0 / 16.0,
                |cpu| {
                    let start = turn.next() * 5;
                    let lists: Vec<(Vec<u32>, Vec<u32>)> = (0..active)
                        .map(|expert| (expert..pairs).step_by(active))
                        .map(|pairs| pairs.map(|p| ((p / TOP_K) as u32, p as u32)).unzip())
                        .collect();
                    let work = lists.iter().enumerate().map(|(i, (rows, outputs))| {
                        let place = 3 * ((start + i) % EXPERTS);
                        ExpertWork {
                            gate_up: matrix(place, 2 * HIDDEN),
                            down: matrix(place + 2, HIDDEN),
                            rows,
                            outputs,
                        }
                    });
                    let work: Vec<ExpertWork<'_>> = work.collect();
                    let mut out = vec![0.0; pairs * HIDDEN];
                    cpu.run_experts(Experts {
                        x: &x,
                        hidden: HIDDEN,
                        intermediate: HIDDEN,
                        limit: 7.0,
                        work: &work,
                        out: &mut out,
                    });
                    black_box(out);
                },
            );
        }
    }

    fn attend(&self) {
        let (context, copies, heads) = (4096, 4, 64);
        let layout = KvLayout {
            block_size: 32,
            kv_heads: 8,
            head_dim: 64,
        };
        let blocks = context / layout.block_size;
        let size = blocks * layout.block_len();
        let keys = vec![0.1; copies * size];
        let values = vec![0.2; copies * size];
        let sinks = vec![bf16::ONE; heads];
        let table: Vec<BlockId> = (0..blocks).map(|i| BlockId(i as u32 * 37 % 128)).collect();
        let turn = Turn::of(copies);
        for (rows, window) in [(1, None), (128, None), (1, Some(128)), (128, Some(128))] {
            let q = vec![0.3; rows * heads * layout.head_dim];
            let seen = window.unwrap_or(context);
            let name = format!("attend at 4k, {rows} rows, window {}", window.is_some());
            self.line(
                (&name, rows),
                4.0 * (rows * heads * layout.head_dim * seen) as f64,
                (seen * layout.kv_heads * layout.head_dim * 8) as f64,
                |cpu| {
                    let place = turn.next() * size;
                    let mut out = vec![0.0; q.len()];
                    cpu.attend(Attend {
                        q: &q,
                        heads,
                        spans: &[Span {
                            first_row: 0,
                            len: rows,
                            start: context - rows,
                            table: &table,
                        }],
                        layout,
                        keys: &keys[place..][..size],
                        values: &values[place..][..size],
                        sinks: &sinks,
                        window,
                        scale: 0.125,
                        out: &mut out,
                    });
                    black_box(out);
                },
            );
        }
    }
}

fn linear(cpu: &Cpu, x: &[f32], weight: &[bf16], (rows, inputs, outputs): (usize, usize, usize)) {
    let mut out = vec![0.0; rows * outputs];
    cpu.linear(Linear {
        x,
        weight: Bf16::Rows(weight),
        bias: None,
        inputs,
        outputs,
        accumulate: false,
        out: &mut out,
    });
    black_box(out);
}

fn cpu(threads: usize) -> Cpu {
    Cpu::new(NonZeroUsize::new(threads).expect("one or two"))
}

/// Counts up to a number, over and over.
struct Turn {
    next: Cell<usize>,
    of: usize,
}

impl Turn {
    fn of(of: usize) -> Self {
        let next = Cell::new(0);
        Self { next, of }
    }

    fn next(&self) -> usize {
        self.next.replace((self.next.get() + 1) % self.of)
    }
}

/// The fastest of at least five runs within half a second.
fn fastest(run: impl Fn()) -> Duration {
    run();
    let start = Instant::now();
    let mut best = Duration::MAX;
    let mut runs = 0;
    while runs < 5 || start.elapsed() < Duration::from_millis(500) {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed());
        runs += 1;
    }
    best
}
