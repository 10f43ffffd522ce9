//! Runs other programs and says what went wrong with them.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where cargo is told to build; it takes a relative path from the folder it was started in.
const TARGET_VARIABLES: [&str; 2] = ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR"];

/// Returns the repository's root, whatever folder the command was started in.
pub(crate) fn root() -> PathBuf {
    let mut root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    root.pop();
    root
}

/// Whether this is a CI machine, where nobody reads what is printed of tests that pass.
pub(crate) fn is_ci() -> bool {
    std::env::var_os("CI").is_some()
}

/// Returns the folder of build outputs: the one that cargo has put this program into, by whatever
/// variable or file it was chosen. A flag of the outer cargo (`--target-dir`) does not reach those
/// that are called here, and is not supported.
///
/// # Errors
///
/// In words, if this program cannot be found.
pub(crate) fn target() -> Result<PathBuf, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find xtask: {error}"))?;
    target_of(&program).ok_or_else(|| format!("{program:?} does not lie in a target folder"))
}

/// TARGET of TARGET/PROFILE/xtask.
fn target_of(program: &Path) -> Option<PathBuf> {
    let target = program.parent()?.parent()?;
    target.is_absolute().then(|| target.to_owned())
}

/// Returns a call of cargo, in the root.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.current_dir(root()).args(arguments);
    for name in TARGET_VARIABLES {
        if let Some(Ok(folder)) = std::env::var_os(name).map(std::path::absolute) {
            command.env(name, folder);
        }
    }
    command
}

/// Builds the program as users run it; returns where it is.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn conclave() -> Result<PathBuf, String> {
    println!("building conclave (the first time takes a few minutes) ...");
    run(cargo(&[
        "build",
        "--release",
        "--locked",
        "--package",
        "cli",
    ]))?;
    Ok(target()?.join("release/conclave"))
}

/// Runs a command to its end.
///
/// # Errors
///
/// In words, if it cannot be started or fails.
pub(crate) fn run(mut command: Command) -> Result<(), String> {
    let shown = show(&command);
    let status = command
        .status()
        .map_err(|error| format!("{shown}: {error}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{shown}: {status}"))
    }
}

/// Runs a command to its end and returns what it printed, or nothing if it cannot be started or
/// fails. What it has to say about that is not shown.
pub(crate) fn output(mut command: Command) -> Option<String> {
    let output = command.output().ok()?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    output.status.success().then_some(printed)
}

/// Shows a command as one would type it.
pub(crate) fn show(command: &Command) -> String {
    let program = command.get_program().to_string_lossy().into_owned();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let arguments = command
        .get_args()
        .map(|argument| argument.to_string_lossy().into_owned());
    std::iter::once(program)
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_target_folder_is_where_cargo_has_put_the_program() {
        let found = target_of(Path::new("/builds/conclave/debug/xtask"));
        assert_eq!(found.unwrap(), Path::new("/builds/conclave"));
        assert!(target_of(Path::new("debug/xtask")).is_none());
    }
}
