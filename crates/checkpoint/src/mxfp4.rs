//! MXFP4: blocks of 32 four-bit values with one scale byte each.
//!
//! A block is 16 bytes; byte `j` holds value `2 j` in its low four bits and value `2 j + 1` in the
//! high four. A code is a sign bit and a magnitude E2M1; the scale byte is an exponent E8M0, so
//! `value = code * 2^(scale - 127)`. All values are exact in `f32` (with scales 0 and 1 the
//! smallest are subnormal). Formats: OCP Microscaling Formats (MX) v1.0, sections 5.3 and 5.4.

/// Values of one block.
pub const BLOCK_VALUES: usize = 32;
/// Bytes that hold the codes of one block.
pub const BLOCK_BYTES: usize = 16;
/// The scale byte that stands for no number; no published tensor should hold it.
pub const SCALE_NAN: u8 = 255;

/// The value of each code at scale 127, that is, times one.
pub const VALUES: [f32; 16] = [
    0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0,
];

/// Returns `2^(scale - 127)` exactly. Byte 255 gives infinity: it is reported by `verify`.
#[must_use]
pub fn scale_value(scale: u8) -> f32 {
    match scale {
        // Below the smallest exponent of a normal number: 2^-127 is the subnormal 2^-149 * 2^22.
        0 => f32::from_bits(1 << 22),
        _ => f32::from_bits(u32::from(scale) << 23),
    }
}

/// Decodes one block.
#[must_use]
pub fn decode_block(block: &[u8; BLOCK_BYTES], scale: u8) -> [f32; BLOCK_VALUES] {
    // The product is exact where it is finite, with scale bytes 254 and 255 it may overflow.
    let scale = scale_value(scale);
    let mut values = [0.0; BLOCK_VALUES];
    for (pair, byte) in values.chunks_exact_mut(2).zip(block) {
        pair[0] = VALUES[usize::from(byte & 15)] * scale;
        pair[1] = VALUES[usize::from(byte >> 4)] * scale;
    }
    values
}

/// Decodes a run of blocks: the plain loop that faster kernels are compared with.
///
/// # Shapes
///
/// - `blocks`: `[n, 16]`
/// - `scales`: `[n]`
/// - `out`: `[n, 32]`, overwritten
///
/// # Panics
///
/// If the lengths do not belong together.
pub fn dequantize_into(blocks: &[u8], scales: &[u8], out: &mut [f32]) {
    let (blocks, rest) = blocks.as_chunks::<BLOCK_BYTES>();
    assert!(rest.is_empty(), "blocks end inside a block");
    assert_eq!(blocks.len(), scales.len(), "one scale a block");
    let (rows, rest) = out.as_chunks_mut::<BLOCK_VALUES>();
    assert!(
        rest.is_empty() && rows.len() == scales.len(),
        "32 values a block"
    );
    for ((row, block), scale) in rows.iter_mut().zip(blocks).zip(scales) {
        *row = decode_block(block, *scale);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_low_half_of_a_byte_is_the_even_value() {
        let mut block = [0; BLOCK_BYTES];
        block[3] = 0xf1;
        let values = decode_block(&block, 127);
        assert_eq!((values[6], values[7]), (0.5, -6.0));
        assert_eq!(values.iter().filter(|value| **value != 0.0).count(), 2);
    }

    #[test]
    fn every_code_at_every_scale_is_the_exact_product() {
        for scale in 0..=254u8 {
            for code in 0..16u8 {
                let block = [code; BLOCK_BYTES];
                let got = decode_block(&block, scale)[0];
                let exact = f64::from(VALUES[usize::from(code)])
                    * f64::from_bits(u64::from(u16::from(scale) + 1023 - 127) << 52);
                let rounded = exact as f32;
                // From 4 * 2^126 on the largest codes overflow.
                assert!(f64::from(rounded) == exact || scale >= 253);
                assert_eq!(
                    got.to_bits(),
                    rounded.to_bits(),
                    "code {code} scale {scale}"
                );
            }
        }
    }

    #[test]
    fn the_smallest_scales_give_subnormals() {
        assert_eq!(scale_value(0), 2f32.powi(-127));
        assert_eq!(decode_block(&[0x01; BLOCK_BYTES], 0)[0], 2f32.powi(-128));
        assert_eq!(decode_block(&[0x08; BLOCK_BYTES], 0)[0].to_bits(), 1 << 31);
        assert_eq!(decode_block(&[0x01; BLOCK_BYTES], 1)[0], 2f32.powi(-127));
    }

    #[test]
    fn a_run_is_its_blocks_in_order() {
        let blocks: Vec<u8> = (0..48).map(|i| i * 5).collect();
        let scales = [120, 127, 130];
        let mut out = [f32::NAN; 96];
        dequantize_into(&blocks, &scales, &mut out);
        for (i, scale) in scales.into_iter().enumerate() {
            let block = blocks[i * 16..][..16].try_into().unwrap();
            assert_eq!(out[i * 32..][..32], decode_block(block, scale));
        }
    }
}
