//! `conclave bench decode`, `prefill` and `batch`: whole passes of a group of ranks.

use bench::limits::Probe;
use bench::passes::{Load, weight_bytes};
use bench::samples::Samples;
use bench::{Group, Shape};
use indicatif::ProgressBar;
use serde_json::{Value, json};
use spec::Geometry;
use tokio_util::sync::CancellationToken;

use super::super::synth::bytes_bar;
use super::{Report, show, stopped};
use crate::Outcome;
use crate::args::{BatchArgs, DecodeArgs, PassArgs, PrefillArgs};
use crate::commands::worker::numerics;
use crate::model::open_checkpoint;

/// A load under the name that llama-bench has for it.
struct Test {
    name: String,
    load: Load,
    /// What each round measured.
    prompt_rate: Samples,
    output_rate: Samples,
    /// Share of what this machine reads that the weights of the steps were.
    share: Samples,
    read: Samples,
}

impl Test {
    fn new(name: String, [sequences, prompt, output]: [usize; 3]) -> Self {
        Self {
            name,
            load: Load {
                sequences,
                prompt,
                output,
            },
            prompt_rate: Samples::default(),
            output_rate: Samples::default(),
            share: Samples::default(),
            read: Samples::default(),
        }
    }

    /// What was measured, under the names of llama-batched-bench for what is known by it.
    fn figures(&self) -> Value {
        json!({
            "test": self.name,
            "pl": self.load.sequences,
            "pp": self.load.prompt,
            "tg": self.load.output,
            "speed_pp": self.prompt_rate.median(),
            "speed_tg": self.output_rate.median(),
            "samples_pp": self.prompt_rate,
            "samples_tg": self.output_rate,
            "read_bytes_per_second": self.read,
            "share_of_read": self.share,
        })
    }
}

/// Tokens that one sequence generates.
pub(super) fn decode(args: &DecodeArgs, stop: &CancellationToken) -> Outcome {
    let tokens = args.tokens.get();
    let tests = args.depth.iter().map(|depth| {
        let name = match depth.get() {
            1 => format!("tg{tokens}"),
            depth => format!("tg{tokens} @ d{depth}"),
        };
        Test::new(name, [1, depth.get(), tokens])
    });
    measure(&args.pass, tests.collect(), &["tg"], stop)
}

/// Tokens of a prompt.
pub(super) fn prefill(args: &PrefillArgs, stop: &CancellationToken) -> Outcome {
    let tests = args.tokens.iter().map(|tokens| {
        let tokens = tokens.get();
        Test::new(format!("pp{tokens}"), [1, tokens, 0])
    });
    measure(&args.pass, tests.collect(), &["pp"], stop)
}

/// Several sequences.
pub(super) fn batch(args: &BatchArgs, stop: &CancellationToken) -> Outcome {
    let (prompt, tokens) = (args.prompt.get(), args.tokens.get());
    let tests = args.sequences.iter().map(|sequences| {
        let name = format!("B {sequences}, PP {prompt}, TG {tokens}");
        Test::new(name, [sequences.get(), prompt, tokens])
    });
    measure(&args.pass, tests.collect(), &["pp", "tg"], stop)
}

fn measure(
    args: &PassArgs,
    mut tests: Vec<Test>,
    columns: &[&str],
    stop: &CancellationToken,
) -> Outcome {
    let report = Report::begin("--json", args.model.json.as_ref())?;
    let model = args.model.named()?;
    let checkpoint = open_checkpoint(&model)?;
    let shape = shape(args, &tests)?;
    let threads = shape.threads.count() / args.ranks;
    let bar = bytes_bar("loading");
    let group = Group::new(&checkpoint, &shape, &mut |progress| {
        show(&bar, progress, stop)
    });
    bar.finish_and_clear();
    let mut group = group.map_err(|error| stopped(error, stop))?;
    let measured = rounds(args, &mut group, &mut tests, checkpoint.geometry(), stop);
    measured.map_err(|error| stopped(error, stop))?;
    println!(
        "{model}: {} x {threads} threads, {}, medians of {} rounds",
        args.ranks, args.model.numerics, args.rounds
    );
    table(&tests, columns);
    let figures = json!({
        "model": model,
        "ranks": args.ranks,
        "threads_per_rank": threads,
        "numerics": args.model.numerics,
        "results": tests.iter().map(Test::figures).collect::<Vec<_>>(),
    });
    report.map_or(Ok(()), |report| report.end_json(&figures))
}

/// Makes room for the largest of the loads.
fn shape(args: &PassArgs, tests: &[Test]) -> Result<Shape, String> {
    let all = args.model.all_threads();
    let (ranks, told) = (args.ranks.get(), args.model.told_threads());
    if all.count() < ranks {
        return Err(format!("--ranks {ranks} on {told}: a rank needs a thread"));
    }
    if all.parts(ranks).is_none() {
        return Err(format!("{told}: not as many for each of {ranks} ranks"));
    }
    let most = |of: fn(&Load) -> usize| tests.iter().map(|test| of(&test.load)).max();
    let positions = most(|load| load.prompt.saturating_add(load.output));
    Ok(Shape {
        ranks: args.ranks,
        threads: all,
        numerics: numerics(&args.model.numerics)?,
        cache: args.model.cache(),
        step_rows: args.max_step_rows.get(),
        sequences: most(|load| load.sequences).unwrap_or(1),
        positions: positions.unwrap_or(1),
    })
}

/// Measures all tests in each round, so that what the machine does meanwhile hits all alike.
fn rounds(
    args: &PassArgs,
    group: &mut Group,
    tests: &mut [Test],
    geometry: &Geometry,
    stop: &CancellationToken,
) -> Result<(), bench::Error> {
    let probe = Probe::new(args.model.all_threads().count())?;
    let bar = ProgressBar::new((args.rounds.get() * tests.len()) as u64);
    let mut seed = 0;
    let mut pass = |group: &mut Group, load| {
        seed += 1;
        match stop.is_cancelled() {
            true => Err(bench::Error::Cancelled),
            false => group.pass(load, geometry.vocab_size, seed),
        }
    };
    // The first touches all memory for the first time.
    if let Some(test) = tests.first() {
        pass(group, test.load)?;
    }
    for _ in 0..args.rounds.get() {
        for test in tests.iter_mut() {
            let (read, load) = (probe.read(), test.load);
            let times = pass(group, load)?;
            test.read.0.push(read);
            test.prompt_rate.0.push(load.prompt_rate(&times));
            if load.output > 0 {
                let rate = load.output_rate(&times);
                let bytes = weight_bytes(geometry, load.sequences) / load.sequences as f64;
                test.output_rate.0.push(rate);
                test.share.0.push(rate * bytes / read);
            }
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    Ok(())
}

fn table(tests: &[Test], columns: &[&str]) {
    println!("| test | tokens/s | least | most | memory reads GB/s | weights of it % |");
    println!("|---|---|---|---|---|---|");
    for test in tests {
        for column in columns {
            let (rate, share) = match *column {
                "pp" => (&test.prompt_rate, String::new()),
                _ => (
                    &test.output_rate,
                    format!("{:.0}", 100.0 * test.share.median()),
                ),
            };
            let what = match columns.len() {
                1 => String::new(),
                _ => format!(", {column}"),
            };
            println!(
                "| {}{what} | {:.1} | {:.1} | {:.1} | {:.1} | {share} |",
                test.name,
                rate.median(),
                rate.min(),
                rate.max(),
                test.read.median() / 1e9,
            );
        }
    }
}
