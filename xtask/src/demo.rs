//! `cargo xtask demo`: builds the binary and lets it show itself.

use crate::command::{self, cargo};

/// Runs `conclave up --demo`; Ctrl-C goes to it, too, and ends it in order.
pub(crate) fn run() -> Result<(), String> {
    let build = ["build", "--release", "--locked", "--package", "cli"];
    println!("building conclave (the first time takes a few minutes) ...");
    run_cargo(&build)?;
    run_cargo(&[
        "run",
        "--release",
        "--locked",
        "--quiet",
        "--package",
        "cli",
        "--",
        "up",
        "--demo",
    ])
}

fn run_cargo(arguments: &[&str]) -> Result<(), String> {
    command::run(cargo(arguments))
}
