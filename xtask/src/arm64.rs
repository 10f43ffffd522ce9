//! The kernels' tests on 64-bit ARM, on a machine that emulates it.

use std::path::PathBuf;
use std::process::Command;

use crate::command::{cargo, is_ci, output, root, run, target};

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// What links, and what emulates: the names of Debian's programs.
const PROGRAMS: [&str; 2] = ["aarch64-linux-gnu-gcc", "qemu-aarch64"];

/// Debian's packages of them, with the C library to link with.
const PACKAGES: [&str; 3] = [
    "gcc-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
    "qemu-user",
];

/// Where Debian has that library.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// Returns the call that builds and runs the tests.
///
/// # Errors
///
/// In words, with what to install.
pub(crate) fn tests() -> Result<Command, String> {
    programs()?;
    let compiler = compiler()?;
    let mut tests = cargo(&["test", "--locked", "--quiet", "--no-fail-fast"]);
    tests.args(["--package", "kernels-cpu", "--lib", "--test", "conformance"]);
    tests.args(["--target", TARGET]);
    if let Some(compiler) = compiler {
        // Newer than the one that this is written for, it may warn of more.
        tests
            .env("RUSTC", compiler)
            .env("RUSTFLAGS", "--cap-lints warn");
    }
    // Apart, so that what another compiler has built is not thrown away.
    tests.env("CARGO_TARGET_DIR", target()?.join("arm64"));
    let [linker, emulator] = PROGRAMS;
    tests.env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER", linker);
    tests.env(
        "CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER",
        format!("{emulator} -cpu max -L {LIBRARIES}"),
    );
    Ok(tests)
}

/// Makes sure of linker and emulator.
fn programs() -> Result<(), String> {
    let is_there = |program: &&str| {
        let mut version = Command::new(program);
        version.arg("--version");
        output(version).is_some()
    };
    let are_there = || PROGRAMS.iter().all(is_there);
    if !are_there() && is_ci() {
        let mut install = Command::new("apt-get");
        install.args(["install", "--yes", "-qq", "--no-install-recommends"]);
        run({
            install.args(PACKAGES);
            install
        })?;
    }
    match are_there() {
        true => Ok(()),
        false => Err(format!(
            "there are no programs {} (Debian: apt-get install {})",
            PROGRAMS.join(" and "),
            PACKAGES.join(" ")
        )),
    }
}

/// Finds a compiler that has the standard library of [`TARGET`]: the machine's own if `None`.
fn compiler() -> Result<Option<PathBuf>, String> {
    let own = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut libraries = Command::new(own);
    libraries.args(["--print", "target-libdir", "--target", TARGET]);
    if output(libraries).is_some_and(|folder| PathBuf::from(folder.trim()).is_dir()) {
        return Ok(None);
    }
    let (script, folder) = (
        "tests/arm64-toolchain.sh",
        target()?.join("arm64-toolchain"),
    );
    let compiler = folder.join("rustc");
    let works = || {
        let mut version = Command::new(&compiler);
        version.arg("--version");
        output(version).is_some()
    };
    if !works() && is_ci() {
        let mut bring = Command::new(root().join(script));
        bring.arg(&folder);
        run(bring)?;
    }
    match works() {
        true => Ok(Some(compiler)),
        false => Err(format!(
            "this Rust has no standard library of 64-bit ARM: run 'rustup target add {TARGET}' or, on \
             Debian, '{script} {}'",
            folder.display()
        )),
    }
}
