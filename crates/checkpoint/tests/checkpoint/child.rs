//! Runs a test again in a process of its own, which may be killed, limited, or see other mounts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells a test that it runs as the child, and in which folder.
const DIR: &str = "CHECKPOINT_TEST_DIR";

/// Returns the folder to work in, if this process is the child.
pub(crate) fn dir() -> Option<PathBuf> {
    std::env::var_os(DIR).map(PathBuf::from)
}

/// Runs `test` in a child: `script`, in which `"$@"` is the child's command line and `$0` the
/// folder.
pub(crate) fn command(test: &str, dir: &Path, wrapper: &[&str], script: &str) -> Command {
    let line = [wrapper, &["sh", "-c", script]].concat();
    let mut command = Command::new(line[0]);
    command.args(&line[1..]).arg(dir);
    command.arg(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]);
    command.env(DIR, dir);
    command
}

/// Runs a child to its end; all that it asserts must hold.
pub(crate) fn run(mut command: Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let ran = String::from_utf8_lossy(&output.stdout).contains("1 passed");
    assert!(output.status.success() && ran, "{said}");
}

/// Returns what to put before a command so that permissions hold for it also if this is root, where
/// that can be had.
pub(crate) fn bound_by_permissions() -> &'static [&'static str] {
    const WRAPPER: &[&str] = &[
        "setpriv",
        "--inh-caps=-dac_override,-dac_read_search",
        "--bounding-set=-dac_override,-dac_read_search",
    ];
    let tried = Command::new(WRAPPER[0])
        .args(&WRAPPER[1..])
        .arg("true")
        .output();
    match tried.is_ok_and(|output| output.status.success()) {
        true => WRAPPER,
        false => &[],
    }
}

/// Returns what to put before a command so that it may mount file systems that nobody else sees,
/// or `None`, said loudly, where this machine does not allow that. `cargo xtask test` tries the same
/// beforehand and counts those tests as skipped.
pub(crate) fn may_mount() -> Option<&'static [&'static str]> {
    const AS_ANYONE: &[&str] = &["unshare", "--user", "--map-root-user", "--mount"];
    const AS_ROOT: &[&str] = &["unshare", "--mount"];
    let works = |wrapper: &&[&str]| {
        let line = [*wrapper, &["mount", "-t", "tmpfs", "tmpfs", "/tmp"]].concat();
        let tried = Command::new(line[0]).args(&line[1..]).output();
        tried.is_ok_and(|output| output.status.success())
    };
    let wrapper = [AS_ROOT, AS_ANYONE].into_iter().find(works);
    if wrapper.is_none() {
        // Past the harness, which would keep what a test that passes prints.
        let line = b"SKIPPED: this machine lets nobody mount a file system in a namespace\n";
        std::io::stderr().write_all(line).unwrap();
    }
    wrapper
}
