//! One pool of KV blocks: who holds which, and in which order the unused ones are given out.

use std::collections::BTreeMap;

use spec::BlockId;

use super::prefix::BlockKey;
use crate::outcome::PoolLoad;

/// Place in the order of eviction, lowest first: blocks the cache prefers to keep come last.
type Order = (bool, u64);

#[derive(Clone, Debug, Default)]
struct Block {
    /// Tables that name it.
    refs: u32,
    /// What the prefix cache knows it by.
    key: Option<BlockKey>,
    /// Whether the cache prefers it to others.
    kept: bool,
    /// Where it stands among the idle, while it does.
    order: Option<Order>,
}

/// Blocks of one kind on one rank. Each is held (by tables), idle (by the cache alone) or free.
#[derive(Debug)]
pub(crate) struct Pool {
    blocks: Vec<Block>,
    free: Vec<BlockId>,
    idle: BTreeMap<Order, BlockId>,
    /// Counts releases, so that the longest unused block is the lowest.
    clock: u64,
    /// Counts what changes for the prefix cache, see [`Self::version`].
    version: u64,
}

impl Pool {
    pub(crate) fn new(num_blocks: usize) -> Self {
        let ids = 0..u32::try_from(num_blocks).expect("the configuration limits the blocks to u32");
        Self {
            blocks: vec![Block::default(); num_blocks],
            // Given out from the back, so lowest first.
            free: ids.rev().map(BlockId).collect(),
            idle: BTreeMap::new(),
            clock: 0,
            version: 0,
        }
    }

    /// Returns how many blocks could be taken now.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + self.idle.len()
    }

    /// Returns a number that is another one whenever a block became known to the cache, or no longer
    /// is, or one that the cache knows came to be idle or held.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    pub(crate) fn load(&self) -> PoolLoad {
        PoolLoad {
            held: self.blocks.len() - self.available(),
            cached: self.idle.len(),
            free: self.free.len(),
        }
    }

    /// Gives out a block with one holder; with it the key of the cache entry that had to go.
    pub(crate) fn take(&mut self) -> Option<(BlockId, Option<BlockKey>)> {
        let (block, evicted) = match self.free.pop() {
            Some(block) => (block, None),
            None => {
                let (_, block) = self.idle.pop_first()?;
                self.version += 1;
                (block, self.blocks[block.index()].key)
            }
        };
        self.blocks[block.index()] = Block {
            refs: 1,
            ..Block::default()
        };
        Some((block, evicted))
    }

    /// Adds a holder to a block that the cache knows. It has proved useful, so it is kept longer.
    pub(crate) fn hold(&mut self, block: BlockId) {
        let entry = &mut self.blocks[block.index()];
        debug_assert!(entry.key.is_some(), "only cached blocks are shared");
        if let Some(order) = entry.order.take() {
            self.idle.remove(&order);
            self.version += 1;
        }
        entry.refs += 1;
        entry.kept = true;
    }

    /// Removes a holder; the last one leaves the block to the cache if it knows it, else free.
    pub(crate) fn release(&mut self, block: BlockId) {
        let entry = &mut self.blocks[block.index()];
        entry.refs = entry
            .refs
            .checked_sub(1)
            .expect("a block is released once by each holder");
        if entry.refs > 0 {
            return;
        }
        if entry.key.is_none() {
            self.free.push(block);
            return;
        }
        let order = (entry.kept, self.clock);
        self.clock += 1;
        self.version += 1;
        entry.order = Some(order);
        self.idle.insert(order, block);
    }

    /// Makes a held block known to the cache.
    pub(crate) fn publish(&mut self, block: BlockId, key: BlockKey, kept: bool) {
        let entry = &mut self.blocks[block.index()];
        debug_assert!(entry.refs > 0 && entry.key.is_none());
        entry.key = Some(key);
        entry.kept = kept;
        self.version += 1;
    }

    /// Takes a block out of the cache; whoever holds it keeps it.
    pub(crate) fn unpublish(&mut self, block: BlockId) {
        let entry = &mut self.blocks[block.index()];
        entry.key = None;
        entry.kept = false;
        self.version += 1;
        if let Some(order) = entry.order.take() {
            self.idle.remove(&order);
            self.free.push(block);
        }
    }

    pub(crate) fn is_published(&self, block: BlockId) -> bool {
        self.blocks[block.index()].key.is_some()
    }

    /// Returns whether only the cache has it, so that holding it makes one fewer available.
    pub(crate) fn is_idle(&self, block: BlockId) -> bool {
        self.blocks[block.index()].order.is_some()
    }

    /// Returns whether a row may write into it: one holder, unknown to the cache.
    pub(crate) fn is_exclusive(&self, block: BlockId) -> bool {
        let entry = &self.blocks[block.index()];
        entry.refs == 1 && entry.key.is_none()
    }

    /// Checks the books against the holders counted from the tables, `refs[block]`, and against
    /// the cache's entries, `keys[block]`.
    pub(crate) fn check(&self, refs: &[u32], keys: &[Option<BlockKey>]) {
        let mut places = vec![0u32; self.blocks.len()];
        for block in &self.free {
            places[block.index()] += 1;
            assert!(self.blocks[block.index()].key.is_none(), "{block} is free");
        }
        for (order, block) in &self.idle {
            places[block.index()] += 1;
            let entry = &self.blocks[block.index()];
            assert_eq!(entry.order, Some(*order), "order of block {block}");
            assert!(entry.key.is_some(), "block {block} is idle without a key");
        }
        for (index, entry) in self.blocks.iter().enumerate() {
            assert_eq!(entry.refs, refs[index], "holders of block {index}");
            assert_eq!(entry.key, keys[index], "cache entry of block {index}");
            let expected = u32::from(entry.refs == 0);
            assert_eq!(places[index], expected, "block {index} is held or spare");
            assert!(entry.order.is_none() || entry.refs == 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u64) -> BlockKey {
        BlockKey::root(0, number)
    }

    #[test]
    fn evicts_the_longest_unused_first_and_what_is_kept_last() {
        let mut pool = Pool::new(3);
        let blocks = [(); 3].map(|()| pool.take().unwrap().0);
        pool.publish(blocks[0], key(0), true);
        pool.publish(blocks[1], key(1), false);
        pool.publish(blocks[2], key(2), false);
        for block in [blocks[0], blocks[2], blocks[1]] {
            pool.release(block);
        }
        let order = [(); 3].map(|()| pool.take().unwrap());
        assert_eq!(order[0], (blocks[2], Some(key(2))));
        assert_eq!(order[1], (blocks[1], Some(key(1))));
        assert_eq!(order[2], (blocks[0], Some(key(0))));
        assert_eq!(pool.take(), None);
    }

    #[test]
    fn a_shared_block_stays_until_its_last_holder_is_gone() {
        let mut pool = Pool::new(1);
        let (block, _) = pool.take().unwrap();
        pool.publish(block, key(0), false);
        pool.hold(block);
        pool.release(block);
        assert_eq!(pool.available(), 0);
        pool.release(block);
        assert!(pool.is_idle(block));
        pool.unpublish(block);
        assert_eq!(pool.take(), Some((block, None)));
    }

    #[test]
    fn the_version_changes_with_whatever_the_cache_could_notice() {
        let mut pool = Pool::new(2);
        let (block, _) = pool.take().unwrap();
        let mut last = pool.version();
        let mut changed = |pool: &Pool| {
            let before = std::mem::replace(&mut last, pool.version());
            before != last
        };
        pool.publish(block, key(0), false);
        assert!(changed(&pool), "published");
        pool.release(block);
        assert!(changed(&pool), "idle");
        pool.hold(block);
        assert!(changed(&pool), "held");
        pool.hold(block);
        assert!(!changed(&pool), "held by another too");
        pool.release(block);
        assert!(!changed(&pool), "no longer by that one");
        pool.unpublish(block);
        assert!(changed(&pool), "unpublished");
        pool.release(block);
        assert!(!changed(&pool), "free");
        let both = [(); 2].map(|()| pool.take().unwrap().0);
        assert!(!changed(&pool), "taken while free");
        pool.publish(both[0], key(0), false);
        pool.release(both[0]);
        changed(&pool);
        pool.take().unwrap();
        assert!(changed(&pool), "evicted");
    }
}
