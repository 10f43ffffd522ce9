//! The table as a text for people, and as one for programs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::series::Family;
use crate::telemetry::Telemetry;

/// What stands above the table in `docs/metrics.md`.
const PREFACE: &str = "\
# Metrics

Every process serves its metrics at `/metrics` of its admin listener, in Prometheus' text format. This
page is made of the table in `crates/telemetry/src/table.rs`, as is what `conclave --dump-metrics` prints:
one line for each metric, its columns separated by tabs.

All series exist from the start of a process, at 0, so that `rate()` and `absent()` work before the first
event; those with a worker's `rank` exist once a lead has given the worker its ranks, those with a
coordinator's `layer` once it has opened its model, those with `expert` where the worker was started with
`--expert-metrics`. A label has no values but those named here. Series of a worker also have the labels
`model` and `group`, series of a coordinator the label `model`.
";

/// A metric, and which processes show it with which labels.
struct Shown {
    name: &'static str,
    kind: &'static str,
    unit: &'static str,
    meaning: &'static str,
    buckets: &'static [f64],
    process: &'static str,
    labels: Vec<(&'static str, Cow<'static, str>)>,
}

/// Returns all metrics: those of any process, of a worker, of a coordinator.
fn all() -> Vec<Shown> {
    let worker = Telemetry::unseen_worker(1);
    let coordinator = Telemetry::unseen_coordinator(vec!["0".into()], 1);
    let any = worker
        .any_process()
        .into_iter()
        .map(|family| ("any", family));
    let workers = worker.own().into_iter().map(|family| ("worker", family));
    let coordinators = coordinator.own().into_iter();
    let coordinators = coordinators.map(|family| ("coordinator", family));
    let all = any.chain(workers).chain(coordinators);
    all.map(|(process, family)| shown(process, family))
        .collect()
}

fn shown(process: &'static str, family: &dyn Family) -> Shown {
    let entry = family.entry();
    let mut labels = Vec::new();
    family.describe(&mut |name, values| labels.push((name, values)));
    Shown {
        name: entry.name,
        kind: family.kind().as_str(),
        unit: entry.unit,
        meaning: entry.meaning.trim(),
        buckets: entry.buckets,
        process,
        labels,
    }
}

fn bounds(buckets: &[f64]) -> String {
    let bounds: Vec<String> = buckets.iter().map(f64::to_string).collect();
    bounds.join(" ")
}

/// Returns the table for programs: a line of column names, then one for each metric and the kind of
/// process that shows it. Columns are separated by tabs, labels by `; `, their values by `, `, bounds of
/// buckets by blanks.
#[must_use]
pub fn dump() -> String {
    let mut out = "name\ttype\tunit\tprocess\tlabels\tbuckets\tmeaning\n".to_owned();
    for metric in all() {
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|(name, values)| format!("{name}: {values}"))
            .collect();
        let Shown {
            name,
            kind,
            unit,
            process,
            meaning,
            ..
        } = metric;
        let (labels, buckets) = (labels.join("; "), bounds(metric.buckets));
        // Writing into a string cannot fail.
        _ = writeln!(
            out,
            "{name}\t{kind}\t{unit}\t{process}\t{labels}\t{buckets}\t{meaning}"
        );
    }
    out
}

/// Returns `docs/metrics.md`.
#[must_use]
pub fn page() -> String {
    let mut out = PREFACE.to_owned();
    let all = all();
    for (process, title) in [
        ("any", "Every process"),
        ("worker", "Workers"),
        ("coordinator", "Coordinators"),
    ] {
        _ = writeln!(out, "\n## {title}\n");
        out.push_str("| metric | type, unit | labels | meaning |\n|---|---|---|---|\n");
        for metric in all.iter().filter(|metric| metric.process == process) {
            let labels: Vec<String> = metric.labels.iter().map(|(name, _)| code(name)).collect();
            let Shown {
                name,
                kind,
                unit,
                meaning,
                ..
            } = metric;
            let labels = labels.join(", ");
            _ = writeln!(out, "| `{name}` | {kind}, {unit} | {labels} | {meaning} |");
        }
    }
    values(&mut out, &all);
    buckets(&mut out, &all);
    out
}

/// Lists the values of each label; one name may have others in another metric.
fn values(out: &mut String, all: &[Shown]) {
    let mut labels: BTreeMap<(&str, &str), Vec<&str>> = BTreeMap::new();
    for metric in all {
        for (name, values) in &metric.labels {
            let metrics = labels.entry((name, values)).or_default();
            if !metrics.contains(&metric.name) {
                metrics.push(metric.name);
            }
        }
    }
    out.push_str("\n## Values of labels\n\n| label | values | of |\n|---|---|---|\n");
    for ((name, values), metrics) in labels {
        let metrics: Vec<String> = metrics.into_iter().map(code).collect();
        _ = writeln!(out, "| `{name}` | {values} | {} |", metrics.join(", "));
    }
}

fn buckets(out: &mut String, all: &[Shown]) {
    let mut buckets: Vec<(&[f64], Vec<&str>)> = Vec::new();
    for metric in all.iter().filter(|metric| !metric.buckets.is_empty()) {
        let known = buckets
            .iter_mut()
            .find(|(bounds, _)| *bounds == metric.buckets);
        match known {
            Some((_, metrics)) if metrics.contains(&metric.name) => {}
            Some((_, metrics)) => metrics.push(metric.name),
            None => buckets.push((metric.buckets, vec![metric.name])),
        }
    }
    out.push_str("\n## Buckets of histograms\n\n| upper bounds | of |\n|---|---|\n");
    for (upper, metrics) in buckets {
        let metrics: Vec<String> = metrics.into_iter().map(code).collect();
        _ = writeln!(out, "| {} | {} |", bounds(upper), metrics.join(", "));
    }
}

fn code(name: &str) -> String {
    format!("`{name}`")
}

#[cfg(test)]
mod tests;
