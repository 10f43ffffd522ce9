//! `conclave bench kernels`: single ops beside what the machine can do at most.

use std::ops::ControlFlow;

use bench::limits::{Limits, Probe};
use bench::ops::{Op, Which, measure};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::super::synth::bytes_bar;
use super::{Report, show, stopped};
use crate::args::KernelsArgs;
use crate::commands::worker::numerics;
use crate::model::open_checkpoint;
use crate::{Outcome, in_words};

/// Measures the limits, then each op, and prints a line for each as soon as it is there.
pub(super) fn run(args: &KernelsArgs, stop: &CancellationToken) -> Outcome {
    let report = Report::begin("--json", args.model.json.as_ref())?;
    let model = args.model.named()?;
    let checkpoint = open_checkpoint(&model)?;
    let threads = args.model.all_threads().count();
    let which = Which {
        threads: args.model.all_threads(),
        numerics: numerics(&args.model.numerics)?,
        cache: args.model.cache(),
        rows: args.rows.iter().map(|rows| rows.get()).collect(),
        context: args.context.get(),
    };
    let probe = Probe::new(threads).map_err(bench::Error::from);
    let probe = probe.map_err(in_words)?;
    let limits = probe.limits();
    println!(
        "{model}: {threads} threads, {}, medians of runs",
        args.model.numerics
    );
    print!("memory reads {:.1} GB/s", limits.read / 1e9);
    for (name, rate) in &limits.multiply {
        print!(", {name} multiplies {:.0} GFLOP/s", rate / 1e9);
    }
    println!(
        "\n\n| op | rows | time µs | GB/s | % | GFLOP/s | of | % |\n|---|---|---|---|---|---|---|---|"
    );
    let bar = bytes_bar("loading");
    let ops = measure(
        &checkpoint,
        &which,
        &probe,
        &mut |progress| show(&bar, progress, stop),
        &mut |op| {
            bar.finish_and_clear();
            print_line(op, &limits);
            match stop.is_cancelled() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        },
    );
    let ops = ops.map_err(|error| stopped(error, stop))?;
    let figures = json!({
        "model": model,
        "threads": threads,
        "numerics": args.model.numerics,
        "limits": limits,
        "ops": ops,
    });
    report.map_or(Ok(()), |report| report.end_json(&figures))
}

fn print_line(op: &Op, limits: &Limits) {
    let (reads, rate) = (op.reads().median(), op.rates().median());
    let multiplied = match op.unit.and_then(|unit| limits.best(unit)) {
        Some((name, most)) => {
            let share = 100.0 * rate / most;
            format!("{:.1} | {name} | {share:.0}", rate / 1e9)
        }
        None => "- | - | -".to_owned(),
    };
    println!(
        "| {} | {} | {:.1} | {:.1} | {:.0} | {multiplied} |",
        op.name,
        op.rows,
        1e6 * op.seconds.median(),
        reads / 1e9,
        100.0 * reads / limits.read,
    );
}
