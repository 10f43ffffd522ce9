//! A dependency that nothing names is a download for nothing.

use crate::{code, packages, sources};

/// Dependencies that only code generated at build time names.
const GENERATED: [(&str, &str); 3] = [
    ("proto", "prost"),
    ("proto", "prost-types"),
    ("proto", "tonic-prost"),
];

/// The names of all dependencies in a manifest, of whatever kind.
fn dependencies(manifest: &str) -> Vec<&str> {
    let mut inside = false;
    let mut names = Vec::new();
    for line in manifest.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[') {
            let section = section.trim_end_matches(']');
            inside = section.ends_with("dependencies");
            // [dependencies.name] is a table of its own.
            names.extend(
                section
                    .rsplit_once('.')
                    .filter(|(table, _)| table.ends_with("dependencies"))
                    .map(|(_, name)| name),
            );
        } else if inside && !line.starts_with('#') {
            let name = line.split(['.', '=', ' ']).next();
            names.extend(name.filter(|name| !name.is_empty() && line.contains('=')));
        }
    }
    names
}

/// Whether code says `name::…` or `use name`.
fn names(code: &str, name: &str) -> bool {
    let name = name.replace('-', "_");
    let is_word = |c: char| c.is_alphanumeric() || c == '_';
    code.match_indices(&name).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + name.len()..]);
        // `self::name::` and `crate::name::` are our own.
        let starts = !before.ends_with(is_word) && !before.ends_with("::");
        let is_path = after.starts_with("::");
        let is_use = before.ends_with("use ") && !after.starts_with(is_word);
        starts && (is_path || is_use)
    })
}

#[test]
fn every_dependency_is_used() {
    let sources = sources();
    let mut unused = Vec::new();
    for folder in packages() {
        let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        let inside = sources.iter().filter(|path| path.starts_with(&folder));
        let code: String = inside
            .map(|path| code::without_comments_and_texts(&std::fs::read_to_string(path).unwrap()))
            .collect();
        let package = folder.file_name().unwrap().to_str().unwrap();
        for name in dependencies(&manifest) {
            if !names(&code, name) && !GENERATED.contains(&(package, name)) {
                unused.push(format!("{package} does not use {name}"));
            }
        }
    }
    assert!(unused.is_empty(), "{unused:#?}");
}

#[test]
fn every_spelling_of_a_dependency_is_read() {
    let manifest = "[package]\nname = \"x\"\nversion.workspace = true\n[dependencies]\n\
                    # not = \"this\"\na.workspace = true\nb-c = { workspace = true, features = [] }\n\
                    d = \"1\"\n[target.'cfg(unix)'.dependencies]\ne.workspace = true\n\
                    [dev-dependencies.f]\nworkspace = true\n[lints]\nworkspace = true\n";
    assert_eq!(dependencies(manifest), ["a", "b-c", "d", "e", "f"]);
}

#[test]
fn a_use_is_told_from_a_word() {
    for used in [
        "static A: b_c::D = b_c::D;",
        "use b_c;",
        "use b_c as e;",
        "use b_c::D;",
        "#[b_c::main]",
        "&b_c::f()",
    ] {
        assert!(names(used, "b-c"), "{used}");
    }
    for unused in ["let b_c = 1;", "ab_c::f()", "use b_cd;", "crate::b_c::f()"] {
        assert!(!names(unused, "b-c"), "{unused}");
    }
}
