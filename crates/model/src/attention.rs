//! The attention half of a layer: norm, projections, rotation, KV, attention, output projection.

use std::ops::Range;

use checkpoint::LayerWeights;
use kernels::{Attend, KvLayout, Linear, Rotate, Span, StoreKv};

use crate::kv::LayerKv;
use crate::pass::{Pass, Place, slice_len};
use crate::scratch::Scratch;

/// The rows of a step, as layers of one attention kind see them.
pub(crate) struct Rows<'a> {
    /// Keys a position sees; `None` for all.
    pub(crate) window: Option<usize>,
    pub(crate) positions: &'a [u32],
    pub(crate) spans: Vec<Span<'a>>,
    /// Runs of rows that are attended in one call, with their spans.
    slices: Vec<(Range<usize>, Vec<Span<'a>>)>,
}

impl<'a> Rows<'a> {
    /// Takes the step's spans and cuts them where a call would take long.
    pub(crate) fn new(
        spans: Vec<Span<'a>>,
        positions: &'a [u32],
        window: Option<usize>,
        query_width: usize,
    ) -> Self {
        // Each key is multiplied with the query and its value with the probability.
        let slices = cut(&spans, window, slice_len(2 * query_width));
        Self {
            window,
            positions,
            spans,
            slices,
        }
    }
}

/// Cuts spans into runs of rows that see about `limit` keys in all, at least one row each.
fn cut<'a>(
    spans: &[Span<'a>],
    window: Option<usize>,
    limit: usize,
) -> Vec<(Range<usize>, Vec<Span<'a>>)> {
    let mut slices: Vec<(Range<usize>, Vec<Span<'a>>)> = Vec::new();
    let mut left = 0;
    for span in spans {
        let mut done = 0;
        while done < span.len {
            // Counted as if each row saw what the last of the span sees.
            let visible = (span.start + span.len).min(window.unwrap_or(usize::MAX));
            if left < visible {
                let first = span.first_row + done;
                slices.push((first..first, Vec::new()));
                left = limit.max(visible);
            }
            let len = (left / visible).min(span.len - done);
            left -= len * visible;
            let (rows, parts) = slices.last_mut().expect("one was begun");
            parts.push(Span {
                first_row: rows.len(),
                len,
                start: span.start + done,
                table: span.table,
            });
            rows.end += len;
            done += len;
        }
    }
    slices
}

/// Adds the attention of one layer to the residual stream.
pub(crate) fn attention(
    pass: &Pass<'_>,
    place: Place,
    layer: &LayerWeights,
    rows: &Rows<'_>,
    kv: (&mut LayerKv, KvLayout),
    scratch: &mut Scratch,
) {
    let geometry = pass.geometry;
    let (hidden, query_width) = (geometry.hidden, geometry.query_width());
    let (kv, layout) = kv;
    pass.norm(&scratch.x, &layer.input_norm, &mut scratch.normed);
    for (weight, bias, out) in [
        (&layer.q, &layer.q_bias, &mut scratch.q),
        (&layer.k, &layer.k_bias, &mut scratch.k),
        (&layer.v, &layer.v_bias, &mut scratch.v),
    ] {
        let args = Linear {
            x: &scratch.normed,
            weight: weight.view(),
            bias: Some(bias),
            inputs: hidden,
            outputs: bias.len(),
            accumulate: false,
            out,
        };
        pass.linear(place, args);
    }
    for (x, heads) in [
        (&mut scratch.q, geometry.num_heads),
        (&mut scratch.k, geometry.num_kv_heads),
    ] {
        pass.backend.rotate(Rotate {
            x,
            positions: rows.positions,
            inv_freq: &pass.rotary.inv_freq,
            factor: pass.rotary.factor,
            heads,
        });
    }
    pass.backend.store_kv(StoreKv {
        k: &scratch.k,
        v: &scratch.v,
        spans: &rows.spans,
        layout,
        keys: kv.keys.floats_mut(),
        values: kv.values.floats_mut(),
    });
    for (range, spans) in &rows.slices {
        let range = range.start * query_width..range.end * query_width;
        pass.backend.attend(Attend {
            q: &scratch.q[range.clone()],
            heads: geometry.num_heads,
            spans,
            layout,
            keys: kv.keys.floats(),
            values: kv.values.floats(),
            sinks: &layer.sinks,
            window: rows.window,
            scale: 1.0 / (geometry.head_dim as f32).sqrt(),
            out: &mut scratch.attended[range],
        });
        pass.report(place);
    }
    let args = Linear {
        x: &scratch.attended,
        weight: layer.o.view(),
        bias: Some(&layer.o_bias),
        inputs: query_width,
        outputs: hidden,
        accumulate: true,
        out: &mut scratch.x,
    };
    pass.linear(place, args);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the rows, positions and keys of each slice.
    fn shape(spans: &[Span<'_>], window: Option<usize>, limit: usize) -> Vec<Vec<[usize; 3]>> {
        let slices = cut(spans, window, limit);
        let mut next = 0;
        for (rows, parts) in &slices {
            assert_eq!(rows.start, next);
            let in_parts: usize = parts.iter().map(|span| span.len).sum();
            assert_eq!(rows.len(), in_parts);
            next = rows.end;
        }
        let parts = |parts: &[Span<'_>]| {
            let shapes = parts.iter().map(|s| [s.first_row, s.len, s.start]);
            shapes.collect::<Vec<_>>()
        };
        slices.iter().map(|(_, p)| parts(p)).collect()
    }

    fn span<'a>(first_row: usize, len: usize, start: usize) -> Span<'a> {
        Span {
            first_row,
            len,
            start,
            table: &[],
        }
    }

    #[test]
    fn short_spans_share_a_slice() {
        let spans = [span(0, 1, 9), span(1, 1, 99), span(2, 2, 0)];
        let expected = vec![vec![[0, 1, 9], [1, 1, 99], [2, 2, 0]]];
        assert_eq!(shape(&spans, None, 1000), expected);
    }

    #[test]
    fn a_long_span_is_cut_and_each_slice_starts_at_row_zero() {
        let spans = [span(0, 3, 97), span(3, 1, 49)];
        let expected = vec![vec![[0, 2, 97]], vec![[0, 1, 99], [1, 1, 49]]];
        assert_eq!(shape(&spans, None, 210), expected);
        // A window makes rows cheap again.
        assert_eq!(shape(&spans, Some(10), 210).len(), 1);
    }

    #[test]
    fn a_row_beyond_the_limit_goes_alone() {
        let spans = [span(0, 2, 98)];
        let expected = vec![vec![[0, 1, 98]], vec![[0, 1, 99]]];
        assert_eq!(shape(&spans, None, 1), expected);
    }
}
