//! Where files are kept that can be made again.

use std::path::PathBuf;

/// Returns Conclave's folder in the cache folder of the XDG base directory specification
/// (<https://specifications.freedesktop.org/basedir-spec/latest/>); `None` if no variable says where that
/// is.
pub(crate) fn folder() -> Option<PathBuf> {
    // A relative one is to be ignored, says the specification; so is an empty one.
    let set = |name| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
    };
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Some(cache?.join("conclave"))
}
