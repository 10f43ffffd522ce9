//! Whether tests may mount file systems that nobody else sees, as some of the checkpoint's do.

use std::process::Command;

use crate::command::{is_ci, output};

/// The tests that do; each ends at once where it may not.
const TESTS: [&str; 4] = [
    "a_full_disk_is_no_reason_to_fail",
    "a_disk_that_fills_up_meanwhile_is_told_and_nothing_stays",
    "a_mount_point_is_refused_at_once",
    "an_old_model_that_cannot_be_removed_is_told_as_such",
];

/// Returns the tests to skip here: all that mount, or none.
///
/// # Errors
///
/// In words, on a CI machine where mounting fails: there nobody would read that tests were skipped.
pub(crate) fn tests_to_skip() -> Result<&'static [&'static str], String> {
    let own_mounts = ["--user", "--map-root-user", "--mount"];
    let may_mount = [&own_mounts[2..], &own_mounts].into_iter().any(works);
    skipped(may_mount, is_ci())
}

fn skipped(may_mount: bool, is_ci: bool) -> Result<&'static [&'static str], String> {
    match (may_mount, is_ci) {
        (true, _) => Ok(&[]),
        (false, false) => Ok(&TESTS),
        (false, true) => Err(format!(
            "a tmpfs cannot be mounted, as {} tests do: on CI run them as root with CAP_SYS_ADMIN, or \
             where users have namespaces",
            TESTS.len()
        )),
    }
}

/// Whether a tmpfs can be mounted in a namespace that is made so.
fn works(namespace: &[&str]) -> bool {
    let mut mount = Command::new("unshare");
    mount.args(namespace);
    mount.args(["mount", "-t", "tmpfs", "tmpfs", "/tmp"]);
    output(mount).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_that_mount_are_called_so() {
        let source = concat!(
            include_str!("../../crates/checkpoint/tests/checkpoint/write.rs"),
            include_str!("../../crates/checkpoint/tests/checkpoint/packed.rs"),
        );
        for test in TESTS {
            let (_, body) = source.split_once(&format!("fn {test}()")).unwrap();
            let (body, _) = body.split_once("\n}\n").unwrap();
            assert!(body.contains("child::may_mount()"), "{test}");
        }
        let calls = source.matches("child::may_mount()").count();
        assert_eq!(calls, TESTS.len(), "tests that mount");
    }

    #[test]
    fn nothing_is_skipped_where_nobody_would_read_of_it() {
        assert_eq!(skipped(true, true), Ok(&[][..]));
        assert_eq!(skipped(false, false), Ok(&TESTS[..]));
        let why = skipped(false, true).unwrap_err();
        assert!(why.contains("CAP_SYS_ADMIN"), "{why}");
    }
}
