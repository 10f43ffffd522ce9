//! The model of all paths: what each has to compute, bit by bit.

use half::bf16;
use kernels::mxfp4;

use super::super::layout::{BLOCK_BYTES, PAIR_BYTES, code_byte};
use super::super::quantize::{OFFSET, Rows};
#[cfg(target_arch = "x86_64")]
use super::super::tiled::{PAIRS, Tile};
use super::Sums;

pub(super) fn bf16(strip: &[u8], x: &[&[f32]], sums: &mut [Sums]) {
    for (x, sums) in x.iter().zip(sums) {
        for (weights, x) in strip.chunks_exact(PAIR_BYTES).zip(x.chunks_exact(2)) {
            for (weights, sum) in weights.as_chunks::<4>().0.iter().zip(&mut *sums) {
                let [a, b, c, d] = *weights;
                let (first, second) = (bf16::from_le_bytes([a, b]), bf16::from_le_bytes([c, d]));
                *sum = x[1].mul_add(second.to_f32(), *sum);
                *sum = x[0].mul_add(first.to_f32(), *sum);
            }
        }
    }
}

/// Sums of first and of second inputs, begun anew for each sixteen pairs. The unit also takes what is below the smallest
/// normal number as zero.
#[cfg(target_arch = "x86_64")]
pub(super) fn tiled(strip: &[u8], x: Tile<'_>, sums: &mut [Sums]) {
    for (row, sums) in sums.iter_mut().enumerate() {
        let parts = strip.chunks(PAIRS * PAIR_BYTES);
        for (strip, x) in parts.zip(x.lines.iter().skip(row).step_by(x.rows)) {
            for (place, sum) in sums.iter_mut().enumerate() {
                let (mut firsts, mut seconds) = (0.0, 0.0);
                for (weights, [x, y]) in strip.chunks_exact(PAIR_BYTES).zip(x.pairs()) {
                    let weights = &weights[4 * place..];
                    let weight = |at| bf16::from_le_bytes([weights[at], weights[at + 1]]).to_f32();
                    firsts = x.to_f32().mul_add(weight(0), firsts);
                    seconds = y.to_f32().mul_add(weight(2), seconds);
                }
                *sum += firsts + seconds;
            }
        }
    }
}

pub(super) fn codes(strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
    for (row, sums) in sums.iter_mut().enumerate() {
        for (block, bytes) in strip.chunks_exact(BLOCK_BYTES).enumerate() {
            let at = block * x.step + row;
            let values: [i8; mxfp4::BLOCK] = bytemuck::cast(x.values[at]);
            for (output, sum) in sums.iter_mut().enumerate() {
                let mut whole = x.starts[at];
                for (octet, values) in values.as_chunks::<8>().0.iter().enumerate() {
                    for step in 0..4 {
                        let byte = bytes[code_byte(output, octet, step)];
                        whole += moved(byte & 15) * i32::from(values[step]);
                        whole += moved(byte >> 4) * i32::from(values[4 + step]);
                    }
                }
                let scale = mxfp4::half_scale(bytes[output]) * x.scales[at];
                *sum = (whole as f32).mul_add(scale, *sum);
            }
        }
    }
}

/// Twice the value of a code, moved so that it is not negative.
fn moved(code: u8) -> i32 {
    i32::from(mxfp4::TWICE[usize::from(code)]) + OFFSET
}
