//! The numbers of an MXFP4 block.
//!
//! Source: OCP Microscaling Formats (MX) Specification 1.0, sections 5.2 (MXFP4) and 5.3.3 (E2M1).

/// Values that share one scale.
pub const BLOCK: usize = 32;

/// Bytes of a block's values.
pub const BLOCK_BYTES: usize = BLOCK / 2;

/// Twice the value of each four-bit code: whole numbers, so that they convert exactly.
pub const TWICE: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

/// Returns half of what a scale byte stands for, `2^(scale − 128)`, which [`TWICE`] makes whole.
///
/// Half, because `2^128` (byte 255, which the format keeps for NaN and the published checkpoint's
/// own programs treat as a number) does not exist in `f32`, while all halves do; bytes 0 and 1
/// give subnormals.
#[must_use]
pub const fn half_scale(scale: u8) -> f32 {
    match scale {
        0 => f32::from_bits(1 << 21),
        1 => f32::from_bits(1 << 22),
        _ => f32::from_bits((scale as u32 - 1) << 23),
    }
}

/// Returns the value of a block's four-bit code (its low bits) under the block's scale byte.
#[must_use]
pub fn value(code: u8, scale: u8) -> f32 {
    f32::from(TWICE[usize::from(code & 15)]) * half_scale(scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_those_of_the_specification() {
        let magnitudes = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0];
        for (code, magnitude) in (0..8).zip(magnitudes) {
            assert_eq!(value(code, 127), magnitude);
            assert_eq!(value(code | 8, 127), -magnitude);
            assert_eq!(value(code, 130), 8.0 * magnitude);
        }
    }

    #[test]
    fn scales_are_exact_down_to_subnormals_and_up_to_the_largest() {
        for scale in 0..=255 {
            let exact = 2f64.powi(i32::from(scale) - 128);
            assert_eq!(f64::from(half_scale(scale)), exact, "scale {scale}");
        }
        assert_eq!(value(1, 0).to_bits(), 1 << 21);
        assert_eq!(value(7, 255), f32::INFINITY);
        assert_eq!(value(0, 255), 0.0);
    }
}
