//! Checks a part before any of it is applied: parts come from the network.

use std::collections::{HashMap, HashSet};

use spec::{Attention, BlockRun, Geometry, KvPlan, Line, Open, Part, Rank, Slot};

use crate::error::{LineFault, OpenFault, PartFault};
use crate::kv::pool_blocks;
use crate::slots::Slots;
use crate::table::Table;

/// What a part is checked against.
pub(crate) struct PartCheck<'a> {
    pub(crate) geometry: &'a Geometry,
    pub(crate) plan: &'a KvPlan,
    pub(crate) slots: &'a Slots,
    pub(crate) rank: Rank,
}

/// The state of a sequence when the lines are reached.
struct Opened<'a> {
    prompt_len: usize,
    full: &'a Table,
    window: &'a Table,
}

impl PartCheck<'_> {
    /// Finds the first fault; without one, applying and executing the part cannot go wrong.
    pub(crate) fn run(&self, part: &Part) -> Result<(), PartFault> {
        if part.rank != self.rank {
            return Err(PartFault::OtherRank {
                part: part.rank,
                rank: self.rank,
            });
        }
        let num_slots = self.slots.len();
        if let Some(slot) = part.closes.iter().find(|slot| slot.index() >= num_slots) {
            return Err(PartFault::Close {
                slot: *slot,
                num_slots,
            });
        }
        let mut opens = HashMap::new();
        for open in &part.opens {
            let checked = match opens.insert(open.slot, open) {
                Some(_) => Err(OpenFault::Twice),
                None => self.check_open(open),
            };
            checked.map_err(|why| PartFault::Open {
                slot: open.slot,
                sequence: open.sequence,
                why,
            })?;
        }
        let closes: HashSet<Slot> = part.closes.iter().copied().collect();
        let empty = Table::default();
        let (mut seen, mut written) = (HashSet::new(), Written::default());
        for (index, line) in part.lines.iter().enumerate() {
            let opened = match opens.get(&line.slot) {
                Some(open) => Some(Opened {
                    prompt_len: open.prompt_len as usize,
                    full: &empty,
                    window: &empty,
                }),
                None if closes.contains(&line.slot) => None,
                None => self.slots.find(line.slot).map(|sequence| Opened {
                    prompt_len: sequence.prompt_len,
                    full: &sequence.full,
                    window: &sequence.window,
                }),
            };
            let checked = match opened {
                None => Err(LineFault::NotOpen),
                Some(_) if !seen.insert(line.slot) => Err(LineFault::Twice),
                Some(opened) => self.check_line(line, &opened, &mut written),
            };
            checked.map_err(|why| PartFault::Line {
                line: index,
                slot: line.slot,
                why,
            })?;
        }
        Ok(())
    }

    fn check_open(&self, open: &Open) -> Result<(), OpenFault> {
        let num_slots = self.slots.len();
        if open.slot.index() >= num_slots {
            return Err(OpenFault::NoSuchSlot { num_slots });
        }
        let (num_tokens, prompt_len) = (open.tokens.len(), open.prompt_len);
        if prompt_len == 0 || prompt_len as usize > num_tokens {
            return Err(OpenFault::PromptLen {
                prompt_len,
                num_tokens,
            });
        }
        let max_positions = self.geometry.max_positions;
        if num_tokens > max_positions {
            return Err(OpenFault::TooLong {
                num_tokens,
                max_positions,
            });
        }
        let vocab_size = self.geometry.vocab_size;
        let mut tokens = open.tokens.iter().enumerate();
        if let Some((position, token)) = tokens.find(|(_, token)| token.index() >= vocab_size) {
            return Err(OpenFault::NoSuchToken {
                token: *token,
                position,
                vocab_size,
            });
        }
        open.sampling.check(vocab_size).map_err(OpenFault::Sampling)
    }

    fn check_line(
        &self,
        line: &Line,
        opened: &Opened<'_>,
        written: &mut Written,
    ) -> Result<(), LineFault> {
        let (start, end) = (line.start as usize, line.start as usize + line.len as usize);
        if line.len == 0 {
            return Err(LineFault::Empty);
        }
        let max_positions = self.geometry.max_positions;
        if end > max_positions {
            return Err(LineFault::TooFar {
                start: line.start,
                len: line.len,
                max_positions,
            });
        }
        if line.samples && end < opened.prompt_len {
            return Err(LineFault::SamplesPrompt {
                position: end,
                prompt_len: opened.prompt_len,
            });
        }
        let full = Use {
            attention: Attention::Full,
            table: opened.full,
            run: &line.full,
            reads_from: 0,
        };
        self.check_table(&full, start, end, &mut written.full)?;
        let window = Use {
            attention: Attention::Sliding,
            table: opened.window,
            run: &line.window,
            reads_from: (start + 1).saturating_sub(self.geometry.sliding_window),
        };
        self.check_table(&window, start, end, &mut written.window)
    }

    /// Checks that a line's table, changed as it says, holds every block its rows touch.
    fn check_table(
        &self,
        usage: &Use<'_>,
        start: usize,
        end: usize,
        written: &mut HashSet<u32>,
    ) -> Result<(), LineFault> {
        let Use { table, run, .. } = usage;
        let (pool, block_size) = (usage.pool(), self.plan.block_size);
        let num_blocks = pool_blocks(self.plan, usage.attention);
        let outside = run.blocks.iter().find(|b| b.index() >= num_blocks);
        if let Some(block) = outside {
            return Err(LineFault::NoSuchBlock {
                pool,
                block: *block,
                num_blocks,
            });
        }
        let extent = table.extent_after(run);
        if extent.len > self.geometry.max_positions.div_ceil(block_size) {
            return Err(LineFault::TableTooLong {
                pool,
                num_blocks: extent.len,
            });
        }
        // A model without layers of this kind needs no blocks for them.
        if self.geometry.count(usage.attention) == 0 {
            return Ok(());
        }
        let lacking = LineFault::NoBlocks {
            pool,
            first: usage.reads_from,
            last: end - 1,
        };
        let last = (end - 1) / block_size;
        if usage.reads_from / block_size < extent.solid_from || last >= extent.len {
            return Err(lacking);
        }
        for index in start / block_size..=last {
            let block = table.entry_after(run, index).ok_or(lacking.clone())?;
            if !written.insert(block.0) {
                return Err(LineFault::WrittenTwice { pool, block });
            }
        }
        Ok(())
    }
}

/// How a line uses one of its two tables.
struct Use<'a> {
    attention: Attention,
    table: &'a Table,
    run: &'a BlockRun,
    /// First position that its rows read.
    reads_from: usize,
}

impl Use<'_> {
    fn pool(&self) -> &'static str {
        match self.attention {
            Attention::Full => "full",
            Attention::Sliding => "window",
        }
    }
}

/// Blocks that a part's lines write, by pool.
#[derive(Default)]
struct Written {
    full: HashSet<u32>,
    window: HashSet<u32>,
}
