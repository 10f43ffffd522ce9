//! A sequence's block table: which block holds which positions.

use spec::{BlockId, BlockRun};

/// Stands where a table has a gap. The part's check lets no row read before [`Extent::solid_from`].
const GAP: BlockId = BlockId(u32::MAX);

/// Entry `i` holds the positions `i · block_size ..`. A gap may lie before the entries still read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    entries: Vec<BlockId>,
    /// From this entry on there is no gap.
    solid_from: usize,
}

impl Table {
    /// Returns the entries, for [`kernels::Span::table`].
    pub(crate) fn entries(&self) -> &[BlockId] {
        &self.entries
    }

    /// Cuts the table to `run.first` entries and appends the run's blocks.
    pub(crate) fn apply(&mut self, run: &BlockRun) {
        self.solid_from = self.extent_after(run).solid_from;
        if !run.blocks.is_empty() {
            self.entries.resize(run.first as usize, GAP);
            self.entries.extend_from_slice(&run.blocks);
        }
    }

    /// Returns what [`Table::apply`] would make of the table's extent.
    pub(crate) fn extent_after(&self, run: &BlockRun) -> Extent {
        let (len, first) = (self.entries.len(), run.first as usize);
        if run.blocks.is_empty() {
            return Extent {
                solid_from: self.solid_from,
                len,
            };
        }
        let solid_from = if first > len {
            first
        } else if first >= self.solid_from {
            self.solid_from
        } else {
            // A cut before the last gap: an earlier gap may be the one that counts now.
            let gap = self.entries[..first]
                .iter()
                .rposition(|block| *block == GAP);
            gap.map_or(0, |gap| gap + 1)
        };
        Extent {
            solid_from,
            len: first + run.blocks.len(),
        }
    }

    /// Returns the block that entry `index` holds after `run`, if it is inside the table.
    pub(crate) fn entry_after(&self, run: &BlockRun, index: usize) -> Option<BlockId> {
        let first = run.first as usize;
        if run.blocks.is_empty() || index < first {
            return self.entries.get(index).copied();
        }
        run.blocks.get(index - first).copied()
    }
}

/// The entries of a table that hold blocks: `solid_from .. len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) solid_from: usize,
    pub(crate) len: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(first: u32, blocks: &[u32]) -> BlockRun {
        BlockRun {
            first,
            blocks: blocks.iter().copied().map(BlockId).collect(),
        }
    }

    fn table(runs: &[BlockRun]) -> Table {
        let mut table = Table::default();
        for run in runs {
            table.apply(run);
        }
        table
    }

    #[test]
    fn an_empty_run_changes_nothing() {
        let before = table(&[run(0, &[4, 5])]);
        let mut after = before.clone();
        after.apply(&run(0, &[]));
        after.apply(&run(9, &[]));
        assert_eq!(before, after);
    }

    #[test]
    fn a_run_cuts_and_appends_and_may_be_applied_again() {
        let mut cut = table(&[run(0, &[4, 5, 6]), run(1, &[7])]);
        assert_eq!(cut.entries(), [BlockId(4), BlockId(7)]);
        cut.apply(&run(1, &[7]));
        assert_eq!(cut.entries(), [BlockId(4), BlockId(7)]);
    }

    #[test]
    fn only_entries_past_the_last_gap_can_be_read() {
        let gapped = table(&[run(2, &[8]), run(5, &[9, 10])]);
        assert_eq!(
            gapped.extent_after(&run(0, &[])),
            Extent {
                solid_from: 5,
                len: 7
            }
        );
        // Cut between the gaps: the first gap is the one that is left.
        assert_eq!(
            gapped.extent_after(&run(3, &[1])),
            Extent {
                solid_from: 2,
                len: 4
            }
        );
        assert_eq!(
            gapped.extent_after(&run(0, &[1])),
            Extent {
                solid_from: 0,
                len: 1
            }
        );
        assert_eq!(gapped.entry_after(&run(3, &[1]), 3), Some(BlockId(1)));
        assert_eq!(gapped.entry_after(&run(3, &[1]), 2), Some(BlockId(8)));
        assert_eq!(gapped.entry_after(&run(3, &[1]), 4), None);
    }
}
