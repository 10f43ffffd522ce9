//! Versions of programs: `1.95.0`.

/// Major, minor and patch; what follows the patch (`-nightly`) is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32, pub(crate) u32);

impl Version {
    /// Finds the first version among the words of a text, as in `rustc 1.95.0 (59807616e 2026-04)`.
    pub(crate) fn in_words(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(Self::parse)
    }

    fn parse(word: &str) -> Option<Self> {
        let mut parts = word.splitn(3, '.');
        let mut number = || {
            let part = parts.next()?;
            let end = part.find(|c: char| !c.is_ascii_digit());
            part[..end.unwrap_or(part.len())].parse().ok()
        };
        Some(Self(number()?, number()?, number()?))
    }

    /// Whether a program of this version does what one of `wanted` does: only the patch may be newer.
    pub(crate) fn can_replace(self, wanted: Self) -> bool {
        (self.0, self.1) == (wanted.0, wanted.1) && self.2 >= wanted.2
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self(major, minor, patch) = self;
        write!(f, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_programs_print() {
        let read = Version::in_words;
        assert_eq!(read("rustc 1.95.0 (59807616e)"), Some(Version(1, 95, 0)));
        assert_eq!(read("rustc 1.96.1-nightly"), Some(Version(1, 96, 1)));
        assert_eq!(read("cargo-deny 0.20.2\n"), Some(Version(0, 20, 2)));
        assert_eq!(read("nothing of 2 kinds"), None);
    }

    #[test]
    fn only_a_newer_patch_replaces_a_version() {
        let wanted = Version(0, 20, 2);
        assert!(wanted.can_replace(wanted) && Version(0, 20, 3).can_replace(wanted));
        for other in [Version(0, 20, 1), Version(0, 21, 2), Version(1, 20, 2)] {
            assert!(!other.can_replace(wanted), "{other}");
        }
    }
}
