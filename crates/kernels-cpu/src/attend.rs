//! Attention: an online softmax over tiles of keys.
//!
//! Tiles begin at absolute multiples of [`TILE`] positions, and a row takes the tiles
//! it sees in ascending order, so that its result depends on its position and keys alone. Its first
//! "key" is the sink, whose value is zero. Each tile is summed on its own before it is added, which
//! keeps the error of long sums small.

mod tile;

use std::ops::Range;

use kernels::{Attend, Span};

use self::tile::{State, TILE, Tile};
use crate::pool::Pool;
use crate::simd::{Kernel, LANES, Path, Simd};

/// Rows of an item of work: with the query heads of a key head they share each tile of keys.
const ROWS: usize = 8;

pub(crate) fn attend(pool: &Pool, path: Path, mut args: Attend<'_>) {
    args.check();
    let layout = args.layout;
    let width = args.group() * layout.head_dim;
    let out = std::mem::take(&mut args.out);
    let mut free: Vec<_> = out.chunks_exact_mut(width).map(Some).collect();
    let mut items = Vec::new();
    for span in args.spans {
        for first in (0..span.len).step_by(ROWS) {
            let rows = first..span.len.min(first + ROWS);
            for kv_head in 0..layout.kv_heads {
                let piece = |row: usize| {
                    free[(span.first_row + row) * layout.kv_heads + kv_head]
                        .take()
                        .expect("no row is in two spans")
                };
                items.push(Item {
                    args: &args,
                    span,
                    rows: rows.clone(),
                    kv_head,
                    out: rows.clone().map(piece).collect(),
                });
            }
        }
    }
    pool.each(items, |item| path.run(item));
}

/// Some rows of a span, for the query heads of one key head.
struct Item<'a, 'b> {
    args: &'a Attend<'a>,
    span: &'a Span<'a>,
    /// Within the span.
    rows: Range<usize>,
    kv_head: usize,
    /// Each row's `[group, head_dim]`.
    out: Vec<&'b mut [f32]>,
}

impl Kernel for Item<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let args = self.args;
        let first = self.span.start + self.rows.start;
        let last = self.span.start + self.rows.end - 1;
        let mut states = self.states();
        let mut tile = Tile::new(args.layout.head_dim);
        let seen = args.visible(first).start..last + 1;
        for index in seen.start / TILE..seen.end.div_ceil(TILE) {
            let start = index * TILE;
            let load = seen.start.max(start)..seen.end.min(start + TILE);
            for position in load {
                let at = args.layout.offset(self.span.table, self.kv_head, position);
                let at = at..at + args.layout.head_dim;
                tile.set(position - start, &args.keys[at.clone()], &args.values[at]);
            }
            for (position, states) in (first..).zip(states.chunks_exact_mut(args.group())) {
                let visible = args.visible(position);
                let visible = visible.start.max(start)..visible.end.min(start + TILE);
                if visible.is_empty() {
                    continue;
                }
                let visible = visible.start - start..visible.end - start;
                for state in states {
                    tile.add_to(simd, state, visible.clone(), args.scale);
                }
            }
        }
        let heads = states.chunks_exact(args.group());
        for (out, states) in self.out.into_iter().zip(heads) {
            let heads = out.chunks_exact_mut(args.layout.head_dim);
            for (out, state) in heads.zip(states) {
                state.finish(out);
            }
        }
    }
}

impl Item<'_, '_> {
    /// Starts each row's heads with their sinks.
    fn states(&self) -> Vec<State> {
        let args = self.args;
        let (group, head_dim) = (args.group(), args.layout.head_dim);
        let heads = self.kv_head * group..(self.kv_head + 1) * group;
        let rows = self.rows.clone().map(|row| self.span.first_row + row);
        rows.flat_map(|row| heads.clone().map(move |head| (row, head)))
            .map(|(row, head)| {
                let query = &args.q[(row * args.heads + head) * head_dim..][..head_dim];
                State::new(query, args.sinks[head].to_f32())
            })
            .collect()
    }
}

/// Registers that hold a head.
fn registers(head_dim: usize) -> usize {
    head_dim.div_ceil(LANES)
}
