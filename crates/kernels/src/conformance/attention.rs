//! Rotation, storing and attention.

use std::ops::Range;

use half::bf16;
use spec::BlockId;

use super::Case;
use super::inputs::Numbers;
use crate::{Attend, Backend, KvLayout, Rotate, Span, StoreKv};

/// Sine and cosine within one unit in the last place, then three roundings.
const ROTATE: f32 = 5e-7;
/// A copy.
const STORE_KV: f32 = 0.0;
/// `f32` scores and sums, for scores up to about 10; it grows with the scores, whose own error is
/// that of the exponent.
const ATTEND: f32 = 2e-6;

pub(super) fn rotate() -> Vec<Case> {
    let case = |(heads, head_dim): (usize, usize)| {
        let mut numbers = Numbers::seeded(4);
        let positions = [
            0u32, 1, 2, 127, 128, 4095, 4096, 9000, 65_535, 99_999, 131_070, 131_071,
        ];
        let x = numbers.floats(positions.len() * heads * head_dim, 2.0);
        let half = head_dim / 2;
        let inv_freq: Vec<f32> = (0..half)
            .map(|i| 150_000f32.powf(-(i as f32) / half as f32))
            .collect();
        Case::new(
            format!("rotate, {heads} heads of {head_dim}"),
            positions.len(),
            ROTATE,
            move |backend, rows| {
                let width = heads * head_dim;
                let mut x = x[rows.start * width..rows.end * width].to_vec();
                backend.rotate(Rotate {
                    x: &mut x,
                    positions: &positions[rows],
                    inv_freq: &inv_freq,
                    factor: 1.346_573_6,
                    heads,
                });
                x
            },
        )
    };
    [(1, 2), (3, 6), (2, 16), (5, 32), (8, 64)].map(case).into()
}

/// One sequence of a scene: the rows at `start..end`, its earlier positions already stored.
struct Sequence {
    start: usize,
    end: usize,
    table: Vec<BlockId>,
}

/// Several sequences over one pool of blocks, with everything that nobody may read set to NaN.
struct Scene {
    layout: KvLayout,
    heads: usize,
    window: Option<usize>,
    sequences: Vec<Sequence>,
    /// By sequence, `[position][kv_head][head_dim]`.
    stored: Vec<(Vec<f32>, Vec<f32>)>,
    q: Vec<f32>,
    sinks: Vec<bf16>,
    num_blocks: usize,
}

impl Scene {
    fn new(shape: &Shape, spans: &[(usize, usize)]) -> Self {
        let mut numbers = Numbers::seeded(5);
        let layout = shape.layout;
        let lengths = spans.iter().map(|(_, end)| end.div_ceil(layout.block_size));
        let num_blocks = lengths.clone().sum::<usize>() + 3;
        let mut free = numbers.order(num_blocks).into_iter();
        let sequences: Vec<Sequence> = spans
            .iter()
            .zip(lengths)
            .map(|(&(start, end), blocks)| Sequence {
                start,
                end,
                table: free
                    .by_ref()
                    .take(blocks)
                    .map(|block| BlockId(block as u32))
                    .collect(),
            })
            .collect();
        let width = layout.kv_heads * layout.head_dim;
        // Values that do not cancel, so that what long sums lose shows.
        let mut values = |count: usize| (0..count).map(|_| 1.0 + numbers.float(2.0)).collect();
        let values: Vec<Vec<f32>> = spans.iter().map(|(_, end)| values(end * width)).collect();
        let stored = spans
            .iter()
            .zip(values)
            .map(|((_, end), values)| (numbers.floats(end * width, shape.spread), values))
            .collect();
        let rows: usize = spans.iter().map(|(start, end)| end - start).sum();
        let q = numbers.floats(rows * shape.heads * layout.head_dim, shape.spread);
        let mut sinks = numbers.bf16s(shape.heads, 3.0);
        // One head has no sink, if there are several.
        if let [_, first, ..] = &mut *sinks {
            *first = bf16::NEG_INFINITY;
        }
        Self {
            layout,
            heads: shape.heads,
            window: shape.window,
            q,
            sinks,
            sequences,
            stored,
            num_blocks,
        }
    }

    /// The rows of the scene that lie in `rows`, as positions by sequence.
    fn parts(&self, rows: &Range<usize>) -> Vec<Range<usize>> {
        let mut first = 0;
        self.sequences
            .iter()
            .map(|sequence| {
                let clip = |row: usize| (row.max(first) - first + sequence.start).min(sequence.end);
                let part = clip(rows.start)..clip(rows.end);
                first += sequence.end - sequence.start;
                part
            })
            .collect()
    }

    /// Tables of the sequences, with the entries before the first visible block spoiled.
    fn tables(&self, parts: &[Range<usize>]) -> Vec<Vec<BlockId>> {
        let spoil = |(sequence, part): (&Sequence, &Range<usize>)| {
            let mut table = sequence.table.clone();
            let first = self.first_visible(part.start) / self.layout.block_size;
            table[..first].fill(BlockId(u32::MAX));
            table
        };
        self.sequences.iter().zip(parts).map(spoil).collect()
    }

    fn first_visible(&self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Runs `call` with one span for each sequence.
    fn with_spans<T>(&self, parts: &[Range<usize>], call: impl FnOnce(&[Span<'_>]) -> T) -> T {
        let tables = self.tables(parts);
        let mut first_row = 0;
        let spans: Vec<Span<'_>> = parts
            .iter()
            .zip(&tables)
            .map(|(part, table)| {
                let span = Span {
                    first_row,
                    len: part.len(),
                    start: part.start,
                    table,
                };
                first_row += part.len();
                span
            })
            .collect();
        call(&spans)
    }

    /// Stores `positions` of each sequence through the back end, one sequence's rows in two spans.
    fn store(
        &self,
        backend: &dyn Backend,
        positions: &[Range<usize>],
        (keys, values): (&mut [f32], &mut [f32]),
    ) {
        let width = self.layout.kv_heads * self.layout.head_dim;
        for ((sequence, stored), part) in self.sequences.iter().zip(&self.stored).zip(positions) {
            let from = part.start * width..part.end * width;
            let middle = part.len() / 2;
            let span = |first_row: usize, len: usize| Span {
                first_row,
                len,
                start: part.start + first_row,
                table: &sequence.table,
            };
            backend.store_kv(StoreKv {
                k: &stored.0[from.clone()],
                v: &stored.1[from],
                spans: &[span(middle, part.len() - middle), span(0, middle)],
                layout: self.layout,
                keys: &mut *keys,
                values: &mut *values,
            });
        }
    }

    fn attend(&self, backend: &dyn Backend, rows: Range<usize>) -> Vec<f32> {
        let parts = self.parts(&rows);
        let visible: Vec<Range<usize>> = parts
            .iter()
            .map(|part| self.first_visible(part.start)..part.end)
            .collect();
        let size = self.num_blocks * self.layout.block_len();
        let mut keys = vec![f32::NAN; size];
        let mut values = keys.clone();
        self.store(backend, &visible, (&mut keys, &mut values));
        let width = self.heads * self.layout.head_dim;
        let mut out = vec![f32::NAN; rows.len() * width];
        self.with_spans(&parts, |spans| {
            backend.attend(Attend {
                q: &self.q[rows.start * width..rows.end * width],
                heads: self.heads,
                spans,
                layout: self.layout,
                keys: &keys,
                values: &values,
                sinks: &self.sinks,
                window: self.window,
                scale: (self.layout.head_dim as f32).sqrt().recip(),
                out: &mut out,
            });
        });
        out
    }
}

/// Sizes of a scene.
struct Shape {
    layout: KvLayout,
    heads: usize,
    window: Option<usize>,
    /// Queries and keys lie in `-spread..spread`.
    spread: f32,
}

fn shape(head_dim: usize, block_size: usize, window: Option<usize>) -> Shape {
    Shape {
        layout: KvLayout {
            block_size,
            kv_heads: 2,
            head_dim,
        },
        heads: 8,
        window,
        spread: 2.0,
    }
}

pub(super) fn store_kv() -> Vec<Case> {
    let scene = Scene::new(&shape(16, 5, None), &[(0, 11), (7, 23)]);
    let run = move |backend: &dyn Backend, rows: Range<usize>| {
        let size = scene.num_blocks * scene.layout.block_len();
        let (mut keys, mut values) = (vec![0.0; size], vec![0.0; size]);
        let parts = scene.parts(&rows);
        scene.store(backend, &parts, (&mut keys, &mut values));
        // In the order of positions, so that it does not matter how the rows were batched.
        let mut found = Vec::new();
        for (sequence, part) in scene.sequences.iter().zip(parts) {
            for position in part {
                for head in 0..scene.layout.kv_heads {
                    let layout = scene.layout;
                    let key = layout.key(&sequence.table, head, position);
                    let key = keys[key..].iter().step_by(layout.block_size);
                    found.extend(key.take(layout.head_dim));
                    let value = layout.value(&sequence.table, head, position);
                    found.extend_from_slice(&values[value..value + layout.head_dim]);
                }
            }
        }
        found
    };
    vec![Case::new("store_kv".into(), 27, STORE_KV, run)]
}

pub(super) fn attend() -> Vec<Case> {
    let edges: &[(usize, usize)] = &[(126, 131), (0, 1), (255, 259), (30, 34), (64, 65)];
    let prompts: &[(usize, usize)] = &[(0, 40), (120, 140), (3, 3), (250, 260)];
    let long: &[(usize, usize)] = &[(0, 300)];
    let parts: &[(usize, usize)] = &[(1500, 1503), (511, 514)];
    let one = |head_dim| Shape {
        heads: 1,
        layout: KvLayout {
            kv_heads: 1,
            ..shape(head_dim, 7, None).layout
        },
        ..shape(head_dim, 7, None)
    };
    let full = Shape {
        heads: 2,
        ..one(16)
    };
    // Scores of several hundred: the maximum moves far and often.
    let steep = Shape {
        spread: 20.0,
        ..shape(64, 16, None)
    };
    // As the published models, and heads that are no multiple of what a path computes at once.
    let with_heads = |heads, shape: Shape| Shape { heads, ..shape };
    let scenes = [
        (
            "eight heads a key, window",
            with_heads(16, shape(64, 16, Some(128))),
            edges,
        ),
        (
            "eight heads a key, a long context",
            with_heads(16, shape(64, 16, None)),
            parts,
        ),
        (
            "fifteen heads a key",
            with_heads(30, shape(64, 16, None)),
            prompts,
        ),
        (
            "eight heads of 80, blocks of 32",
            with_heads(16, shape(80, 32, Some(128))),
            edges,
        ),
        ("heads of 24", with_heads(14, shape(24, 16, None)), prompts),
        ("edges of the window", shape(64, 16, Some(128)), edges),
        ("edges, odd blocks", shape(32, 5, Some(128)), edges),
        ("edges, copied heads of 64", shape(64, 5, Some(128)), edges),
        ("six of 128", with_heads(12, shape(128, 16, None)), prompts),
        ("edges without window", shape(16, 32, None), edges),
        ("prompts", shape(64, 64, None), prompts),
        ("prompts, small window", shape(16, 16, Some(8)), prompts),
        ("a window of one key", shape(32, 16, Some(1)), prompts),
        ("one head of an odd width", one(6), edges),
        ("the last position", full, &[(131_071, 131_072)]),
        ("steep scores", steep, prompts),
        ("a long span", shape(16, 16, None), long),
        // Rows that are computed together do not all see keys before position 512, nor after.
        (
            "a window over parts",
            shape(64, 16, Some(128)),
            &[(630, 645), (505, 520)],
        ),
        ("a long span, window", shape(16, 16, Some(128)), long),
        ("a long context", shape(64, 16, None), parts),
    ];
    scenes
        .into_iter()
        .map(|(name, shape, spans)| {
            let scene = Scene::new(&shape, spans);
            let bound = ATTEND * (shape.spread / 2.0).powi(2);
            let rows = spans.iter().map(|(start, end)| end - start).sum();
            Case::new(
                format!("attend, {name}"),
                rows,
                bound,
                move |backend, rows| scene.attend(backend, rows),
            )
        })
        .collect()
}
