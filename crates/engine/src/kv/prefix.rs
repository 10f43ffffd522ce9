//! What the prefix cache knows a block by: a hash over all tokens up to the block's end.

use std::hash::{DefaultHasher, Hasher};

use spec::{BlockId, TokenId};

/// 128 bits over the root and every token from position 0 to a block's end.
///
/// It only finds an entry. What is found is compared, see [`Node`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlockKey(u64, u64);

impl BlockKey {
    /// Returns where the chains of a principal and salt begin: no two share a key.
    pub(crate) fn root(principal: u32, salt: u64) -> Self {
        Self(u64::from(principal), salt)
    }

    /// Returns the key of the block that holds `tokens` after this one.
    pub(crate) fn child(self, tokens: &[TokenId]) -> Self {
        // Two hashes that differ in their first word. `new` has fixed keys: the same chain has the
        // same key in every run.
        let mut halves = [DefaultHasher::new(), DefaultHasher::new()];
        for (tag, half) in (1..).zip(&mut halves) {
            half.write_u64(tag);
            half.write_u64(self.0);
            half.write_u64(self.1);
        }
        for token in tokens {
            for half in &mut halves {
                half.write_u32(token.0);
            }
        }
        Self(halves[0].finish(), halves[1].finish())
    }
}

/// An entry of the prefix cache: the blocks that hold one stretch of one history.
#[derive(Debug)]
pub(crate) struct Node {
    /// Key of the block before, compared on a hit together with `tokens`: a walk from the root
    /// then compares the whole history, and equal hashes alone do not make a hit.
    pub(crate) parent: BlockKey,
    /// The block's own tokens.
    pub(crate) tokens: Box<[TokenId]>,
    /// Its block of the full-attention pool.
    pub(crate) full: BlockId,
    /// Its block of the window pool, if that is still there.
    pub(crate) window: Option<BlockId>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_depend_on_root_order_and_history() {
        let tokens = [TokenId(1), TokenId(2)];
        let swapped = [TokenId(2), TokenId(1)];
        let root = BlockKey::root(0, 0);
        let keys = [
            root.child(&tokens),
            root.child(&swapped),
            root.child(&tokens).child(&tokens),
            BlockKey::root(1, 0).child(&tokens),
            BlockKey::root(0, 1).child(&tokens),
        ];
        for (i, left) in keys.iter().enumerate() {
            assert!(keys[..i].iter().all(|right| right != left));
        }
        assert_eq!(root.child(&tokens), keys[0]);
    }
}
