//! Programs of others that `cargo xtask test` brings.

use std::ffi::OsString;
use std::io::Write;

/// Returns the program that a variable names. Where it names none the test is to end there: that is
/// said, and on a CI machine it is a failure.
///
/// # Panics
///
/// On a CI machine without the program.
#[must_use]
pub fn tool(variable: &str, tests: &str) -> Option<OsString> {
    let program = std::env::var_os(variable);
    if program.is_none() {
        let why = format!("{variable} is not set; run 'cargo xtask test --only cluster'");
        assert!(std::env::var_os("CI").is_none(), "{why}");
        // Not `eprintln!`, which is shown of failed tests only.
        let mut errors = std::io::stderr();
        writeln!(errors, "SKIPPED {tests}: {why}").ok();
    }
    program
}
