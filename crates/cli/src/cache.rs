//! Where files are kept that can be made again.

use std::path::PathBuf;

/// Returns Conclave's folder in the cache folder of the XDG base directory specification
/// (<https://specifications.freedesktop.org/basedir-spec/latest/>); `None` if no variable says where that
/// is.
pub(crate) fn folder() -> Option<PathBuf> {
    let set = |name| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Some(cache?.join("conclave"))
}
