//! The files and folders that the documents name are there.

use std::path::Path;

use crate::{root, sources};

const DOCUMENTS: [&str; 5] = [
    "README.md",
    "docs/admin.md",
    "docs/architecture.md",
    "docs/configuration.md",
    "docs/reliability.md",
];

/// What ends the name of a file, where there is no folder before it.
const FILE_ENDINGS: [&str; 4] = [".rs", ".md", ".toml", ".py"];

/// Text between backticks, outside of fenced blocks.
fn in_backticks(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    for block in text.split("```").step_by(2) {
        found.extend(block.split('`').skip(1).step_by(2));
    }
    found
}

/// Targets of links into the repository.
fn links(text: &str) -> Vec<&str> {
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|after| after.split(')').next());
    targets.filter(|target| !target.contains("://")).collect()
}

/// Whether it may be meant as a path in the repository. Absolute ones, URLs and commands are not.
fn looks_like_a_path(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let is_file = FILE_ENDINGS.iter().any(|ending| text.ends_with(ending));
    text.chars().all(is_plain) && !text.starts_with('/') && (text.contains('/') || is_file)
}

/// Whether a document may call a file or folder so: by its path, with `crates/` and `src/` left
/// out, without `.rs`; or, if it has no folder, by its name.
fn exists(path: &str) -> bool {
    let there = |path: &Path| path.exists() || path.with_extension("rs").exists();
    if there(&root().join(path)) || there(&root().join("crates").join(path)) {
        return true;
    }
    match path.split_once('/') {
        Some((package, rest)) => there(&root().join("crates").join(package).join("src").join(rest)),
        None => sources().iter().any(|source| source.ends_with(path)),
    }
}

#[test]
fn every_path_that_a_document_names_exists() {
    for document in DOCUMENTS {
        let text = std::fs::read_to_string(root().join(document)).unwrap();
        let paths = in_backticks(&text).into_iter();
        let paths: Vec<&str> = paths.filter(|text| looks_like_a_path(text)).collect();
        let folder = root().join(document);
        let folder = folder.parent().unwrap();
        let dead = links(&text)
            .into_iter()
            .filter(|link| !folder.join(link).exists());
        let missing: Vec<&str> = paths
            .into_iter()
            .filter(|path| !exists(path))
            .chain(dead)
            .collect();
        assert!(missing.is_empty(), "{document} names {missing:?}");
    }
}

#[test]
fn paths_are_told_from_other_words() {
    let text = "a `crates/spec` b\n```\n`no/path`\n```\n[c](docs/x.md) and `step_loop.rs`";
    assert_eq!(in_backticks(text), ["crates/spec", "step_loop.rs"]);
    assert_eq!(links(text), ["docs/x.md"]);
    for path in ["crates/spec", "front/http", "step_loop.rs", "deny.toml"] {
        assert!(looks_like_a_path(path), "{path}");
    }
    for other in [
        "engine",
        "Engine::complete",
        "/v1/models",
        "http://x/y",
        "a b/c",
        "1,000",
    ] {
        assert!(!looks_like_a_path(other), "{other}");
    }
    for path in [
        "crates/spec",
        "engine/kv",
        "engine/kv.rs",
        "cli",
        "signals.rs",
    ] {
        assert!(exists(path), "{path}");
    }
    for path in ["crates/none", "engine/none", "none.rs", "engine/mod.rs"] {
        assert!(!exists(path), "{path}");
    }
}

/// Tests that a document names, as `file::function`.
fn tests_named(text: &str) -> Vec<(&str, &str)> {
    let words = in_backticks(text).into_iter();
    words.filter_map(|word| word.split_once(".rs::")).collect()
}

#[test]
fn every_test_that_keeps_a_promise_exists() {
    let text = std::fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let named = tests_named(&text);
    assert!(named.len() > 30, "{named:?}");
    let missing = named.iter().filter(|(file, test)| {
        let code = std::fs::read_to_string(root().join(format!("{file}.rs")));
        !code.is_ok_and(|code| code.contains(&format!("fn {test}(")))
    });
    let missing: Vec<_> = missing.collect();
    assert!(missing.is_empty(), "docs/reliability.md names {missing:?}");
}

/// The rows of a document's tables, without their heads.
fn rows(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let is_row = |index: &usize| {
        let is_head = lines
            .get(index + 1)
            .is_some_and(|next| next.starts_with("|---"));
        let line = lines[*index];
        line.starts_with("| ") && !is_head
    };
    let rows = (0..lines.len()).filter(is_row);
    rows.map(|index| lines[index]).collect()
}

#[test]
fn every_promise_names_a_test() {
    let text = std::fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let rows = rows(&text);
    assert!(rows.len() > 50, "{rows:?}");
    let unkept = rows.into_iter().filter(|row| {
        let mut cells = row.trim_end_matches([' ', '|']).rsplit(" | ");
        !cells.next().is_some_and(|tests| tests.contains(".rs"))
    });
    let unkept: Vec<&str> = unkept.collect();
    assert!(
        unkept.is_empty(),
        "docs/reliability.md: no test for {unkept:#?}"
    );
}

#[test]
fn a_row_without_a_test_is_seen() {
    let text = "| promise | test |\n|---|---|\n| a | `b.rs::c` |\n\nd\n";
    assert_eq!(rows(text), ["| a | `b.rs::c` |"]);
}

/// What docs/reliability.md says of a time, and where the code has it.
const TIMES: [(&str, &str, &str); 5] = [
    (
        "sent away after 5 s without progress",
        "crates/coordinator/src/limits.rs",
        "PROGRESS_LIMIT: Duration = Duration::from_secs(5)",
    ),
    (
        "| 10 s (its lease); ",
        "crates/presence/src/lib.rs",
        "LEASE: Duration = Duration::from_secs(10)",
    ),
    (
        "up to 3 s more where a worker of the last epoch does not come back |",
        "crates/cluster/src/leader/choice.rs",
        "GRACE: Duration = Duration::from_secs(3)",
    ),
    ("`--drain` (10 s)", "docs/conclave.toml", "\n#drain = 10\n"),
    ("`--hold` (120 s)", "docs/conclave.toml", "\n#hold = 120\n"),
];

#[test]
fn failures_take_as_long_as_is_said() {
    let text = std::fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    for (said, file, meant) in TIMES {
        assert!(text.contains(said), "docs/reliability.md: {said}");
        let code = std::fs::read_to_string(root().join(file)).unwrap();
        assert!(code.contains(meant), "{file} says otherwise: {meant}");
    }
}
