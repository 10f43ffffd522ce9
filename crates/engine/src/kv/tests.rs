//! The cache's promises on one rank, with blocks of 4 and a window of 5.

use spec::KvPlan;

use super::*;

const BLOCK: usize = 4;

fn kv(full_blocks: usize) -> RankKv {
    let config = EngineConfig {
        num_ranks: 1,
        kv: KvPlan {
            block_size: BLOCK,
            full_blocks,
            window_blocks: 64,
            num_slots: 1,
        },
        sliding_window: 5,
        max_step_rows: 64,
        max_in_flight: 1,
        max_waiting: 1,
        max_context: 256,
        checkpoint_interval: 64,
    };
    config.check().unwrap();
    RankKv::new(&config)
}

struct Text {
    tokens: Vec<TokenId>,
    chain: Vec<BlockKey>,
}

impl Text {
    fn new(first: u32, len: u32) -> Self {
        let tokens: Vec<_> = (first..first + len).map(TokenId).collect();
        let mut chain = vec![BlockKey::root(0, 0)];
        for block in tokens.chunks_exact(BLOCK) {
            chain.push(chain[chain.len() - 1].child(block));
        }
        Self { tokens, chain }
    }

    fn history(&self) -> History<'_> {
        History {
            chain: &self.chain,
            tokens: &self.tokens,
        }
    }
}

/// Computes all of a text from what the cache has, and lets go of it.
fn compute(kv: &mut RankKv, text: &Text) -> Hit {
    let blocks = text.tokens.len() / BLOCK;
    let hit = kv.find(text.history(), blocks - 1);
    let mut table = kv.acquire(text.history(), hit);
    kv.extend(&mut table, text.tokens.len());
    for index in hit.blocks..blocks {
        kv.publish(&table, index, text.history(), false);
    }
    kv.check([&table].into_iter());
    kv.release(table);
    kv.check([].into_iter());
    hit
}

#[test]
fn evicts_the_end_of_a_text_before_its_beginning() {
    let mut kv = kv(10);
    let (long, other) = (Text::new(0, 40), Text::new(100, 16));
    compute(&mut kv, &long);
    compute(&mut kv, &other);
    assert_eq!(kv.find(long.history(), 10).blocks, 6);
}

#[test]
fn equal_keys_alone_do_not_hit() {
    let mut kv = kv(10);
    let (text, other) = (Text::new(0, 16), Text::new(100, 16));
    compute(&mut kv, &text);
    let forged = Text {
        tokens: other.tokens,
        chain: text.chain.clone(),
    };
    assert_eq!(kv.find(forged.history(), 4), Hit::default());
    // Nor does publishing one under the other's keys change what the cache knows.
    compute(&mut kv, &forged);
    assert_eq!(kv.find(text.history(), 4).blocks, 4);
}

#[test]
fn a_hit_needs_the_window_blocks_that_its_first_row_sees() {
    let mut kv = kv(10);
    let text = Text::new(0, 24);
    let mut table = kv.acquire(text.history(), Hit::default());
    kv.extend(&mut table, 24);
    // As if the window blocks of 0..8 were gone before the rest was published.
    kv.slide(&mut table, 12);
    for index in 0..6 {
        kv.publish(&table, index, text.history(), false);
    }
    let found = |limit| kv.find(text.history(), limit);
    // The row at 12 sees 8.., that at 8 sees 4.. .
    assert_eq!((found(2).blocks, found(2).full_blocks), (0, 2));
    assert_eq!(found(3).blocks, 3);
    assert_eq!(found(6).blocks, 6);
}

#[test]
fn two_that_compute_the_same_hold_their_own_blocks_and_share_one_entry() {
    let mut kv = kv(8);
    let text = Text::new(0, 16);
    let mut tables = [(); 2].map(|()| kv.acquire(text.history(), Hit::default()));
    for table in &mut tables {
        kv.extend(table, 16);
    }
    for table in &tables {
        for index in 0..4 {
            kv.publish(table, index, text.history(), false);
        }
    }
    kv.check(tables.iter());
    let [first, second] = tables;
    kv.release(second);
    assert_eq!((kv.full.load().free, kv.full.load().cached), (4, 0));
    kv.release(first);
    assert_eq!((kv.full.load().free, kv.full.load().cached), (4, 4));
}
