//! Whether the Rust on this machine is new enough and complete.

use std::process::Command;

use crate::command::{cargo, output, run};
use crate::version::Version;

/// The oldest Rust that builds the workspace.
const OLDEST: Version = Version(1, 95, 0);

/// Checks the version of the compiler.
///
/// # Errors
///
/// In words, if it is too old or says nothing.
pub(crate) fn check_version() -> Result<(), String> {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut ask = Command::new(compiler);
    ask.arg("--version");
    let said = output(ask).ok_or("rustc --version fails: install Rust from https://rustup.rs")?;
    check(&said)
}

fn check(said: &str) -> Result<(), String> {
    match is_new_enough(said) {
        true => Ok(()),
        false => Err(format!(
            "Conclave needs Rust {OLDEST} or newer, and this is {}: run 'rustup update stable'",
            said.trim()
        )),
    }
}

/// Whether what a compiler says of its version is enough.
pub(crate) fn is_new_enough(said: &str) -> bool {
    Version::in_words(said).is_some_and(|version| version >= OLDEST)
}

/// Makes sure that cargo has its formatter and its lints.
///
/// # Errors
///
/// In words, if they are missing and rustup cannot add them.
pub(crate) fn have_components() -> Result<(), String> {
    for (command, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        let is_there = || output(cargo(&[command, "--version"])).is_some();
        if is_there() {
            continue;
        }
        let mut add = Command::new("rustup");
        add.args(["component", "add", component]);
        let added = run(add);
        if !is_there() {
            let why = added.err().unwrap_or_default();
            return Err(format!(
                "{component} is not installed: run 'rustup component add clippy rustfmt', or \
                 install it as Rust was\n{why}"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_compiler_is_named_with_what_to_do() {
        let why = check("rustc 1.94.1 (abc 2026-02-01)\n").unwrap_err();
        assert!(why.contains("1.94.1") && why.contains("rustup update"));
        assert!(check("rustc 1.95.0 (59807616e)").is_ok());
        assert!(check("rustc 2.0.0").is_ok());
    }

    #[test]
    fn the_oldest_compiler_is_the_one_of_the_manifest() {
        let manifest = include_str!("../../Cargo.toml");
        let Version(major, minor, _) = OLDEST;
        let line = format!("rust-version = \"{major}.{minor}\"");
        assert!(manifest.lines().any(|found| found == line), "{line}");
    }
}
