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

/// The commit that the program was built from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit;

impl Label for Commit {
    const NAME: &'static str = "commit";

    fn allowed() -> Cow<'static, str> {
        "what `CONCLAVE_COMMIT` said at the build, or unknown".into()
    }

    fn count(_: &ScopeRef<'_>) -> usize {
        1
    }

    fn text<'a>(_: &ScopeRef<'a>, _: usize) -> Option<Cow<'a, str>> {
        Some(option_env!("CONCLAVE_COMMIT").unwrap_or("unknown").into())
    }

    fn index(self) -> usize {
        0
    }
}

/// The version of the compiler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rustc;

impl Label for Rustc {
    const NAME: &'static str = "rustc";

    fn allowed() -> Cow<'static, str> {
        "version of the compiler".into()
    }

    fn count(_: &ScopeRef<'_>) -> usize {
        1
    }

    fn text<'a>(_: &ScopeRef<'a>, _: usize) -> Option<Cow<'a, str>> {
        Some(env!("CONCLAVE_RUSTC").into())
    }

    fn index(self) -> usize {
        0
    }
}

/// An expert of a layer. None is shown unless a worker is asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expert(pub usize);

impl Expert {
    /// Experts of a layer that are shown at most.
    pub const MAX: usize = 128;
}

impl Label for Expert {
    const NAME: &'static str = "expert";

    fn allowed() -> Cow<'static, str> {
        "0 to the experts of a layer less one, below 128; none without `--expert-metrics`".into()
    }

    fn count(_: &ScopeRef<'_>) -> usize {
        Self::MAX
    }

    fn text<'a>(scope: &ScopeRef<'a>, index: usize) -> Option<Cow<'a, str>> {
        (index < scope.0.experts()).then(|| index.to_string().into())
    }

    fn index(self) -> usize {
        self.0
    }
}

/// A layer of the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layer(pub usize);

impl Layer {
    /// Layers that are shown at most.
    pub const MAX: usize = 64;
}

impl Label for Layer {
    const NAME: &'static str = "layer";

    fn allowed() -> Cow<'static, str> {
        "0 to the layers of the model less one, below 64".into()
    }

    fn count(_: &ScopeRef<'_>) -> usize {
        Self::MAX
    }

    fn text<'a>(scope: &ScopeRef<'a>, index: usize) -> Option<Cow<'a, str>> {
        (index < scope.0.layers()).then(|| index.to_string().into())
    }

    fn index(self) -> usize {
        self.0
    }
}
