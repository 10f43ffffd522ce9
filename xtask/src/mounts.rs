//! Whether tests may mount file systems that nobody else sees, as some of the checkpoint's do.

use std::process::Command;

use crate::command::{is_ci, output};

/// The tests that do; each ends at once where it may not.
const TESTS: [&str; 3] = [
    "a_disk_that_fills_up_meanwhile_is_told_and_nothing_stays",
    "a_mount_point_is_refused_at_once",
    "an_old_model_that_cannot_be_removed_is_told_as_such",
];

/// The number of the capability to mount, `CAP_SYS_ADMIN`.
const MAY_ADMINISTER: u32 = 21;

/// Returns the tests to skip here: all that mount, or none.
///
/// # Errors
///
/// In words, if mounting fails on a CI machine that says it is allowed: there nobody would read that
/// tests were skipped.
pub(crate) fn tests_to_skip() -> Result<&'static [&'static str], String> {
    let own_mounts = ["--user", "--map-root-user", "--mount"];
    if [&own_mounts[2..], &own_mounts].into_iter().any(works) {
        return Ok(&[]);
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    if is_ci() && may_administer(&status) {
        return Err("this process has CAP_SYS_ADMIN, but cannot mount a tmpfs".into());
    }
    Ok(&TESTS)
}

/// Whether a tmpfs can be mounted in a namespace that is made so.
fn works(namespace: &[&str]) -> bool {
    let mut mount = Command::new("unshare");
    mount.args(namespace);
    mount.args(["mount", "-t", "tmpfs", "tmpfs", "/tmp"]);
    output(mount).is_some()
}

/// Reads the effective capabilities of a `/proc/PID/status`.
fn may_administer(status: &str) -> bool {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let set = line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
    set.is_some_and(|set| set >> MAY_ADMINISTER & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_that_mount_are_called_so() {
        let source = include_str!("../../crates/checkpoint/tests/checkpoint/write.rs");
        for test in TESTS {
            let (_, body) = source.split_once(&format!("fn {test}()")).unwrap();
            let (body, _) = body.split_once("\n}\n").unwrap();
            assert!(body.contains("child::may_mount()"), "{test}");
        }
        let calls = source.matches("child::may_mount()").count();
        assert_eq!(calls, TESTS.len(), "tests that mount");
    }

    #[test]
    fn a_container_without_the_capability_may_not_mount() {
        assert!(may_administer("Uid:\t0\nCapEff:\t000001ffffffffff\n"));
        // What docker gives root.
        assert!(!may_administer("Uid:\t0\nCapEff:\t00000000a80425fb\n"));
        assert!(!may_administer(""));
    }
}
