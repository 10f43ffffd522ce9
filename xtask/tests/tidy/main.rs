//! Rules of the repository that no compiler checks.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod code;
mod dependencies;
mod documents;
mod sockets;

use std::path::{Path, PathBuf};

/// The only places that may hold unsafe code.
const UNSAFE_PLACES: [&str; 4] = [
    "crates/checkpoint/src/map.rs",
    "crates/kernels-cpu/src/fast/tile/",
    "crates/kernels-cpu/src/simd/",
    "crates/kernels-cuda/src/",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Every Rust file of the repository.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = ["crates", "tests", "xtask"]
        .map(|folder| root().join(folder))
        .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    assert!(found.len() > 50, "the sources were not found");
    found
}

/// Every folder with a manifest of its own.
fn packages() -> Vec<PathBuf> {
    let crates = std::fs::read_dir(root().join("crates")).unwrap();
    let mut found: Vec<PathBuf> = crates.map(|entry| entry.unwrap().path()).collect();
    found.extend(["tests", "xtask"].map(|folder| root().join(folder)));
    found
}

/// Lines of `text` up to its tests. Those of other files are only named, wherever.
fn product_lines(text: &str) -> usize {
    let mut lines = text.lines().zip(text.lines().skip(1));
    let begins = |(line, next): (&str, &str)| {
        line == "#[cfg(test)]" && next.starts_with("mod ") && !next.ends_with(';')
    };
    let tests = lines.position(begins);
    tests.unwrap_or_else(|| text.lines().count())
}

#[test]
fn tests_begin_where_they_stand_and_not_where_they_are_named() {
    let named = "//! A\n#[cfg(test)]\nmod testing;\n#[cfg(test)]\nuse a::B;\nfn f() {}\n";
    assert_eq!(product_lines(named), 6);
    let inline = format!("{named}\n#[cfg(test)]\nmod tests {{\n    fn g() {{}}\n}}\n");
    assert_eq!(product_lines(&inline), 7);
}

#[test]
fn every_file_says_what_it_is_for() {
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//! "), "{path:?} does not start with //!");
    }
}

#[test]
fn no_file_is_longer_than_one_idea() {
    let is_product = |path: &PathBuf| {
        let mut parts = path.components();
        parts.all(|part| part.as_os_str() != "tests" && part.as_os_str() != "tests.rs")
    };
    for path in sources().into_iter().filter(is_product) {
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = product_lines(&text);
        assert!(
            lines <= 500,
            "{path:?} has {lines} lines before its tests: look for a seam"
        );
    }
}

#[test]
fn every_package_takes_the_lints_of_the_workspace() {
    // All of it but one line is generated, and not as we write.
    let is_ours = |folder: &PathBuf| !folder.ends_with("crates/proto");
    for folder in packages().into_iter().filter(is_ours) {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        assert!(
            manifest.contains("[lints]\nworkspace = true\n"),
            "{folder:?} has lints of its own"
        );
    }
}

/// The first line that holds unsafe code or lifts the ban on it, in whatever spelling.
fn unsafe_line(text: &str) -> Option<usize> {
    let code = code::without_comments_and_texts(text);
    let is_unsafe = |line: &str| {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        words.any(|word| matches!(word, "unsafe" | "unsafe_code"))
    };
    Some(code.lines().position(is_unsafe)? + 1)
}

#[test]
fn unsafe_stays_where_it_belongs() {
    for path in sources() {
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        if UNSAFE_PLACES.iter().any(|place| shown.starts_with(place)) {
            continue;
        }
        let found = unsafe_line(&std::fs::read_to_string(&path).unwrap());
        let line = found.unwrap_or_default();
        assert!(found.is_none(), "{shown}:{line} has to do with unsafe code");
    }
}

#[test]
fn unsafe_code_is_seen_in_any_spelling() {
    for spelling in [
        "#![allow(unsafe_code)]",
        "#[expect(\n    dead_code,\n    unsafe_code,\n)]",
        "#![cfg_attr(test, expect(unsafe_code))]",
        "let x = unsafe { *p };",
        "let x = unsafe\n{ *p };",
        "pub(crate) unsafe fn f() {}",
        "unsafe impl Send for X {}",
        "unsafe extern \"C\" {}",
        "#[unsafe(no_mangle)]",
    ] {
        assert!(unsafe_line(spelling).is_some(), "{spelling}");
    }
    for harmless in [
        "// unsafe { } is banned",
        "let x = \"unsafe { }\";",
        "#![warn(unsafe_op_in_unsafe_fn)]",
        "let unsafe_word = 1;",
    ] {
        assert!(unsafe_line(harmless).is_none(), "{harmless}");
    }
}
