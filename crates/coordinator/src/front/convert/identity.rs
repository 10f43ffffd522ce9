//! Names of requests, and what is derived from them.

use std::hash::{BuildHasher as _, RandomState};

use sha2::{Digest as _, Sha256};

use crate::front::error::Error;
use crate::front::limits;

/// Takes the client's id for a request, or makes one.
pub(super) fn request_id(given: String) -> Result<String, Error> {
    if given.is_empty() {
        return Ok(format!("gen-{}", fresh_id()));
    }
    if given.len() > limits::MAX_ID_BYTES || !given.bytes().all(|byte| byte.is_ascii_graphic()) {
        let why = format!(
            "must be at most {} bytes of visible ASCII",
            limits::MAX_ID_BYTES
        );
        return Err(Error::field("request_id", why));
    }
    Ok(given)
}

/// Returns 128 random bits in hexadecimal.
///
/// They are two keyed hashes whose keys the standard library takes from the operating system.
pub(in crate::front) fn fresh_id() -> String {
    let half = || RandomState::new().hash_one(std::time::Instant::now());
    format!("{:016x}{:016x}", half(), half())
}

/// Hashes a text to 64 bits that look random: the first bytes of its SHA-256.
///
/// The seed of a request that sets none, so that a request that is continued elsewhere under the
/// same id draws what it would have drawn.
pub(in crate::front) fn hash64(text: &str) -> u64 {
    let digest = Sha256::digest(text.as_bytes());
    let first = digest
        .first_chunk::<8>()
        .expect("a SHA-256 digest has 32 bytes");
    u64::from_be_bytes(*first)
}

#[cfg(test)]
mod tests {
    use super::{fresh_id, hash64, request_id};

    #[test]
    fn fresh_ids_differ() {
        let ids: std::collections::HashSet<String> = (0..1000).map(|_| fresh_id()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(ids.iter().all(|id| id.len() == 32));
    }

    #[test]
    fn the_seed_of_an_id_never_changes() {
        // The first 64 bits of the SHA-256 of "abc" (FIPS 180-4, example).
        assert_eq!(hash64("abc"), 0xba78_16bf_8f01_cfea);
    }

    #[test]
    fn refuses_ids_that_would_break_a_log_line() {
        assert!(request_id("a\nb".into()).is_err());
        assert!(request_id("x".repeat(129)).is_err());
        assert_eq!(request_id("x-1".into()).unwrap(), "x-1");
    }
}
