//! Where the keys and values of a tile are read: in the blocks that hold them, or copied together.

use std::ops::Range;

use kernels::{Attend, Span};

use super::states::registers;
use crate::simd::{Simd, WIDE, WideLanes};

/// Positions of a tile: keys and values of a head of 64 are 16 KiB, a part of a first-level cache.
pub(super) const TILE: usize = 2 * WIDE;

/// Keys and values of one head at as many neighbouring positions as a register holds.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    /// By number of the head: that of each key.
    keys: &'a [WideLanes],
    /// From one number to the next.
    pub(super) step: usize,
    /// `[position][register]`, padded with zeros to registers.
    pub(super) values: &'a [WideLanes],
}

impl<'a> Run<'a> {
    /// Returns a number of each key.
    #[inline(always)]
    pub(super) fn keys(&self, number: usize) -> &'a WideLanes {
        &self.keys[number * self.step]
    }

    /// Returns all `D` numbers of each key, where they follow each other.
    #[inline(always)]
    pub(super) fn all_keys<const D: usize>(&self) -> &'a [WideLanes; D] {
        self.keys.first_chunk().expect("as many as a head has")
    }

    /// Returns the same as long as it is, where numbers follow each other.
    #[inline(always)]
    pub(super) fn cut(self, head_dim: usize) -> Self {
        Self {
            keys: &self.keys[..head_dim],
            step: 1,
            values: &self.values[..WIDE * registers(head_dim)],
        }
    }
}

/// The runs of a tile; one without a position that is read is another one again.
pub(super) type Runs<'a> = [Run<'a>; TILE / WIDE];

/// Keys and values that are read into a cache, a line at a time, while something else is computed.
pub(super) struct Ahead<'a> {
    /// With the lines from one that is used to the next.
    pieces: [(&'a [WideLanes], usize); 2 * TILE / WIDE],
    /// Lines of each of them that are used.
    lines: usize,
    piece: usize,
    line: usize,
}

impl<'a> Ahead<'a> {
    /// A tile that lies in whole blocks, or nothing.
    pub(super) fn new(runs: Option<Runs<'a>>, lines: usize) -> Self {
        let mut pieces = [(&[][..], 1); 2 * TILE / WIDE];
        for (pieces, run) in pieces
            .as_chunks_mut()
            .0
            .iter_mut()
            .zip(runs.iter().flatten())
        {
            *pieces = [(run.keys, run.step), (run.values, 1)];
        }
        Self {
            piece: if runs.is_some() { 0 } else { pieces.len() },
            pieces,
            lines,
            line: 0,
        }
    }

    /// Hints that the next lines of a piece, up to so many, are used soon.
    #[inline(always)]
    pub(super) fn hint<S: Simd>(&mut self, simd: S, count: usize) {
        let Some((piece, step)) = self.pieces.get(self.piece) else {
            return;
        };
        let end = self.lines.min(self.line + count);
        for line in self.line..end {
            simd.prefetch_behind(piece, line * step);
        }
        self.line = end;
        if end == self.lines {
            (self.piece, self.line) = (self.piece + 1, 0);
        }
    }

    /// Hints that all that is left is used soon.
    #[inline(always)]
    pub(super) fn hint_rest<S: Simd>(&mut self, simd: S) {
        while self.piece < self.pieces.len() {
            self.hint(simd, self.lines);
        }
    }
}

/// A key head of a sequence.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) args: &'a Attend<'a>,
    pub(super) span: &'a Span<'a>,
    pub(super) kv_head: usize,
}

impl<'a> Head<'a> {
    /// Whether blocks hold what registers do.
    pub(super) fn is_whole(&self) -> bool {
        let layout = self.args.layout;
        layout.block_size.is_multiple_of(WIDE) && layout.head_dim.is_multiple_of(WIDE)
    }

    /// Finds positions of one tile where they lie, in whole blocks.
    pub(super) fn runs(&self, positions: Range<usize>) -> Runs<'a> {
        let tile = positions.start / TILE * TILE;
        let (first, last) = (positions.start, positions.end - 1);
        std::array::from_fn(|run| {
            let position = (tile + run * WIDE).clamp(first / WIDE * WIDE, last / WIDE * WIDE);
            self.run(position)
        })
    }

    fn run(&self, position: usize) -> Run<'a> {
        let (args, table) = (self.args, self.span.table);
        let keys = &args.keys[args.layout.key(table, self.kv_head, position)..];
        let values = &args.values[args.layout.value(table, self.kv_head, position)..];
        Run {
            keys: keys.as_chunks().0,
            step: args.layout.block_size / WIDE,
            values: values.as_chunks().0,
        }
    }
}

/// Room for a copy of a tile.
pub(super) struct Room {
    keys: Vec<WideLanes>,
    values: Vec<WideLanes>,
}

impl Room {
    pub(super) fn new(head_dim: usize) -> Self {
        Self {
            keys: vec![[0.0; WIDE]; head_dim * TILE / WIDE],
            values: vec![[0.0; WIDE]; TILE * registers(head_dim)],
        }
    }

    /// Copies positions of one tile; what it holds of others means nothing.
    pub(super) fn copy(&mut self, head: Head<'_>, positions: Range<usize>) -> Runs<'_> {
        let (args, table, layout) = (head.args, head.span.table, head.args.layout);
        let registers = registers(layout.head_dim);
        for position in positions {
            let place = position % TILE;
            let from = &args.keys[layout.key(table, head.kv_head, position)..];
            let to = &mut self.keys[place / WIDE * layout.head_dim..][..layout.head_dim];
            for (to, from) in to.iter_mut().zip(from.iter().step_by(layout.block_size)) {
                to[place % WIDE] = *from;
            }
            let from = &args.values[layout.value(table, head.kv_head, position)..];
            let to = self.values[place * registers..][..registers].as_flattened_mut();
            to[..layout.head_dim].copy_from_slice(&from[..layout.head_dim]);
        }
        std::array::from_fn(|run| Run {
            keys: &self.keys[run * layout.head_dim..][..layout.head_dim],
            step: 1,
            values: &self.values[run * WIDE * registers..][..WIDE * registers],
        })
    }
}
