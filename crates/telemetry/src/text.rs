//! The text that Prometheus scrapes, version 0.0.4.
//!
//! Source: Prometheus, "Exposition formats", text-based format.

use std::fmt::Write as _;

use crate::scope::Scope;
use crate::series::Family;

/// The text's media type.
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text that grows family by family.
#[derive(Debug)]
pub(crate) struct Text<'a> {
    out: String,
    scope: &'a Scope,
}

impl<'a> Text<'a> {
    pub(crate) fn new(scope: &'a Scope) -> Self {
        Self {
            out: String::new(),
            scope,
        }
    }

    /// Appends a family: help, type, and all its series.
    pub(crate) fn family(&mut self, family: &dyn Family) {
        let entry = family.entry();
        let name = entry.name;
        let help = entry.meaning.trim().replace('\\', "\\\\");
        // Writing into a string cannot fail.
        _ = writeln!(self.out, "# HELP {name} {help}");
        _ = writeln!(self.out, "# TYPE {name} {}", family.kind());
        family.write(self);
    }

    /// Begins a series.
    pub(crate) fn line<'t>(&'t mut self, name: &'static str) -> Line<'t, 'a> {
        let mut line = Line {
            text: self,
            name,
            labels: String::new(),
        };
        for (label, value) in &line.text.scope.constants {
            append(&mut line.labels, label, value);
        }
        line
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }
}

/// A series whose labels are being collected.
#[derive(Debug)]
pub(crate) struct Line<'t, 'a> {
    text: &'t mut Text<'a>,
    name: &'static str,
    labels: String,
}

impl Line<'_, '_> {
    pub(crate) fn label(&mut self, name: &str, value: &str) {
        append(&mut self.labels, name, value);
    }

    /// Writes a sample under the family's name with this ending.
    pub(crate) fn end(&mut self, ending: &str, value: &str) {
        let Self { text, name, labels } = self;
        _ = match labels.is_empty() {
            true => writeln!(text.out, "{name}{ending} {value}"),
            false => writeln!(text.out, "{name}{ending}{{{labels}}} {value}"),
        };
    }

    /// Writes a bucket of a histogram.
    pub(crate) fn bucket(&mut self, bound: &str, count: u64) {
        let length = self.labels.len();
        append(&mut self.labels, "le", bound);
        self.end("_bucket", &count.to_string());
        self.labels.truncate(length);
    }
}

fn append(labels: &mut String, name: &str, value: &str) {
    if !labels.is_empty() {
        labels.push(',');
    }
    _ = write!(labels, "{name}=\"");
    for letter in value.chars() {
        match letter {
            '\\' => labels.push_str("\\\\"),
            '"' => labels.push_str("\\\""),
            '\n' => labels.push_str("\\n"),
            other => labels.push(other),
        }
    }
    labels.push('"');
}

/// Returns a number as Prometheus reads it.
pub(crate) fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "+Inf".into(),
        f64::NEG_INFINITY => "-Inf".into(),
        value => value.to_string(),
    }
}
