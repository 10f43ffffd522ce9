//! A rank that computes nothing but keeps its side of the contract, and checks the engine's.
//!
//! Its KV holds for every position a tag of the whole history up to there. A row reads the tags of
//! all positions that attention would see and fails unless each is of its own history. The token
//! it samples is a function of the history alone, so every output is known beforehand.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZero;
use std::ops::Range;

use spec::{
    BlockId, BlockRun, Line, LineResult, Part, PartResult, SampledToken, Slot, TokenId,
    TokenLogprob,
};

/// Scrambles 64 bits (the finalizer of splitmix64).
#[must_use]
pub fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// Tag of a history that is one token longer.
#[must_use]
pub fn extend(history: u64, token: TokenId) -> u64 {
    mix(history ^ mix(u64::from(token.0)))
}

/// Geometry and vocabulary, the same on all ranks.
#[derive(Clone, Copy, Debug)]
pub struct Model {
    /// Positions in a block.
    pub block_size: usize,
    /// Positions that a row of a sliding layer sees.
    pub window: usize,
    /// Tokens there are.
    pub vocab: u32,
}

impl Model {
    /// The token after a history. Sequences of different seeds draw differently.
    #[must_use]
    pub fn sample(self, history: u64, seed: u64) -> TokenId {
        TokenId((mix(history ^ mix(seed)) % u64::from(self.vocab)) as u32)
    }

    /// The logprob that a row reports for the prompt token after it.
    #[must_use]
    pub fn logprob(history: u64) -> f32 {
        -((mix(history) % 1000) as f32)
    }
}

/// What a rank does with an input that is late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Late {
    /// All inputs are there.
    No,
    /// The line is skipped; its tables are applied or not.
    Skips {
        /// Whether they are.
        applies_tables: bool,
    },
    /// The rows are computed but nothing is sampled.
    Withholds,
}

#[derive(Clone, Debug, PartialEq)]
struct Held {
    tokens: Vec<Option<TokenId>>,
    prompt_len: usize,
    seed: u64,
    full: Vec<Option<BlockId>>,
    window: Vec<Option<BlockId>>,
}

/// What a rank knows of its sequences.
pub type Slots = BTreeMap<Slot, Opened>;

/// One sequence on a rank.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened(Held);

/// Tags of both pools, by block and offset; none where nothing was written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Kv {
    full: Vec<Option<NonZero<u64>>>,
    window: Vec<Option<NonZero<u64>>>,
}

/// A rank.
#[derive(Clone, Debug, Default)]
pub struct StubRank {
    /// Its sequences.
    pub slots: Slots,
    /// Its memory.
    pub kv: Kv,
}

impl StubRank {
    /// Executes a part, or its first `lines` lines.
    ///
    /// # Panics
    ///
    /// If the part breaks the contract: that is what it is for.
    pub fn run(
        &mut self,
        model: Model,
        part: &Part,
        lines: usize,
        late: impl Fn(Slot) -> Late,
    ) -> PartResult {
        for slot in &part.closes {
            self.slots.remove(slot);
        }
        for open in &part.opens {
            let held = Held {
                tokens: open.tokens.iter().copied().map(Some).collect(),
                prompt_len: open.prompt_len as usize,
                seed: open.sampling.seed,
                full: Vec::new(),
                window: Vec::new(),
            };
            self.slots.insert(open.slot, Opened(held));
        }
        let mut seen = BTreeSet::new();
        let mut results = Vec::new();
        for line in part.lines.iter().take(lines) {
            assert!(seen.insert(line.slot), "two lines for slot {}", line.slot);
            let held = self.slots.get_mut(&line.slot);
            let held = held.expect("a line is of an open slot");
            results.push(run_line(
                model,
                &mut held.0,
                &mut self.kv,
                line,
                late(line.slot),
            ));
        }
        PartResult {
            rank: part.rank,
            lines: results,
        }
    }
}

fn apply(table: &mut Vec<Option<BlockId>>, run: &BlockRun) {
    if run.blocks.is_empty() {
        return;
    }
    table.resize(run.first as usize, None);
    table.extend(run.blocks.iter().copied().map(Some));
}

fn run_line(model: Model, held: &mut Held, kv: &mut Kv, line: &Line, late: Late) -> LineResult {
    let (start, end) = (line.start as usize, (line.start + line.len) as usize);
    assert!(line.len >= 1);
    // What can be late is needed to sample; the tokens of a chunk before the last are all there.
    let late = if line.samples { late } else { Late::No };
    let inputs: Option<Vec<_>> = (0..end)
        .map(|p| held.tokens.get(p).copied().flatten())
        .collect();
    let skips = matches!(late, Late::Skips { .. }) || inputs.is_none();
    let applies = !matches!(
        late,
        Late::Skips {
            applies_tables: false
        }
    );
    if !skips || applies {
        apply(&mut held.full, &line.full);
        apply(&mut held.window, &line.window);
    }
    let (false, Some(inputs)) = (skips, inputs) else {
        return LineResult::default();
    };
    let mut histories = vec![0];
    for token in &inputs {
        histories.push(extend(histories[histories.len() - 1], *token));
    }
    let history = |position: usize| histories[position + 1];
    let tag = |position: usize| NonZero::new(history(position) | 1);
    let entry = |table: &[Option<BlockId>], position: usize| {
        let block = table.get(position / model.block_size).copied().flatten();
        let block = block.unwrap_or_else(|| panic!("no block for {position} in {line:?}"));
        block.index() * model.block_size + position % model.block_size
    };
    for position in start..end {
        for (pool, table) in [(&mut kv.full, &held.full), (&mut kv.window, &held.window)] {
            let index = entry(table, position);
            pool.resize(pool.len().max(index + 1), None);
            pool[index] = tag(position);
        }
    }
    let read = |pool: &[Option<NonZero<u64>>], table: &[Option<BlockId>], seen: Range<usize>| {
        let row = seen.end - 1;
        for position in seen {
            let found = pool.get(entry(table, position)).copied().flatten();
            assert_eq!(found, tag(position), "{position} as seen from {row}");
        }
    };
    for row in start..end {
        read(&kv.full, &held.full, 0..row + 1);
        let first = (row + 1).saturating_sub(model.window);
        read(&kv.window, &held.window, first..row + 1);
    }
    let mut result = LineResult {
        ran: true,
        ..LineResult::default()
    };
    if line.prompt_logprobs {
        let rows = start..end.min(held.prompt_len - 1);
        result.prompt_logprobs = rows
            .map(|row| TokenLogprob {
                token: inputs.get(row + 1).copied().unwrap_or_else(|| {
                    held.tokens[row + 1].expect("the rank has the whole prompt")
                }),
                logprob: Model::logprob(history(row)),
                rank: 1,
                top: Vec::new(),
            })
            .collect();
    }
    if line.samples && late != Late::Withholds {
        let token = model.sample(history(end - 1), held.seed);
        held.tokens.resize(held.tokens.len().max(end + 1), None);
        held.tokens[end] = Some(token);
        let logprob = None;
        result.tokens.push(SampledToken { token, logprob });
    }
    result
}
