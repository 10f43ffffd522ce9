//! The rows of a part: all lines that run, one after the other.

use spec::{Attention, Line, Slot};

use kernels::Span;

use crate::slots::Slots;

/// One line that runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLine {
    /// Index in the part.
    pub(crate) line: usize,
    pub(crate) slot: Slot,
    pub(crate) first_row: usize,
    pub(crate) len: usize,
    /// Position of the first row.
    pub(crate) start: usize,
}

/// The rows of a step on one rank.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    pub(crate) lines: Vec<BatchLine>,
    /// Token of each row.
    pub(crate) ids: Vec<u32>,
    /// Position of each row.
    pub(crate) positions: Vec<u32>,
}

impl Batch {
    /// Gathers the lines whose inputs are all there.
    pub(crate) fn gather(lines: &[Line], slots: &Slots) -> Self {
        let mut batch = Self::default();
        for (index, line) in lines.iter().enumerate() {
            let (start, len) = (line.start as usize, line.len as usize);
            let tokens = slots.at(line.slot).tokens();
            let Some(inputs) = tokens.get(start..start + len) else {
                continue;
            };
            batch.lines.push(BatchLine {
                line: index,
                slot: line.slot,
                first_row: batch.rows(),
                len,
                start,
            });
            batch.ids.extend(inputs.iter().map(|token| token.0));
            batch.positions.extend(line.start..line.start + line.len);
        }
        batch
    }

    /// Returns the number of rows.
    pub(crate) fn rows(&self) -> usize {
        self.ids.len()
    }

    /// Returns the lines as spans over the tables that layers of this kind use.
    pub(crate) fn spans<'a>(&self, slots: &'a Slots, attention: Attention) -> Vec<Span<'a>> {
        let spans = self.lines.iter().map(|line| Span {
            first_row: line.first_row,
            len: line.len,
            start: line.start,
            table: slots.at(line.slot).table(attention).entries(),
        });
        spans.collect()
    }
}
