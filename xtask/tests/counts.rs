//! The line that `cargo xtask test` ends with, which programs read.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

/// Writes a program that does what `line` says.
fn script(dir: &Path, name: &str, line: &str) {
    let path = dir.join(name);
    fs::write(&path, format!("#!/bin/sh\n{line}\n")).expect("a script can be written");
    fs::set_permissions(path, Permissions::from_mode(0o755)).expect("it can be made a program");
}

#[test]
fn the_counts_are_the_last_line_also_after_a_failure() {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    script(dir, "rustc", "echo rustc 1.99.0");
    script(dir, "cargo", "exit 1");
    // Both streams are one, as in the log of a CI machine.
    let line = format!("'{}' test --only lint 2>&1", env!("CARGO_BIN_EXE_xtask"));
    let mut test = Command::new("/bin/sh");
    test.args(["-c", &line])
        .env("PATH", dir)
        .env("RUSTC", dir.join("rustc"))
        .env("CARGO", dir.join("cargo"));
    let output = test.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(said.lines().last(), Some("0 passed, 1 failed, 0 skipped"));
    assert!(said.contains("rustfmt is not installed"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}
