//! The left side of a matrix product, rearranged for the kernel.

use std::ops::Range;

use crate::pool::Pool;
use crate::simd::{LANES, Lanes};
use crate::weights::{CHUNK, Weights};

/// Most rows that go through the kernel side by side.
pub(crate) const GROUP: usize = 3;

/// Rows in groups of up to [`GROUP`] of nearly equal size; a group is `[step][row][lane]`, a step
/// being eight inputs. Inputs are padded with zeros to whole chunks.
pub(crate) struct Panel {
    lanes: Vec<Lanes>,
    rows: usize,
    chunks: usize,
}

impl Panel {
    /// Rearranges `rows` rows of `inputs` values for products with `W`; `row` returns one.
    pub(crate) fn pack<'a, W: Weights>(
        pool: &Pool,
        rows: usize,
        inputs: usize,
        row: impl Fn(usize) -> &'a [f32] + Sync,
    ) -> Self {
        let chunks = inputs.div_ceil(CHUNK);
        let mut lanes = vec![[0.0; LANES]; rows * chunks * (CHUNK / LANES)];
        let mut pieces = Vec::new();
        let mut left = lanes.as_mut_slice();
        for group in groups(rows) {
            let (piece, others) = left.split_at_mut(group.len() * chunks * (CHUNK / LANES));
            pieces.push((group, piece));
            left = others;
        }
        let fill = |(group, piece): (Range<usize>, &mut [Lanes])| {
            let len = group.len();
            for (place, index) in group.enumerate() {
                let mut steps = piece.iter_mut().skip(place).step_by(len);
                for chunk in row(index).chunks(CHUNK) {
                    let mut padded = [0.0; CHUNK];
                    let chunk = <&[f32; CHUNK]>::try_from(chunk).unwrap_or_else(|_| {
                        padded[..chunk.len()].copy_from_slice(chunk);
                        &padded
                    });
                    for (order, to) in W::ORDER.iter().zip(&mut steps) {
                        *to = order.map(|place| chunk[place]);
                    }
                }
            }
        };
        if rows * inputs < SMALL {
            pieces.into_iter().for_each(fill);
        } else {
            pool.each(pieces, fill);
        }
        Self {
            lanes,
            rows,
            chunks,
        }
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// Chunks of a row.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks
    }

    /// Returns the groups: which rows, and their lanes.
    #[inline(always)]
    pub(crate) fn groups(&self) -> impl Iterator<Item = (Range<usize>, &[Lanes])> {
        let steps = self.chunks * (CHUNK / LANES);
        groups(self.rows).map(move |group| {
            let lanes = &self.lanes[group.start * steps..group.end * steps];
            (group, lanes)
        })
    }
}

/// Values that one thread moves faster than it wakes another.
const SMALL: usize = 1 << 16;

/// Cuts rows into groups.
#[inline(always)]
fn groups(rows: usize) -> impl Iterator<Item = Range<usize>> {
    let count = rows.div_ceil(GROUP);
    (0..count).map(move |i| i * rows / count..(i + 1) * rows / count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_nearly_equal_and_complete() {
        for rows in 0..100 {
            let groups: Vec<_> = groups(rows).collect();
            assert_eq!(groups.iter().map(|group| group.len()).sum::<usize>(), rows);
            assert!(
                groups
                    .iter()
                    .all(|group| (1..=GROUP).contains(&group.len()))
            );
            let sizes = || groups.iter().map(|group| group.len());
            assert!(rows == 0 || sizes().max().unwrap() - sizes().min().unwrap() <= 1);
        }
    }
}
