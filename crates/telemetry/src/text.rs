//! The text that Prometheus scrapes, version 0.0.4: what the exporter renders, in order and corrected.
//!
//! Source: Prometheus, "Exposition formats", text-based format.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::series::{Family, Kind};

/// The text's media type.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Puts families in this order and their series in that of their labels, says `counter` of sums of
/// seconds, and leaves out series of a `rank` for which `is_shown` says no: the exporter forgets none.
pub(crate) fn tidy(
    rendered: &str,
    families: &[&dyn Family],
    is_shown: impl Fn(&str) -> bool,
) -> String {
    let mut blocks: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for block in rendered.split("\n\n") {
        // Help and type; both name the family.
        let Some(name) = block.split(' ').nth(2) else {
            continue;
        };
        let series = block.lines().filter(|line| !line.starts_with('#'));
        let shown = series.filter(|line| rank(line).is_none_or(&is_shown));
        blocks.insert(name, shown.collect());
    }
    let mut text = String::with_capacity(rendered.len());
    for family in families {
        let (entry, kind) = (family.entry(), family.kind());
        let name = entry.name;
        let Some(mut series) = blocks.remove(name) else {
            continue;
        };
        // The lines of a histogram belong together in the order that they have.
        if kind != Kind::Histogram {
            series.sort_unstable();
        }
        let (help, kind) = (entry.meaning.trim(), kind.as_str());
        // Writing into a string cannot fail.
        _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        for line in series {
            text.push_str(line);
            text.push('\n');
        }
    }
    text
}

/// Returns the value of a series' label `rank`. The labels of all series, whose values may be any text,
/// come before it.
fn rank(line: &str) -> Option<&str> {
    let (_, value) = line.rsplit_once(",rank=\"")?;
    value.split('"').next()
}
