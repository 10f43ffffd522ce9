//! The Python environment of the tests that talk to us as foreign clients do.

use std::path::PathBuf;
use std::process::Command;

use crate::command::{root, run, target};

/// Makes sure of a virtual environment with exactly `tests/requirements.txt`; returns its folder.
///
/// # Errors
///
/// In words, with what to install.
pub(crate) fn environment() -> Result<PathBuf, String> {
    let folder = target().join("python");
    let pinned = root().join("tests/requirements.txt");
    let wanted =
        std::fs::read_to_string(&pinned).map_err(|error| format!("{pinned:?}: {error}"))?;
    let stamp = folder.join("requirements.txt");
    if std::fs::read_to_string(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(folder);
    }
    let mut make = Command::new("python3");
    make.args(["-m", "venv", "--clear"]).arg(&folder);
    run(make).map_err(|why| {
        format!("{why}\nThe tests need Python 3 with venv (Debian: apt-get install python3-venv)")
    })?;
    let mut install = Command::new(folder.join("bin/pip"));
    install
        .args(["install", "--quiet", "--disable-pip-version-check", "-r"])
        .arg(&pinned);
    run(install)?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("{stamp:?}: {error}"))?;
    Ok(folder)
}
