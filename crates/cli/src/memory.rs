//! How much memory a process may use: the machine's, or less where its control group says so.

use std::num::NonZeroU64;
use std::path::Path;

/// Returns the bytes that this process may use at most.
///
/// # Errors
///
/// In words, if the system says that it has none.
pub(crate) fn usable() -> Result<NonZeroU64, String> {
    let system = rustix::system::sysinfo();
    let machine = system.totalram.saturating_mul(u64::from(system.mem_unit));
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let limit = group_limit(Path::new("/sys/fs/cgroup"), &groups).unwrap_or(u64::MAX);
    NonZeroU64::new(machine.min(limit)).ok_or_else(|| "the system says it has no memory".into())
}

/// Returns the least limit of the process's groups and of those around them. `groups` has a line
/// `number:controllers:path` for each hierarchy; version 2 names no controllers. A group that
/// cannot be seen, as the outer ones of a container, limits nothing that can be known.
fn group_limit(root: &Path, groups: &str) -> Option<u64> {
    let limits = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let (root, file) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            "memory" => (root.join("memory"), "memory.limit_in_bytes"),
            _ => return Vec::new(),
        };
        let own = Path::new(path.trim_start_matches('/'));
        let read = |group: &Path| {
            let said = std::fs::read_to_string(root.join(group).join(file)).ok()?;
            said.trim().parse::<u64>().ok()
        };
        own.ancestors().filter_map(read).collect()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_group_limits_in_both_versions() {
        let root = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("pod/memory.max", "4096\n");
        write("pod/own/memory.max", "max\n");
        write("memory/old/memory.limit_in_bytes", "8192\n");
        let limit = |groups| group_limit(root.path(), groups);
        assert_eq!(limit("0::/pod/own\n"), Some(4096));
        assert_eq!(limit("4:memory:/old\n0::/\n"), Some(8192));
        assert_eq!(limit("4:memory:/old\n0::/pod\n"), Some(4096));
        assert_eq!(limit("1:cpu:/pod\n0::/gone\n"), None);
    }
}
