//! Seeded numbers for the cases.

use half::bf16;

use crate::mxfp4::{BLOCK, BLOCK_BYTES};
use crate::{Backend, Strip};

/// SplitMix64. Source: Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014.
pub(super) struct Numbers(u64);

impl Numbers {
    pub(super) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = self.0;
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A whole number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }

    /// Evenly spread over `-scale..scale`.
    pub(super) fn float(&mut self, scale: f32) -> f32 {
        let unit = (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0;
        unit * scale
    }

    pub(super) fn floats(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.float(scale)).collect()
    }

    pub(super) fn bf16s(&mut self, count: usize, scale: f32) -> Vec<bf16> {
        let mut next = || bf16::from_f32(self.float(scale));
        (0..count).map(|_| next()).collect()
    }

    pub(super) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }

    /// `0..count` in random order.
    pub(super) fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for i in (1..count).rev() {
            order.swap(i, self.below(i + 1));
        }
        order
    }
}

/// Lays a `bf16` matrix out as the back end wants it; `None` if it wants it as it is.
pub(super) fn packed_bf16(
    backend: &dyn Backend,
    rows: &[bf16],
    (outputs, inputs): (usize, usize),
) -> Option<Vec<u8>> {
    let packing = backend.packing()?;
    let (strip, bytes) = (packing.strip(), packing.bf16_bytes(inputs));
    let mut out = vec![1; outputs.div_ceil(strip) * bytes];
    for (rows, out) in rows.chunks(strip * inputs).zip(out.chunks_exact_mut(bytes)) {
        packing.bf16(rows, inputs, out);
    }
    Some(out)
}

/// The same for the codes of an MXFP4 matrix.
pub(super) fn packed_codes(
    backend: &dyn Backend,
    (blocks, scales): (&[u8], &[u8]),
    (outputs, inputs): (usize, usize),
    pairs: bool,
) -> Option<Vec<u8>> {
    let packing = backend.packing()?;
    let (strip, bytes) = (packing.strip(), packing.codes_bytes(inputs));
    let width = strip * inputs / BLOCK;
    let mut out = vec![1; outputs.div_ceil(strip) * bytes];
    let rows = blocks.chunks(width * BLOCK_BYTES).zip(scales.chunks(width));
    for ((blocks, scales), out) in rows.zip(out.chunks_exact_mut(bytes)) {
        let rows = Strip {
            blocks,
            scales,
            inputs,
            pairs,
        };
        packing.codes(rows, out);
    }
    Some(out)
}
