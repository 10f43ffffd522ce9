//! Rules of the repository that no compiler checks.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

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

/// Lines of `text` up to its tests.
fn product_lines(text: &str) -> usize {
    text.lines()
        .take_while(|line| *line != "#[cfg(test)]")
        .count()
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
    let is_product = |path: &PathBuf| path.components().all(|part| part.as_os_str() != "tests");
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
fn unsafe_stays_where_it_belongs() {
    let places = [
        "crates/checkpoint/src/map.rs",
        "crates/kernels-cpu/src/simd/",
        "crates/kernels-cuda/",
    ];
    for path in sources() {
        let text = std::fs::read_to_string(&path).unwrap();
        let lifted =
            text.contains("expect(unsafe_code") || text.contains("expect(\n    unsafe_code");
        let shown = path.strip_prefix(root()).unwrap().display().to_string();
        let here =
            shown.ends_with("tidy.rs") || places.iter().any(|place| shown.starts_with(place));
        assert!(!lifted || here, "{shown} lifts the ban on unsafe code");
    }
}

#[test]
fn every_dependency_is_used() {
    for entry in std::fs::read_dir(root().join("crates")).unwrap() {
        let folder = entry.unwrap().path();
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let inside = sources()
            .into_iter()
            .filter(|path| path.starts_with(&folder));
        let mut code: String = inside
            .map(|path| std::fs::read_to_string(path).unwrap())
            .collect::<Vec<_>>()
            .concat();
        if let Ok(build) = std::fs::read_to_string(folder.join("build.rs")) {
            code.push_str(&build);
        }
        for line in manifest.lines() {
            let Some((name, _)) = line.split_once(".workspace = true") else {
                continue;
            };
            if matches!(name, "version" | "edition" | "rust-version" | "license") {
                continue;
            }
            // Generated code names these, ours does not.
            let generated = folder.ends_with("proto");
            let used = code.contains(&name.replace('-', "_")) || generated;
            assert!(used, "{folder:?} does not use {name}");
        }
    }
}
