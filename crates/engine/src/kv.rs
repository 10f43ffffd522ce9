//! KV memory of one rank: two pools, the tables of its sequences, the prefix cache over both.
//!
//! A sequence hits at position b if the full-attention blocks of 0..b are there and the window
//! blocks of what the row at b sees. A block stays known to the cache while nobody needs its room.

mod pool;
mod prefix;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use spec::{BlockId, TokenId};

pub(crate) use self::pool::Pool;
pub(crate) use self::prefix::BlockKey;
use self::prefix::Node;
use crate::config::EngineConfig;

/// The blocks one sequence holds on its rank.
#[derive(Debug, Default)]
pub(crate) struct Table {
    /// Blocks of the full-attention layers from position 0.
    pub(crate) full: Vec<BlockId>,
    /// Index of the first window block that is still held.
    pub(crate) window_first: usize,
    /// Blocks of the sliding layers from there.
    pub(crate) window: VecDeque<BlockId>,
}

impl Table {
    /// Returns the index behind the last window block.
    pub(crate) fn window_end(&self) -> usize {
        self.window_first + self.window.len()
    }

    /// Returns the window block of an index, if it is held.
    fn window_at(&self, index: usize) -> Option<BlockId> {
        let offset = index.checked_sub(self.window_first)?;
        self.window.get(offset).copied()
    }
}

/// A sequence's history as the prefix cache sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct History<'a> {
    /// The root, then the key of each whole block.
    pub(crate) chain: &'a [BlockKey],
    /// The tokens, at least as many as the chain covers.
    pub(crate) tokens: &'a [TokenId],
}

/// How much of a history a rank's cache holds, in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hit {
    /// Blocks from the start that a sequence can take over.
    pub(crate) blocks: usize,
    /// Blocks whose full-attention half is there, `>= blocks`.
    pub(crate) full_blocks: usize,
}

/// Blocks in both pools.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Room {
    /// Of the full-attention layers.
    pub(crate) full: usize,
    /// Of the sliding layers.
    pub(crate) window: usize,
}

/// KV memory of one rank.
#[derive(Debug)]
pub(crate) struct RankKv {
    block_size: usize,
    sliding_window: usize,
    pub(crate) full: Pool,
    pub(crate) window: Pool,
    nodes: BTreeMap<BlockKey, Node>,
}

impl RankKv {
    pub(crate) fn new(config: &EngineConfig) -> Self {
        Self {
            block_size: config.kv.block_size,
            sliding_window: config.sliding_window,
            full: Pool::new(config.kv.full_blocks),
            window: Pool::new(config.kv.window_blocks),
            nodes: BTreeMap::new(),
        }
    }

    /// Returns how many blocks could be taken now.
    pub(crate) fn room(&self) -> Room {
        Room {
            full: self.full.available(),
            window: self.window.available(),
        }
    }

    /// Returns a number that is another one whenever [`Self::find`] or [`Self::idle_in`] could
    /// answer something else than before.
    pub(crate) fn version(&self) -> u64 {
        // Neither ever falls, so the sum stays only if both do.
        self.full.version() + self.window.version()
    }

    /// Returns the first window block that the row at `position` sees.
    pub(crate) fn window_start(&self, position: usize) -> usize {
        (position + 1).saturating_sub(self.sliding_window) / self.block_size
    }

    /// Finds the longest prefix of at most `limit` whole blocks that a sequence can take over.
    pub(crate) fn find(&self, history: History<'_>, limit: usize) -> Hit {
        let mut hit = Hit::default();
        let mut windows_in_a_row = 0;
        for index in 0..limit {
            let Some(node) = self.node(history, index) else {
                break;
            };
            windows_in_a_row = match node.window {
                Some(_) => windows_in_a_row + 1,
                None => 0,
            };
            hit.full_blocks = index + 1;
            let seen = hit.full_blocks - self.window_start(hit.full_blocks * self.block_size);
            if windows_in_a_row >= seen {
                hit.blocks = hit.full_blocks;
            }
        }
        hit
    }

    /// Returns how many of a hit's blocks would no longer be available once they are held.
    pub(crate) fn idle_in(&self, history: History<'_>, hit: Hit) -> Room {
        let mut idle = Room::default();
        let window_start = self.window_start(hit.blocks * self.block_size);
        for index in 0..hit.blocks {
            let node = self.node(history, index).expect("a hit's blocks are there");
            idle.full += usize::from(self.full.is_idle(node.full));
            let window = node.window.filter(|_| index >= window_start);
            idle.window += usize::from(window.is_some_and(|block| self.window.is_idle(block)));
        }
        idle
    }

    /// Takes over the blocks of a hit.
    pub(crate) fn acquire(&mut self, history: History<'_>, hit: Hit) -> Table {
        let window_first = self.window_start(hit.blocks * self.block_size);
        let mut table = Table {
            full: Vec::with_capacity(hit.blocks),
            window_first,
            window: VecDeque::new(),
        };
        for index in 0..hit.blocks {
            let node = self.node(history, index).expect("a hit's blocks are there");
            let (full, window) = (node.full, node.window);
            self.full.hold(full);
            table.full.push(full);
            if index >= window_first {
                let block = window.expect("a hit's window blocks are there");
                self.window.hold(block);
                table.window.push_back(block);
            }
        }
        table
    }

    /// Returns how many of `want` rows from `planned` on there are blocks for, if `spare` blocks
    /// of each pool are better left to others. One row may take from the spare ones too.
    pub(crate) fn rows_that_fit(
        &self,
        table: &Table,
        planned: usize,
        want: usize,
        spare: usize,
    ) -> usize {
        let rows = |blocks: usize, room: usize| {
            let room = room.saturating_sub(spare).max(room.min(1));
            ((blocks + room) * self.block_size).saturating_sub(planned)
        };
        let room = self.room();
        want.min(rows(table.full.len(), room.full))
            .min(rows(table.window_end(), room.window))
    }

    /// Gives a table the blocks for all positions below `end`.
    ///
    /// # Panics
    ///
    /// If there are fewer than [`Self::rows_that_fit`] promised.
    pub(crate) fn extend(&mut self, table: &mut Table, end: usize) {
        let blocks = end.div_ceil(self.block_size);
        while table.full.len() < blocks {
            let (block, evicted) = self.full.take().expect("the rows fit");
            table.full.push(block);
            // Without its full-attention half a window block is of no use.
            if let Some(key) = evicted
                && let Some(Node { window, .. }) = self.nodes.remove(&key)
                && let Some(window) = window
            {
                self.window.unpublish(window);
            }
        }
        while table.window_end() < blocks {
            let (block, evicted) = self.window.take().expect("the rows fit");
            table.window.push_back(block);
            if let Some(key) = evicted {
                let node = self.nodes.get_mut(&key);
                node.expect("an idle window block has an entry").window = None;
            }
        }
    }

    /// Makes block `index` of a table known to the cache, all its positions being committed.
    /// Where the cache has the same content already, the table's block stays private.
    pub(crate) fn publish(
        &mut self,
        table: &Table,
        index: usize,
        history: History<'_>,
        kept: bool,
    ) {
        let (parent, key) = (history.chain[index], history.chain[index + 1]);
        let tokens = self.tokens_of(history, index);
        if let Some(node) = self.nodes.get(&key)
            && (node.parent != parent || *node.tokens != *tokens)
        {
            return;
        }
        let full = table.full[index];
        let node = self.nodes.entry(key).or_insert_with(|| {
            self.full.publish(full, key, false);
            Node {
                parent,
                tokens: tokens.into(),
                full,
                window: None,
            }
        });
        if node.window.is_none()
            && let Some(window) = table.window_at(index)
        {
            self.window.publish(window, key, kept);
            node.window = Some(window);
        }
    }

    /// Releases the window blocks that no row from `committed` on sees.
    pub(crate) fn slide(&mut self, table: &mut Table, committed: usize) {
        let start = self.window_start(committed);
        while table.window_first < start {
            let block = table.window.pop_front();
            self.window
                .release(block.expect("the row before saw this block"));
            table.window_first += 1;
        }
    }

    /// Makes what a leaving sequence computed known to the cache, where it is not: window blocks
    /// as far as they are there, and full-attention blocks whose twin in the cache is gone.
    pub(crate) fn publish_rest(&mut self, table: &Table, committed: usize, history: History<'_>) {
        for index in 0..committed / self.block_size {
            if index >= table.window_first || !self.full.is_published(table.full[index]) {
                self.publish(table, index, history, true);
            }
        }
    }

    /// Releases all blocks of a table, the last first: a prefix is worth more than what follows.
    pub(crate) fn release(&mut self, table: Table) {
        for block in table.full.into_iter().rev() {
            self.full.release(block);
        }
        for block in table.window.into_iter().rev() {
            self.window.release(block);
        }
    }

    fn tokens_of<'a>(&self, history: History<'a>, index: usize) -> &'a [TokenId] {
        &history.tokens[index * self.block_size..][..self.block_size]
    }

    /// Returns the entry of a history's block, if the cache has it and it is really the same.
    fn node(&self, history: History<'_>, index: usize) -> Option<&Node> {
        let node = self.nodes.get(&history.chain[index + 1])?;
        let same =
            node.parent == history.chain[index] && *node.tokens == *self.tokens_of(history, index);
        same.then_some(node)
    }

    /// Checks both pools' books against all the tables on the rank.
    pub(crate) fn check<'a>(&self, tables: impl Iterator<Item = &'a Table>) {
        let (full, window) = (self.full.load(), self.window.load());
        let num_full = full.held + full.cached + full.free;
        let num_window = window.held + window.cached + window.free;
        let (mut full_refs, mut window_refs) = (vec![0; num_full], vec![0; num_window]);
        for table in tables {
            for block in &table.full {
                full_refs[block.index()] += 1;
            }
            for block in &table.window {
                window_refs[block.index()] += 1;
            }
        }
        let (mut full_keys, mut window_keys) = (vec![None; num_full], vec![None; num_window]);
        for (key, node) in &self.nodes {
            let before = full_keys[node.full.index()].replace(*key);
            assert!(before.is_none(), "two entries for full block {}", node.full);
            if let Some(window) = node.window {
                let before = window_keys[window.index()].replace(*key);
                assert!(before.is_none(), "two entries for window block {window}");
            }
        }
        self.full.check(&full_refs, &full_keys);
        self.window.check(&window_refs, &window_keys);
    }
}
