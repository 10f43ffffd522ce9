//! Labels whose values are known when the process runs: groups, ranks, and the process itself.

use std::borrow::Cow;

use crate::label::{Label, ScopeRef};

/// A group that a coordinator may lead: its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group(pub usize);

impl Label for Group {
    const NAME: &'static str = "group";

    fn allowed() -> Cow<'static, str> {
        "the names of `--groups`".into()
    }

    fn count(scope: &ScopeRef<'_>) -> usize {
        scope.0.groups.len()
    }

    fn text<'a>(scope: &ScopeRef<'a>, index: usize) -> Option<Cow<'a, str>> {
        Some(scope.0.groups.get(index)?.as_str().into())
    }

    fn index(self) -> usize {
        self.0
    }
}

/// A rank of a group, as its lead counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank(pub usize);

impl Label for Rank {
    const NAME: &'static str = "rank";

    fn allowed() -> Cow<'static, str> {
        "0 to the ranks of a group less one".into()
    }

    fn count(scope: &ScopeRef<'_>) -> usize {
        scope.0.ranks
    }

    fn text<'a>(_: &ScopeRef<'a>, index: usize) -> Option<Cow<'a, str>> {
        Some(index.to_string().into())
    }

    fn index(self) -> usize {
        self.0
    }
}

/// A rank that a worker holds: its place among the worker's own. Shown as the rank's number in its
/// group, once it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat(pub usize);

impl Label for Seat {
    const NAME: &'static str = "rank";

    fn allowed() -> Cow<'static, str> {
        "the worker's own among 0 to the ranks of its group less one".into()
    }

    fn count(scope: &ScopeRef<'_>) -> usize {
        scope.0.num_seats()
    }

    fn text<'a>(scope: &ScopeRef<'a>, index: usize) -> Option<Cow<'a, str>> {
        Some(scope.0.rank_in(index)?.to_string().into())
    }

    fn index(self) -> usize {
        self.0
    }
}

/// The process's own kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessKind;

impl Label for ProcessKind {
    const NAME: &'static str = "process";

    fn allowed() -> Cow<'static, str> {
        "coordinator, worker".into()
    }

    fn count(_: &ScopeRef<'_>) -> usize {
        1
    }

    fn text<'a>(scope: &ScopeRef<'a>, _: usize) -> Option<Cow<'a, str>> {
        Some(scope.0.process.into())
    }

    fn index(self) -> usize {
        0
    }
}

/// The program's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version;

impl Label for Version {
    const NAME: &'static str = "version";

    fn allowed() -> Cow<'static, str> {
        "as `conclave --version` says".into()
    }

    fn count(_: &ScopeRef<'_>) -> usize {
        1
    }

    fn text<'a>(scope: &ScopeRef<'a>, _: usize) -> Option<Cow<'a, str>> {
        Some(scope.0.version.as_str().into())
    }

    fn index(self) -> usize {
        0
    }
}
