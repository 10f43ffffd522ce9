//! The text that is scraped, read strictly: what Prometheus would have to guess is wrong.

use std::collections::{BTreeMap, BTreeSet};

use telemetry::labels::{Call, Expert, Group, GrpcCode, HttpCode, Kind, Layer, Route, Seat, Verb};
use telemetry::{About, Telemetry};

use crate::{about, coordinator, worker};

/// Most series of a worker with eight ranks.
const WORKER_BUDGET: usize = 1500;

/// Most series of a coordinator that may lead two groups of eight ranks, with a model of 36 layers.
const COORDINATOR_BUDGET: usize = 2100;

/// Most series of a coordinator with one group, but for those of its ranks.
const GROUP_BUDGET: usize = 1550;

/// Most series of a coordinator for each rank of a group: the states of its worker, its blocks of KV by pool and
/// state, and how full that is.
const RANK_BUDGET: usize = 12;

/// A sample: name, labels, value.
type Sample = (String, BTreeMap<String, String>, f64);

/// A family: its type and its samples, in order.
type Families = BTreeMap<String, (String, Vec<Sample>)>;

/// Reads an exposition.
fn read(text: &str) -> Families {
    assert!(text.ends_with('\n'));
    let mut families = Families::new();
    let mut lines = text.lines().peekable();
    let mut series = BTreeSet::new();
    while let Some(line) = lines.next() {
        let (name, help) = line
            .strip_prefix("# HELP ")
            .unwrap()
            .split_once(' ')
            .unwrap();
        assert!(!help.trim().is_empty(), "{line}");
        let (of, kind) = lines
            .next()
            .unwrap()
            .strip_prefix("# TYPE ")
            .unwrap()
            .split_once(' ')
            .unwrap();
        assert_eq!(of, name);
        assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
        let mut samples = Vec::new();
        while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
            let sample = sample(line);
            assert!(
                series.insert((sample.0.clone(), sample.1.clone())),
                "{line} is there twice"
            );
            samples.push(sample);
        }
        if kind == "histogram" {
            histogram(name, &samples);
        } else {
            let others = samples.iter().find(|(of, ..)| of != name);
            assert!(others.is_none(), "{others:?} in {name}");
        }
        let before = families.insert(name.to_owned(), (kind.to_owned(), samples));
        assert!(before.is_none(), "{name} is there twice");
    }
    families
}

fn sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let value: f64 = value.parse().unwrap();
    let Some((name, labels)) = series.split_once('{') else {
        return (series.to_owned(), BTreeMap::new(), value);
    };
    let mut rest = labels.strip_suffix('}').unwrap();
    let mut labels = BTreeMap::new();
    while !rest.is_empty() {
        let (label, quoted) = rest.split_once("=\"").unwrap();
        assert!(
            label.chars().all(|c| c.is_ascii_lowercase() || c == '_'),
            "{line}"
        );
        let mut text = String::new();
        let mut letters = quoted.char_indices();
        let end = loop {
            match letters.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => text.push(match letters.next().unwrap().1 {
                    'n' => '\n',
                    other @ ('\\' | '"') => other,
                    other => panic!("\\{other} in {line}"),
                }),
                (_, other) => text.push(other),
            }
        };
        assert!(labels.insert(label.to_owned(), text).is_none(), "{line}");
        rest = &quoted[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    (name.to_owned(), labels, value)
}

/// Checks each series: its buckets add up, the last is the count, and there is one sum.
fn histogram(name: &str, samples: &[Sample]) {
    let mut series: BTreeMap<BTreeMap<String, String>, Vec<&Sample>> = BTreeMap::new();
    for sample in samples {
        let mut labels = sample.1.clone();
        labels.remove("le");
        series.entry(labels).or_default().push(sample);
    }
    for samples in series.values() {
        let (buckets, rest) = samples.split_at(samples.len() - 2);
        let (mut bound, mut count) = (f64::NEG_INFINITY, 0.0);
        for (of, labels, value) in buckets {
            assert_eq!(*of, format!("{name}_bucket"));
            let le: f64 = labels["le"].parse().unwrap();
            assert!(le > bound && *value >= count, "{name}: {buckets:?}");
            (bound, count) = (le, *value);
        }
        assert!(bound.is_infinite(), "{name}");
        assert_eq!(rest[0].0, format!("{name}_sum"));
        assert_eq!(
            (rest[1].0.clone(), rest[1].2),
            (format!("{name}_count"), count)
        );
    }
}

fn count(families: &Families) -> usize {
    families.values().map(|(_, samples)| samples.len()).sum()
}

#[test]
fn a_worker_of_eight_ranks_stays_within_its_budget() {
    let families = read(&worker(8).render());
    let count = count(&families);
    assert!((200..=WORKER_BUDGET).contains(&count), "{count} series");
    for (_, labels, _) in families.values().flat_map(|(_, samples)| samples) {
        assert_eq!((&*labels["model"], &*labels["group"]), ("tiny", "blue"));
    }
}

#[test]
fn experts_are_shown_one_by_one_where_asked_for_and_within_limits() {
    let series = |layers, experts| {
        let telemetry = worker(1);
        telemetry.show_experts(layers, experts);
        let metrics = telemetry.metrics();
        metrics.expert_tokens.add((Layer(1), Expert(2)), 7);
        let families = read(&telemetry.render());
        let samples = families["conclave_ep_expert_tokens_total"].1.clone();
        let of = |sample: &&Sample| sample.1["layer"] == "1" && sample.1["expert"] == "2";
        assert!((samples.iter().find(of).unwrap().2 - 7.0).abs() < f64::EPSILON);
        samples.len()
    };
    assert_eq!(series(36, 128), 36 * 128);
    assert_eq!(series(1000, 1000), Layer::MAX * Expert::MAX);
}

#[test]
fn a_coordinator_stays_within_its_budget() {
    let telemetry = coordinator(&["blue", "green"], 8);
    telemetry.layers(36);
    let families = read(&telemetry.render());
    let count = count(&families);
    assert!(
        (500..=COORDINATOR_BUDGET).contains(&count),
        "{count} series"
    );
}

#[test]
fn a_rank_more_of_a_group_costs_its_coordinator_few_series() {
    let series = |ranks| {
        let telemetry = coordinator(&["blue"], ranks);
        telemetry.layers(36);
        count(&read(&telemetry.render()))
    };
    let (one, many) = (series(1), series(72));
    let each = (many - one).div_ceil(71);
    assert!((1..=RANK_BUDGET).contains(&each), "{each} series a rank");
    let budget = GROUP_BUDGET + 72 * RANK_BUDGET;
    assert!(many <= budget, "{many} series, not at most {budget}");
}

#[test]
fn every_series_is_there_at_0_before_anything_has_happened() {
    let telemetry = coordinator(&["blue"], 2);
    for (name, (kind, samples)) in read(&telemetry.render()) {
        if kind == "gauge" || name.starts_with("process_") {
            continue;
        }
        assert!(!samples.is_empty(), "{name}");
        assert!(samples.iter().all(|(.., value)| *value == 0.0), "{name}");
    }
    let families = read(&telemetry.render());
    let calls = &families["conclave_grpc_requests_total"].1;
    assert_eq!(calls.len(), Call::ALL.len() * GrpcCode::ALL.len());
}

#[test]
fn a_combination_of_labels_is_the_one_that_was_counted() {
    let telemetry = coordinator(&["blue", "green"], 2);
    let metrics = telemetry.metrics();
    metrics
        .http_requests
        .add((Route::Model, (Verb::Get, HttpCode::C404)), 3);
    metrics
        .step_duration
        .observe((Group(1), Kind::Mixed), 0.004);
    let families = read(&telemetry.render());
    let requests = &families["conclave_http_requests_total"].1;
    let counted: Vec<_> = requests
        .iter()
        .filter(|(.., value)| *value != 0.0)
        .collect();
    let [(_, labels, value)] = counted[..] else {
        panic!("{counted:?}")
    };
    assert!((*value - 3.0).abs() < f64::EPSILON);
    for (label, expected) in [
        ("route", "/v1/models/{name}"),
        ("method", "GET"),
        ("code", "404"),
    ] {
        assert_eq!(labels[label], expected);
    }
    let steps = &families["conclave_step_duration_seconds"].1;
    let counted: Vec<_> = steps.iter().filter(|(.., value)| *value != 0.0).collect();
    assert!(
        counted
            .iter()
            .all(|(_, labels, _)| labels["group"] == "green" && labels["kind"] == "mixed")
    );
    let first = counted[0].1["le"].as_str();
    assert_eq!(first, "0.004", "a value on a bound is within it");
}

#[test]
fn names_from_the_configuration_are_escaped() {
    let about = About {
        model: "a \"b\"\\c\nd".into(),
        ..about()
    };
    let telemetry = Telemetry::worker(about, "0", 1);
    let families = read(&telemetry.render());
    let labels = &families["conclave_epoch"].1[0].1;
    assert_eq!(labels["model"], "a \"b\"\\c\nd");
}

#[test]
fn a_rank_is_shown_once_the_worker_holds_it() {
    let telemetry = Telemetry::worker(about(), "0", 2);
    let steps = |telemetry: &telemetry::WorkerTelemetry| {
        let families = read(&telemetry.render());
        let family = families.get("conclave_steps_total").cloned();
        let (_, samples) = family.unwrap_or_default();
        let decodes = samples
            .into_iter()
            .filter(|(_, labels, _)| labels["kind"] == "decode");
        let shown = decodes.map(|(_, labels, value)| (labels["rank"].clone(), value));
        shown.collect::<Vec<_>>()
    };
    assert_eq!(steps(&telemetry), []);
    telemetry.seat([2, 5]);
    telemetry.metrics().steps.add((Seat(1), Kind::Decode), 7);
    telemetry.seat([2, 5]);
    assert_eq!(steps(&telemetry), [("2".into(), 0.0), ("5".into(), 7.0)]);
    // Another rank's steps are not its own; when that one comes back, its own are still there.
    telemetry.seat([2, 3]);
    assert_eq!(steps(&telemetry), [("2".into(), 0.0), ("3".into(), 0.0)]);
    telemetry.seat([5, 2]);
    telemetry.metrics().steps.add((Seat(0), Kind::Decode), 1);
    assert_eq!(steps(&telemetry), [("2".into(), 0.0), ("5".into(), 8.0)]);
}

#[test]
fn the_process_is_measured() {
    let families = read(&worker(1).render());
    let value = |name: &str| families[name].1[0].2;
    assert!(value("process_resident_memory_bytes") > 1e6);
    assert!(value("process_open_fds") >= 3.0);
    assert!(value("process_max_fds") >= value("process_open_fds"));
    assert!(value("process_start_time_seconds") > 1.6e9);
    let build = &families["conclave_build_info"].1[0];
    assert_eq!(
        (&*build.1["version"], &*build.1["process"]),
        ("1.2.3", "worker")
    );
    assert_eq!(build.1["rustc"].split('.').count(), 3, "{build:?}");
    assert!(!build.1["commit"].is_empty(), "{build:?}");
}
