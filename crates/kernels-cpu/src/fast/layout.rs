//! How packed matrices lie: strips of 64 rows, the bytes of each read once from its first to its last.
//!
//! A strip of a `bf16` matrix holds, for each pair of inputs, the pair of each row: four bytes a row, so
//! that a register of 64 bytes holds 16 rows. A strip of an MXFP4 matrix holds, for each block of 32
//! inputs, the scales of all rows and then their codes: for each 16 rows and each 8 inputs, four bytes a
//! row, whose low halves are the first four inputs and whose high halves are the others. So each half,
//! looked up in a table, is an operand of an instruction that multiplies four bytes a lane.

use half::bf16;
use kernels::{Packing, Strip, mxfp4};

/// Rows of a strip.
pub(crate) const STRIP: usize = 64;

/// Bytes of a pair of inputs in a strip of a `bf16` matrix.
pub(super) const PAIR_BYTES: usize = 4 * STRIP;

/// Bytes of a block of inputs in a strip of an MXFP4 matrix: its scales, then its codes.
pub(super) const BLOCK_BYTES: usize = STRIP + STRIP * mxfp4::BLOCK_BYTES;

/// Rows of a register.
pub(super) const GROUP: usize = 16;

/// Inputs whose codes lie in one register.
const OCTET: usize = 8;

/// The layout; there is only one.
pub(crate) static STRIPS: Strips = Strips;

#[derive(Debug)]
pub(crate) struct Strips;

/// Where a row of a strip lies: gates before ups, where they take turns.
fn place(row: usize, pairs: bool) -> usize {
    match pairs {
        true => row / 2 + row % 2 * (STRIP / 2),
        false => row,
    }
}

/// The byte of a row's inputs `8 octet + step` (its low half) and `8 octet + 4 + step`, after the scales.
pub(super) fn code_byte(place: usize, octet: usize, step: usize) -> usize {
    let register = place / GROUP * (mxfp4::BLOCK / OCTET) + octet;
    STRIP + (register * GROUP + place % GROUP) * 4 + step
}

impl Packing for Strips {
    fn name(&self) -> &'static str {
        "strips-1"
    }

    fn strip(&self) -> usize {
        STRIP
    }

    fn bf16_bytes(&self, inputs: usize) -> usize {
        inputs.div_ceil(2) * PAIR_BYTES
    }

    fn codes_bytes(&self, inputs: usize) -> usize {
        inputs / mxfp4::BLOCK * BLOCK_BYTES
    }

    fn bf16(&self, rows: &[bf16], inputs: usize, out: &mut [u8]) {
        assert!(
            out.len() == self.bf16_bytes(inputs) && rows.len() <= STRIP * inputs,
            "bf16: a strip's bytes"
        );
        out.fill(0);
        for (place, row) in rows.chunks_exact(inputs).enumerate() {
            for (pair, out) in row.chunks(2).zip(out.chunks_exact_mut(PAIR_BYTES)) {
                for (value, out) in pair.iter().zip(out[4 * place..].chunks_exact_mut(2)) {
                    out.copy_from_slice(&value.to_le_bytes());
                }
            }
        }
    }

    fn codes(&self, rows: Strip<'_>, out: &mut [u8]) {
        let sized = rows.blocks.len() == rows.scales.len() * mxfp4::BLOCK_BYTES;
        assert!(
            out.len() == self.codes_bytes(rows.inputs)
                && sized
                && rows.scales.len() <= STRIP * rows.inputs / mxfp4::BLOCK,
            "codes: a strip's bytes"
        );
        out.fill(0);
        let blocks = rows.inputs / mxfp4::BLOCK;
        let codes = rows.blocks.chunks_exact(blocks * mxfp4::BLOCK_BYTES);
        for (row, (codes, scales)) in codes.zip(rows.scales.chunks_exact(blocks)).enumerate() {
            let place = place(row, rows.pairs);
            let blocks = codes.as_chunks::<{ mxfp4::BLOCK_BYTES }>().0.iter();
            for ((codes, scale), out) in blocks.zip(scales).zip(out.chunks_exact_mut(BLOCK_BYTES)) {
                out[place] = *scale;
                for (octet, codes) in codes.as_chunks::<4>().0.iter().enumerate() {
                    let [a, b, c, d] = *codes;
                    let turned = [
                        a & 15 | c << 4,
                        a >> 4 | c & 0xf0,
                        b & 15 | d << 4,
                        b >> 4 | d & 0xf0,
                    ];
                    out[code_byte(place, octet, 0)..][..4].copy_from_slice(&turned);
                }
            }
        }
    }
}
