//! The kernels' tests on 64-bit ARM, on a machine that emulates it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{cargo, is_ci, output, root, run, target};
use crate::toolchain::is_new_enough;

const TARGET: &str = "aarch64-unknown-linux-gnu";

/// What links, and what emulates: the names of Debian's programs.
const PROGRAMS: [&str; 2] = ["aarch64-linux-gnu-gcc", "qemu-aarch64"];

/// Where Debian has the C library to link with.
const LIBRARIES: &str = "/usr/aarch64-linux-gnu";

/// Debian's packages of all these.
const PACKAGES: [&str; 3] = [
    "gcc-aarch64-linux-gnu",
    "libc6-dev-arm64-cross",
    "qemu-user",
];

/// What brings a compiler on Debian where there is no rustup, or nothing for it to fetch from.
const SCRIPT: &str = "tests/arm64-toolchain.sh";

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
        tests.env("RUSTC", compiler);
    }
    // Those of the machine may be for its own processor and linker; a compiler that is newer than the one
    // that this is written for may warn of more.
    tests.env_remove("CARGO_ENCODED_RUSTFLAGS");
    tests.env("RUSTFLAGS", "--cap-lints warn");
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

/// Returns what a program prints, if it can be started.
fn ask(program: impl AsRef<OsStr>, arguments: &[&str]) -> Option<String> {
    let mut command = Command::new(program);
    command.args(arguments);
    output(command)
}

/// Makes sure of linker, library and emulator.
fn programs() -> Result<(), String> {
    let are_there = || {
        let mut programs = PROGRAMS.iter();
        programs.all(|program| ask(program, &["--version"]).is_some())
            && Path::new(LIBRARIES).join("lib/crt1.o").is_file()
    };
    if !are_there() && is_ci() {
        let install = ["install", "--yes", "--no-install-recommends"];
        for arguments in [&["update"][..], &[&install[..], &PACKAGES].concat()] {
            let mut apt = Command::new("apt-get");
            apt.arg("-qq").args(arguments);
            run(apt)?;
        }
    }
    match are_there() {
        true => Ok(()),
        false => Err(format!(
            "the programs {} or the C library of 64-bit ARM are not there (Debian: apt-get install {})",
            PROGRAMS.join(" and "),
            PACKAGES.join(" ")
        )),
    }
}

/// Finds a compiler that has the standard library of [`TARGET`]: the machine's own if `None`.
fn compiler() -> Result<Option<PathBuf>, String> {
    let own = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    if has_library(&own) {
        return Ok(None);
    }
    let folder = target()?.join("arm64-toolchain");
    let compiler = folder.join("rustc");
    let works = || {
        let version = ask(&compiler, &["--version"]);
        version.is_some_and(|said| is_new_enough(&said)) && has_library(compiler.as_os_str())
    };
    if !works() && is_ci() {
        let mut bring = Command::new(root().join(SCRIPT));
        bring.arg(&folder);
        run(bring)?;
    }
    match works() {
        true => Ok(Some(compiler)),
        false => Err(format!(
            "this Rust has no standard library of 64-bit ARM: run 'rustup target add {TARGET}' or, on \
             Debian, '{SCRIPT} {}'",
            folder.display()
        )),
    }
}

/// Whether a compiler has the standard library of [`TARGET`].
fn has_library(compiler: &OsStr) -> bool {
    let folder = ask(compiler, &["--print", "target-libdir", "--target", TARGET]);
    folder.is_some_and(|folder| Path::new(folder.trim()).is_dir())
}
