//! Attention: an online softmax over tiles of keys.
//!
//! Tiles begin at absolute multiples of [`TILE`] positions and parts at those of [`PART`]. A row takes
//! the tiles of a part in ascending order, and adds the parts up in ascending order to its sink, which
//! is a "key" whose value is zero. So its result depends on its position and keys alone, whichever
//! threads the parts were computed by. That tiles and parts are summed on their own before they are
//! added keeps the error of long sums small.

mod run;
mod states;
mod tile;

use std::ops::Range;

use kernels::{Attend, Span};

use self::run::{Ahead, Head, Room, TILE};
use self::states::States;
use self::tile::Tile;
use crate::pool::Pool;
use crate::simd::{Kernel, Path, Simd};

/// Rows of an item of work: with the query heads of a key head they share each tile of keys.
const ROWS: usize = 8;

/// Positions of a part: enough that adding it up costs nothing against computing it, and few enough that
/// long contexts keep many threads busy.
const PART: usize = 16 * TILE;

/// Items for each thread: fewer, and some threads would have nothing to do while others finish.
const ITEMS_EACH: usize = 4;

pub(crate) fn attend(pool: &Pool, path: Path, mut args: Attend<'_>) {
    args.check();
    let out = std::mem::take(&mut args.out);
    let groups = groups(&args, out);
    let is_whole = groups.iter().all(|(group, _)| group.parts().len() == 1);
    if is_whole || groups.len() >= ITEMS_EACH * pool.num_threads() {
        pool.each(groups, |(group, out)| {
            let mut sums = group.sinks();
            path.run(Parts {
                group: &group,
                parts: group.parts(),
                sums: &mut sums,
            });
            sums.finish(out);
        });
        return;
    }
    let mut sums: Vec<Vec<States>> = groups
        .iter()
        .map(|(group, _)| group.parts().map(|_| group.states()).collect())
        .collect();
    let items = groups.iter().zip(&mut sums).flat_map(|((group, _), sums)| {
        let parts = group.parts().zip(sums);
        parts.map(move |(part, sums)| (group, part, sums))
    });
    pool.each(
        items.collect(),
        |(group, part, sums): (&Group<'_>, _, _)| {
            path.run(Part { group, part, sums });
        },
    );
    pool.each(
        groups.into_iter().zip(sums).collect(),
        |((group, out), parts)| {
            let mut sums = group.sinks();
            path.run(Merge {
                sums: &mut sums,
                parts: &parts,
            });
            sums.finish(out);
        },
    );
}

/// Some rows of a span, for the query heads of one key head.
struct Group<'a> {
    args: &'a Attend<'a>,
    span: &'a Span<'a>,
    /// Within the span.
    rows: Range<usize>,
    kv_head: usize,
}

/// Lists the groups of a call, with each row's `[group, head_dim]` of the output.
fn groups<'a, 'b>(
    args: &'a Attend<'a>,
    out: &'b mut [f32],
) -> Vec<(Group<'a>, Vec<&'b mut [f32]>)> {
    let kv_heads = args.layout.kv_heads;
    let width = args.group() * args.layout.head_dim;
    let mut free: Vec<_> = out.chunks_exact_mut(width).map(Some).collect();
    let mut groups = Vec::new();
    for span in args.spans {
        for first in (0..span.len).step_by(ROWS) {
            let rows = first..span.len.min(first + ROWS);
            for kv_head in 0..kv_heads {
                let mut piece = |row: usize| {
                    let piece = free[(span.first_row + row) * kv_heads + kv_head].take();
                    piece.expect("no row is in two spans")
                };
                let out = rows.clone().map(&mut piece).collect();
                let rows = rows.clone();
                let group = Group {
                    args,
                    span,
                    rows,
                    kv_head,
                };
                groups.push((group, out));
            }
        }
    }
    groups
}

impl Group<'_> {
    /// Returns the positions that any row sees.
    fn seen(&self) -> Range<usize> {
        let first = self.span.start + self.rows.start;
        let last = self.span.start + self.rows.end - 1;
        self.args.visible(first).start..last + 1
    }

    /// Returns the parts with such positions, by index.
    fn parts(&self) -> Range<usize> {
        let seen = self.seen();
        seen.start / PART..seen.end.div_ceil(PART)
    }

    /// Returns the queries of a row, `[group, head_dim]`.
    fn queries(&self, row: usize) -> &[f32] {
        let width = self.args.group() * self.args.layout.head_dim;
        let row = self.span.first_row + row;
        &self.args.q[(row * self.args.layout.kv_heads + self.kv_head) * width..][..width]
    }

    /// Returns the key head.
    fn head(&self) -> Head<'_> {
        Head {
            args: self.args,
            span: self.span,
            kv_head: self.kv_head,
        }
    }

    /// Returns sums of nothing.
    fn states(&self) -> States {
        States::new(
            self.rows.len() * self.args.group(),
            self.args.layout.head_dim,
        )
    }

    /// Returns sums of the sinks alone.
    fn sinks(&self) -> States {
        let heads = self.args.group();
        let sinks = &self.args.sinks[self.kv_head * heads..][..heads];
        let mut states = self.states();
        states.begin(sinks.iter().map(|sink| sink.to_f32()).cycle());
        states
    }
}

/// Parts, each added to the sums so far.
struct Parts<'a> {
    group: &'a Group<'a>,
    parts: Range<usize>,
    sums: &'a mut States,
}

impl Kernel for Parts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { group, parts, sums } = self;
        for part in parts {
            let mut of_part = group.states();
            let one = Part {
                group,
                part,
                sums: &mut of_part,
            };
            one.run(simd);
            sums.add(simd, &of_part);
        }
    }
}

/// Parts that were computed already, added up.
struct Merge<'a> {
    sums: &'a mut States,
    parts: &'a [States],
}

impl Kernel for Merge<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for part in self.parts {
            self.sums.add(simd, part);
        }
    }
}

/// One part, into sums of nothing.
struct Part<'a> {
    group: &'a Group<'a>,
    part: usize,
    sums: &'a mut States,
}

impl Kernel for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Self { group, part, sums } = self;
        let args = group.args;
        let all = group.seen();
        let seen = all.start.max(part * PART)..all.end.min((part + 1) * PART);
        let (head, head_dim) = (group.head(), args.layout.head_dim);
        // A part ends where a tile does: what comes behind it is the next part.
        let of_tile = |start: usize| seen.start.max(start)..all.end.min(start + TILE);
        let in_place = |start: usize| {
            let positions = of_tile(start);
            (head.is_whole() && !positions.is_empty()).then(|| head.runs(positions))
        };
        let first = seen.start / TILE * TILE;
        let (mut room, mut coming) = (None, in_place(first));
        for start in (first..seen.end).step_by(TILE) {
            let here = coming;
            coming = in_place(start + TILE);
            // The first rows have it read ahead for all.
            let mut next = Ahead::new(coming, head_dim);
            let runs = match here {
                Some(runs) => runs,
                None => room
                    .get_or_insert_with(|| Room::new(head_dim))
                    .copy(head, of_tile(start)),
            };
            let tile = Tile { runs, head_dim };
            for (index, row) in group.rows.clone().enumerate() {
                let visible = args.visible(group.span.start + row);
                let visible = visible.start.max(start)..visible.end.min(start + TILE);
                if visible.is_empty() {
                    continue;
                }
                let visible = visible.start - start..visible.end - start;
                let heads = sums.rows(index * args.group(), args.group());
                let queries = (group.queries(row), args.scale);
                tile.add_to(simd, heads, queries, visible, &mut next);
            }
            next.hint_rest(simd);
        }
    }
}
