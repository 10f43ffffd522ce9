//! The instruction of 64-bit ARM that sums products of bytes by fours.
#![expect(unsafe_code, reason = "Rust has no stable function for it")]

use std::arch::aarch64::{int8x16_t, int32x4_t};
use std::arch::asm;

/// Adds the products of bytes to sums, four to a sum, as `vdotq_s32` does, which Rust 1.95 has not stable.
#[inline]
#[target_feature(enable = "neon,dotprod")]
pub(crate) fn sdot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the function has the feature, and the instruction touches nothing but `sums`.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums, a = in(vreg) a, b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}
