//! `cargo xtask demo`: builds the binary and lets it show itself.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::command::{self, cargo};

/// Becomes `conclave up --demo` with these further arguments; Ctrl-C ends that in order.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let build = ["build", "--release", "--locked", "--package", "cli"];
    println!("building conclave (the first time takes a few minutes) ...");
    command::run(cargo(&build))?;
    let binary = command::target()?.join("release/conclave");
    let mut up = Command::new(&binary);
    let error = up.args(["up", "--demo"]).args(arguments).exec();
    Err(format!("{}: {error}", binary.display()))
}
