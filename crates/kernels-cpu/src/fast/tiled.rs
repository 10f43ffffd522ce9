//! Activations rounded to `bf16`, as a matrix unit takes them: tiles of 16 rows by 32 inputs.

use half::bf16;

use crate::simd::matrix::{ROW_BYTES, ROWS};

/// Pairs of inputs of a tile.
pub(super) const PAIRS: usize = ROW_BYTES / size_of::<[bf16; 2]>();

/// Inputs of a row in a tile, which are a line of a cache; zeros behind the last one.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Line([[bf16; 2]; PAIRS]);

impl Line {
    pub(super) fn pairs(&self) -> &[[bf16; 2]; PAIRS] {
        &self.0
    }
}

/// Rows, 16 by 16; of each of these, and of as many as are left, tiles one behind the other.
pub(super) struct Tiled {
    lines: Vec<Line>,
    rows: usize,
    /// Tiles of a row.
    width: usize,
}

/// All tiles of up to 16 rows.
#[derive(Clone, Copy)]
pub(super) struct Tile<'a> {
    pub(super) lines: &'a [Line],
    pub(super) rows: usize,
}

impl Tiled {
    /// Makes room for rows of so many inputs.
    pub(super) fn zeroed(rows: usize, inputs: usize) -> Self {
        let width = inputs.div_ceil(2 * PAIRS);
        Self {
            lines: vec![Line([[bf16::ZERO; 2]; PAIRS]); rows * width],
            rows,
            width,
        }
    }

    /// Lists pieces to be rounded, small enough that many threads have some.
    pub(super) fn pieces<'a>(
        &'a mut self,
        x: &'a [f32],
        inputs: usize,
    ) -> impl Iterator<Item = Piece<'a>> {
        let blocks = x.chunks(ROWS * inputs);
        let blocks = blocks.zip(self.lines.chunks_mut(ROWS * self.width));
        blocks.flat_map(move |(x, lines)| {
            let rows = x.len() / inputs;
            let pieces = lines.chunks_mut(TILES * rows).enumerate();
            pieces.map(move |(index, lines)| Piece {
                x,
                inputs,
                first: index * TILES * 2 * PAIRS,
                lines,
            })
        })
    }

    /// Returns rows from this one, which is the first of a tile.
    pub(super) fn tile(&self, first: usize) -> Tile<'_> {
        let rows = ROWS.min(self.rows - first);
        Tile {
            lines: &self.lines[first * self.width..][..rows * self.width],
            rows,
        }
    }
}

/// Tiles of a piece.
const TILES: usize = 16;

/// Some inputs of up to 16 rows, and where they go.
pub(super) struct Piece<'a> {
    x: &'a [f32],
    inputs: usize,
    /// The first of them.
    first: usize,
    lines: &'a mut [Line],
}

impl Piece<'_> {
    pub(super) fn round(self) {
        let rows = self.x.len() / self.inputs;
        for (row, x) in self.x.chunks_exact(self.inputs).enumerate() {
            let lines = self.lines[row..].iter_mut().step_by(rows);
            for (x, line) in x[self.first..].chunks(2 * PAIRS).zip(lines) {
                for (to, x) in line.0.as_flattened_mut().iter_mut().zip(x) {
                    *to = bf16::from_f32(*x);
                }
            }
        }
    }
}
