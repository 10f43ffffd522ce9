//! The ops that only pass over rows.

use kernels::{Combine, Embed, KvLayout, RmsNorm, Rotate, Route, Span, StoreKv};
use spec::BlockId;

use super::{BLOCK, Bench, Op, Take, ones};
use crate::error::Error;

impl Bench<'_> {
    /// Measures all of them with so many rows; bytes are those of rows read and written.
    pub(super) fn small(&self, rows: usize, take: &mut Take<'_>) -> Result<(), Error> {
        take(self.embed(rows))?;
        take(self.rms_norm(rows))?;
        take(self.rotate(rows))?;
        take(self.store_kv(rows))?;
        take(self.route(rows))?;
        take(self.combine(rows))
    }

    fn passed(&self, name: &str, rows: usize, values: usize, op: impl FnMut(usize)) -> Op {
        Op {
            name: name.to_owned(),
            rows,
            operations: 0.0,
            bytes: (values * size_of::<f32>()) as f64,
            unit: None,
            seconds: self.timed(op),
        }
    }

    fn embed(&self, rows: usize) -> Op {
        let geometry = self.weights.checkpoint().geometry();
        let (hidden, vocab) = (geometry.hidden, geometry.vocab_size);
        let ids: Vec<u32> = (0..rows).map(|row| (row * 7919 % vocab) as u32).collect();
        let mut out = ones(rows * hidden);
        self.passed("embed", rows, rows * hidden, |_| {
            self.backend.embed(Embed {
                table: &self.weights.embedding,
                ids: &ids,
                hidden,
                out: &mut out,
            });
        })
    }

    fn rms_norm(&self, rows: usize) -> Op {
        let geometry = self.weights.checkpoint().geometry();
        let values = rows * geometry.hidden;
        let (x, mut out) = (ones(values), ones(values));
        self.passed("norm", rows, 2 * values, |_| {
            self.backend.rms_norm(RmsNorm {
                x: &x,
                weight: &self.weights.final_norm,
                eps: geometry.rms_norm_eps,
                out: &mut out,
            });
        })
    }

    fn rotate(&self, rows: usize) -> Op {
        let geometry = self.weights.checkpoint().geometry();
        let mut x = ones(rows * geometry.query_width());
        let positions: Vec<u32> = (0..rows as u32).collect();
        let inv_freq = vec![0.5; geometry.head_dim / 2];
        self.passed(
            "rotation of queries",
            rows,
            2 * rows * geometry.query_width(),
            |_| {
                self.backend.rotate(Rotate {
                    x: &mut x,
                    positions: &positions,
                    inv_freq: &inv_freq,
                    factor: 1.0,
                    heads: geometry.num_heads,
                });
            },
        )
    }

    fn store_kv(&self, rows: usize) -> Op {
        let geometry = self.weights.checkpoint().geometry();
        let layout = KvLayout {
            block_size: BLOCK,
            kv_heads: geometry.num_kv_heads,
            head_dim: geometry.head_dim,
        };
        let table: Vec<BlockId> = (0..rows.div_ceil(BLOCK) as u32).map(BlockId).collect();
        let values = rows * geometry.kv_width();
        let (k, v) = (ones(values), ones(values));
        let size = table.len() * layout.block_len();
        let (mut keys, mut stored) = (ones(size), ones(size));
        self.passed("writing of keys and values", rows, 4 * values, |_| {
            self.backend.store_kv(StoreKv {
                k: &k,
                v: &v,
                spans: &[Span {
                    first_row: 0,
                    len: rows,
                    start: 0,
                    table: &table,
                }],
                layout,
                keys: &mut keys,
                values: &mut stored,
            });
        })
    }

    fn route(&self, rows: usize) -> Op {
        let geometry = self.weights.checkpoint().geometry();
        let (num_experts, k) = (geometry.num_experts, geometry.experts_per_token);
        let logits = ones(rows * num_experts);
        let (mut index, mut weight) = (vec![0; rows * k], vec![0.0; rows * k]);
        self.passed("choice of experts", rows, rows * num_experts, |_| {
            self.backend.route(Route {
                logits: &logits,
                num_experts,
                k,
                index: &mut index,
                weight: &mut weight,
            });
        })
    }

    fn combine(&self, rows: usize) -> Op {
        let geometry = self.weights.checkpoint().geometry();
        let (hidden, k) = (geometry.hidden, geometry.experts_per_token);
        let (outputs, weight) = (ones(rows * k * hidden), vec![0.25; rows * k]);
        let mut x = ones(rows * hidden);
        self.passed("sum of experts", rows, rows * (k + 2) * hidden, |_| {
            self.backend.combine(Combine {
                outputs: &outputs,
                weight: &weight,
                k,
                x: &mut x,
            });
        })
    }
}
