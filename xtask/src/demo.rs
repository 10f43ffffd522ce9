//! `cargo xtask demo`: builds the binary and lets it show itself.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::command;

/// Becomes `conclave up --demo` with these further arguments; Ctrl-C ends that in order.
pub(crate) fn run(arguments: &[&str]) -> Result<(), String> {
    let binary = command::conclave()?;
    let mut up = Command::new(&binary);
    let error = up.args(["up", "--demo"]).args(arguments).exec();
    Err(format!("{}: {error}", binary.display()))
}
