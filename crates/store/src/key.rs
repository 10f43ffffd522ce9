//! Names in the store: every key of a cluster lies under one prefix, and callers see what follows it.

use crate::client::ConfigError;
use crate::error::Error;
use crate::limits::MAX_KEY_BYTES;

/// The longest name of a cluster.
const MAX_CLUSTER_BYTES: usize = 63;

/// The key under which a store tells itself from another one of the same address (see
/// [`crate::watch`]). Callers' keys do not start with a dot, so it is never theirs.
const IDENTITY: &str = ".store";

/// Where all clusters lie.
pub(crate) const ROOT: &str = "/conclave/";

/// What follows them: '0' is the character after '/'.
pub(crate) const ROOT_END: &str = "/conclave0";

/// Returns the cluster that a key belongs to, if it is one's.
pub(crate) fn cluster_of(key: &[u8]) -> Option<String> {
    let under = key.strip_prefix(ROOT.as_bytes())?;
    let (name, _) = std::str::from_utf8(under).ok()?.split_once('/')?;
    Some(name.to_owned())
}

/// `/conclave/<cluster>/`.
#[derive(Clone, Debug)]
pub(crate) struct Prefix(String);

impl Prefix {
    pub(crate) fn new(cluster: &str) -> Result<Self, ConfigError> {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if cluster.is_empty() || cluster.len() > MAX_CLUSTER_BYTES || !cluster.chars().all(is_plain)
        {
            return Err(ConfigError::Cluster {
                cluster: cluster.to_owned(),
                limit: MAX_CLUSTER_BYTES,
            });
        }
        Ok(Self(format!("/conclave/{cluster}/")))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the key as the store knows it.
    pub(crate) fn key(&self, key: &str) -> Result<Vec<u8>, Error> {
        if key.is_empty() {
            return Err(refused(key));
        }
        self.range(key)
    }

    /// Returns the start of all keys that start so; all of the cluster's for the empty one.
    pub(crate) fn range(&self, prefix: &str) -> Result<Vec<u8>, Error> {
        let key = format!("{}{prefix}", self.0);
        if key.len() > MAX_KEY_BYTES || prefix.starts_with(['.', '/']) {
            return Err(refused(prefix));
        }
        Ok(key.into_bytes())
    }

    pub(crate) fn identity(&self) -> Vec<u8> {
        format!("{}{IDENTITY}", self.0).into_bytes()
    }

    /// Returns the key as callers know it, or nothing for one that is not theirs. What is not UTF-8
    /// (nothing of ours is) is shown as well as it can be.
    pub(crate) fn strip(&self, key: &[u8]) -> Option<String> {
        let key = key.strip_prefix(self.0.as_bytes())?;
        (!key.starts_with(b".")).then(|| String::from_utf8_lossy(key).into_owned())
    }
}

fn refused(key: &str) -> Error {
    Error::Key {
        key: key.to_owned(),
        limit: MAX_KEY_BYTES,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_lie_under_the_cluster_and_come_back_without_it() {
        let prefix = Prefix::new("lab-1").unwrap();
        let key = prefix.key("members/a").unwrap();
        assert_eq!(key, b"/conclave/lab-1/members/a");
        assert_eq!(prefix.strip(&key).as_deref(), Some("members/a"));
        assert_eq!(prefix.range("").unwrap(), b"/conclave/lab-1/");
        assert_eq!(prefix.strip(b"/conclave/lab-2/members/a"), None);
        assert_eq!(prefix.strip(&prefix.identity()), None);
        assert_eq!(
            prefix.strip(b"/conclave/lab-1/\xff").as_deref(),
            Some("\u{fffd}")
        );
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let prefix = Prefix::new("lab").unwrap();
        let longest = MAX_KEY_BYTES - prefix.as_str().len();
        assert!(prefix.key(&"k".repeat(longest)).is_ok());
        for key in ["", ".store", "/a", &"k".repeat(longest + 1)] {
            assert!(matches!(prefix.key(key), Err(Error::Key { .. })), "{key}");
        }
    }

    #[test]
    fn a_cluster_has_a_plain_name() {
        for name in ["", "a/b", "a b", "ä", &"a".repeat(64)] {
            assert!(Prefix::new(name).is_err(), "{name}");
        }
    }
}
