//! What npm's registry brings: buf, which checks the `.proto` files.

use std::path::PathBuf;
use std::process::Command;

use crate::command::{root, run, target};

/// The package and, by its hash, every file of it.
const PACKAGE: [&str; 2] = ["package.json", "package-lock.json"];

/// Where the two lie.
const FOLDER: &str = "tests/buf";

/// Makes sure of buf, as `tests/buf` pins it; returns its program.
///
/// # Errors
///
/// In words, with what to install.
pub(crate) fn buf() -> Result<PathBuf, String> {
    let folder = target()?.join("buf");
    let scope = folder.join("node_modules/@bufbuild");
    let has_changed = PACKAGE.iter().any(|file| {
        let wanted = std::fs::read(root().join(FOLDER).join(file)).ok();
        wanted.is_none() || wanted != std::fs::read(folder.join(file)).ok()
    });
    if has_changed || program_in(&scope).is_none() {
        install(&folder)?;
    }
    program_in(&scope).ok_or_else(|| format!("npm has no buf of {FOLDER} for this machine"))
}

fn install(folder: &PathBuf) -> Result<(), String> {
    let in_words = |error: std::io::Error| format!("{folder:?}: {error}");
    std::fs::create_dir_all(folder).map_err(in_words)?;
    for file in PACKAGE {
        std::fs::copy(root().join(FOLDER).join(file), folder.join(file)).map_err(in_words)?;
    }
    let mut npm = Command::new("npm");
    npm.current_dir(folder);
    // It is one program: no script of its package has anything to do.
    npm.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund"]);
    run({
        npm.arg("--loglevel=error");
        npm
    })
    .map_err(|why| {
        format!(
            "{why}\nThe .proto files are checked with buf of {FOLDER}/package.json: it needs npm \
             (Debian: apt-get install npm), and registry.npmjs.org or a mirror that npm's \
             configuration names"
        )
    })
}

/// There is a package of it for each kind of machine, and npm installs the one that fits.
fn program_in(scope: &PathBuf) -> Option<PathBuf> {
    let packages = std::fs::read_dir(scope).ok()?.flatten();
    let mut programs = packages.map(|package| package.path().join("bin/buf"));
    programs.find(|program| program.is_file())
}
