//! Notes the version of the compiler, which the metrics show.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = std::env::var_os("RUSTC").expect("cargo says which compiler it runs");
    let output = Command::new(rustc).arg("--version").output();
    let said = String::from_utf8(output.expect("the compiler runs").stdout);
    // rustc 1.95.0 (59807616e 2026-04-14)
    let said = said.expect("it writes text");
    let version = said.split_whitespace().nth(1).unwrap_or("unknown");
    println!("cargo::rustc-env=CONCLAVE_RUSTC={version}");
}
