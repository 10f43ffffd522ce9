//! What holds of every metric.

use std::collections::BTreeMap;

use super::{all, dump};

#[test]
fn names_say_type_and_unit() {
    for metric in all() {
        let (name, unit) = (metric.name, metric.unit);
        let ours = name
            .strip_prefix("conclave_")
            .or(name.strip_prefix("process_"));
        let word = ours.unwrap_or_else(|| panic!("{name}"));
        let is_counter = metric.kind == "counter";
        assert_eq!(word.ends_with("_total"), is_counter, "{name}");
        let word = word.trim_end_matches("_total");
        for base in ["seconds", "bytes", "ratio"] {
            assert_eq!(word.ends_with(&format!("_{base}")), unit == base, "{name}");
        }
        let letters = |letter: char| letter.is_ascii_lowercase() || letter == '_';
        assert!(name.chars().all(letters), "{name}");
        let (first, last) = (metric.meaning.chars().next(), metric.meaning.chars().last());
        assert!(
            first.is_some_and(|first| first.is_uppercase() || first == '1'),
            "{name}"
        );
        assert_eq!(last, Some('.'), "{name}");
        assert!(!metric.meaning.contains(['|', '\t', '\n']), "{name}");
    }
}

#[test]
fn buckets_ascend_and_belong_to_histograms() {
    for metric in all() {
        let is_histogram = metric.kind == "histogram";
        assert_eq!(is_histogram, !metric.buckets.is_empty(), "{}", metric.name);
        assert!(metric.buckets.is_sorted_by(|a, b| a < b), "{}", metric.name);
    }
}

#[test]
fn one_name_is_one_metric_in_all_processes() {
    let mut known = BTreeMap::new();
    for metric in all() {
        let what = (metric.kind, metric.unit, metric.buckets);
        let before = known.insert((metric.name, metric.process), what);
        assert!(before.is_none(), "{} is there twice", metric.name);
        for process in ["any", "worker", "coordinator"] {
            let other = known.get(&(metric.name, process));
            assert!(other.is_none_or(|other| *other == what), "{}", metric.name);
        }
        assert!(metric.process == "any" || !known.contains_key(&(metric.name, "any")));
    }
}

#[test]
fn labels_have_names_of_their_own_in_a_metric() {
    for metric in all() {
        // The last three are those of all series, and of buckets.
        let mut names: Vec<&str> = metric.labels.iter().map(|(name, _)| *name).collect();
        names.extend(["model", "le"]);
        if metric.process == "worker" {
            names.push("group");
        }
        names.sort_unstable();
        assert!(
            names.is_sorted_by(|a, b| a < b),
            "{}: {names:?}",
            metric.name
        );
    }
}

#[test]
fn the_dump_has_as_many_columns_in_every_line() {
    let dump = dump();
    assert!(dump.lines().count() > 50);
    for line in dump.lines() {
        assert_eq!(line.split('\t').count(), 7, "{line}");
    }
    assert!(dump.contains("\nconclave_steps_total\tcounter\tsteps\tworker\trank: "));
}
