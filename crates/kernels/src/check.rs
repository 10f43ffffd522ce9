//! What a call must satisfy before any back end looks at its numbers, and the row counts that
//! follow from its lengths.
//!
//! A violation is a bug of the caller: the methods panic and name the op, the array and both sizes.

use crate::backend::{
    Attend, Bf16, Codes, Combine, Embed, ExpertWork, Experts, KvLayout, Linear, Mxfp4, RmsNorm,
    Rotate, Route, Span, StoreKv,
};
use crate::mxfp4::{BLOCK, BLOCK_BYTES};

/// Panics unless `found` equals `expected`.
fn same(op: &str, what: &str, found: usize, expected: usize) {
    assert!(
        found == expected,
        "{op}: {what} has {found} elements, expected {expected}"
    );
}

/// Returns `length / width`, and panics unless it is whole and `width` positive.
fn whole(op: &str, what: &str, length: usize, width: usize) -> usize {
    assert!(
        width > 0 && length.is_multiple_of(width),
        "{op}: {what} has {length} elements, expected a multiple of {width}"
    );
    length / width
}

impl Embed<'_> {
    /// Checks the lengths and that every id is in the table.
    ///
    /// # Panics
    ///
    /// If one does not fit.
    pub fn check(&self) {
        let vocab = whole("embed", "table", self.table.len(), self.hidden);
        same("embed", "out", self.out.len(), self.ids.len() * self.hidden);
        for &id in self.ids {
            assert!(
                (id as usize) < vocab,
                "embed: id {id} in a table of {vocab}"
            );
        }
    }
}

impl RmsNorm<'_> {
    /// Checks the lengths.
    ///
    /// # Panics
    ///
    /// If one does not fit.
    pub fn check(&self) {
        whole("rms_norm", "x", self.x.len(), self.weight.len());
        same("rms_norm", "out", self.out.len(), self.x.len());
    }
}

impl Linear<'_> {
    /// Returns the number of rows.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.x.len() / self.inputs
    }

    /// Checks the lengths.
    ///
    /// # Panics
    ///
    /// If one does not fit.
    pub fn check(&self) {
        let rows = whole("linear", "x", self.x.len(), self.inputs);
        assert!(self.outputs > 0, "linear: no outputs");
        if let Bf16::Rows(weight) = self.weight {
            same("linear", "weight", weight.len(), self.outputs * self.inputs);
        }
        if let Some(bias) = self.bias {
            same("linear", "bias", bias.len(), self.outputs);
        }
        same("linear", "out", self.out.len(), rows * self.outputs);
    }
}

impl Rotate<'_> {
    /// Returns the width of a head.
    #[must_use]
    pub fn head_dim(&self) -> usize {
        2 * self.inv_freq.len()
    }

    /// Checks the lengths.
    ///
    /// # Panics
    ///
    /// If one does not fit.
    pub fn check(&self) {
        assert!(
            self.heads > 0 && !self.inv_freq.is_empty(),
            "rotate: no heads, or heads without width"
        );
        let width = self.heads * self.head_dim();
        same("rotate", "x", self.x.len(), self.positions.len() * width);
    }
}

impl KvLayout {
    /// Returns where the key of a head at a position begins, given its block table; its numbers lie
    /// `block_size` apart.
    #[must_use]
    pub fn key(&self, table: &[spec::BlockId], kv_head: usize, position: usize) -> usize {
        let (head, slot) = self.head(table, kv_head, position);
        head * self.head_dim * self.block_size + slot
    }

    /// Returns where the value of a head at a position begins, given its block table.
    #[must_use]
    pub fn value(&self, table: &[spec::BlockId], kv_head: usize, position: usize) -> usize {
        let (head, slot) = self.head(table, kv_head, position);
        (head * self.block_size + slot) * self.head_dim
    }

    /// Returns which of all heads of all blocks it is, and the slot in the block.
    fn head(&self, table: &[spec::BlockId], kv_head: usize, position: usize) -> (usize, usize) {
        let block = table[position / self.block_size].index();
        (block * self.kv_heads + kv_head, position % self.block_size)
    }

    fn check(&self, op: &str, keys: usize, values: usize) {
        whole(op, "keys", keys, self.block_len());
        same(op, "values", values, keys);
    }
}

impl Span<'_> {
    /// Returns the rows of the call's arrays that belong to the span.
    #[must_use]
    pub fn rows(&self) -> std::ops::Range<usize> {
        self.first_row..self.first_row + self.len
    }

    fn check(&self, op: &str, rows: usize, block_size: usize) {
        let Self { start, len, .. } = self;
        assert!(
            self.rows().end <= rows,
            "{op}: a span has rows {:?}, the call {rows}",
            self.rows()
        );
        assert!(
            *len == 0 || (start + len).div_ceil(block_size) <= self.table.len(),
            "{op}: {} blocks of {block_size} do not hold positions {start}..{}",
            self.table.len(),
            start + len
        );
    }
}

impl StoreKv<'_> {
    /// Checks the lengths and that the tables cover the spans.
    ///
    /// # Panics
    ///
    /// If one does not fit.
    pub fn check(&self) {
        let layout = &self.layout;
        layout.check("store_kv", self.keys.len(), self.values.len());
        let width = layout.kv_heads * layout.head_dim;
        let rows = whole("store_kv", "k", self.k.len(), width);
        same("store_kv", "v", self.v.len(), self.k.len());
        for span in self.spans {
            span.check("store_kv", rows, layout.block_size);
        }
    }
}

impl Attend<'_> {
    /// Returns how many query heads read one key head.
    #[must_use]
    pub fn group(&self) -> usize {
        self.heads / self.layout.kv_heads
    }

    /// Returns the positions that a query at `position` sees.
    #[must_use]
    pub fn visible(&self, position: usize) -> std::ops::Range<usize> {
        let first = self
            .window
            .map_or(0, |window| (position + 1).saturating_sub(window));
        first..position + 1
    }

    /// Checks the lengths and that the tables cover the spans.
    ///
    /// # Panics
    ///
    /// If one does not fit.
    pub fn check(&self) {
        let layout = &self.layout;
        layout.check("attend", self.keys.len(), self.values.len());
        whole("attend", "heads", self.heads, layout.kv_heads);
        let rows = whole("attend", "q", self.q.len(), self.heads * layout.head_dim);
        same("attend", "out", self.out.len(), self.q.len());
        same("attend", "sinks", self.sinks.len(), self.heads);
        assert!(self.window != Some(0), "attend: a window of no keys");
        for span in self.spans {
            span.check("attend", rows, layout.block_size);
        }
    }
}

impl Route<'_> {
    /// Checks the lengths and that there are as many experts as to be chosen.
    ///
    /// # Panics
    ///
    /// If one does not fit.
    pub fn check(&self) {
        let rows = whole("route", "logits", self.logits.len(), self.num_experts);
        assert!(
            (1..=self.num_experts).contains(&self.k),
            "route: {} of {} experts",
            self.k,
            self.num_experts
        );
        same("route", "index", self.index.len(), rows * self.k);
        same("route", "weight", self.weight.len(), rows * self.k);
    }
}

impl Mxfp4<'_> {
    fn check(&self, outputs: usize, inputs: usize) {
        let blocks = outputs * whole("run_experts", "a row", inputs, BLOCK);
        if let Codes::Rows {
            blocks: found,
            scales,
        } = self.codes
        {
            same("run_experts", "blocks", found.len(), blocks * BLOCK_BYTES);
            same("run_experts", "scales", scales.len(), blocks);
        }
        same("run_experts", "bias", self.bias.len(), outputs);
    }
}

impl ExpertWork<'_> {
    fn check(&self, args: &Experts<'_>) {
        self.gate_up.check(2 * args.intermediate, args.hidden);
        self.down.check(args.hidden, args.intermediate);
        same(
            "run_experts",
            "outputs",
            self.outputs.len(),
            self.rows.len(),
        );
        let rows = args.x.len() / args.hidden;
        for &row in self.rows {
            assert!((row as usize) < rows, "run_experts: row {row} of {rows}");
        }
        let outputs = args.out.len() / args.hidden;
        for &row in self.outputs {
            assert!(
                (row as usize) < outputs,
                "run_experts: output row {row} of {outputs}"
            );
        }
    }
}

impl Experts<'_> {
    /// Checks the lengths and that the rows named exist.
    ///
    /// # Panics
    ///
    /// If one does not fit.
    pub fn check(&self) {
        whole("run_experts", "x", self.x.len(), self.hidden);
        whole("run_experts", "out", self.out.len(), self.hidden);
        for work in self.work {
            work.check(self);
        }
    }
}

impl Combine<'_> {
    /// Returns the width of a row; 0 without rows.
    #[must_use]
    pub fn hidden(&self) -> usize {
        (self.x.len() * self.k)
            .checked_div(self.weight.len())
            .unwrap_or(0)
    }

    /// Checks the lengths.
    ///
    /// # Panics
    ///
    /// If one does not fit.
    pub fn check(&self) {
        let rows = whole("combine", "weight", self.weight.len(), self.k);
        same(
            "combine",
            "outputs",
            self.outputs.len(),
            self.x.len() * self.k,
        );
        if rows == 0 {
            same("combine", "x", self.x.len(), 0);
        } else {
            whole("combine", "x", self.x.len(), rows);
        }
    }
}
