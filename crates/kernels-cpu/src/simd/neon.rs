//! The path of 64-bit ARM processors: eight lanes are two registers.
#![expect(unsafe_code, reason = "instructions of one architecture")]

use std::arch::aarch64::{
    float32x4_t, uint8x16_t, vaddq_f32, vaddq_s32, vandq_u8, vandq_u32, vbslq_f32, vcgtq_f32,
    vcltq_f32, vcvtnq_s32_f32, vdivq_f32, vdupq_n_f32, vdupq_n_s32, vdupq_n_u8, vdupq_n_u32,
    vfmaq_f32, vget_high_u16, vget_low_u16, vld1q_f32, vld1q_u8, vld1q_u16, vmulq_f32, vpaddq_f32,
    vqtbl1q_u8, vreinterpretq_f32_f64, vreinterpretq_f32_s32, vreinterpretq_f32_u32,
    vreinterpretq_f64_f32, vreinterpretq_u32_u8, vrndnq_f32, vshll_n_u16, vshlq_n_s32, vshlq_n_u32,
    vshrq_n_u8, vst1q_f32, vsubq_f32, vtrn1q_f64, vtrn2q_f64, vzip1q_u8, vzip2q_u8,
};
use std::arch::{asm, is_aarch64_feature_detected};

use half::bf16;
use kernels::mxfp4;

use super::halves::{HALF_SCALES, HALVES};
use super::{Kernel, LANES, Lanes, Quad, Simd, wide_of_two};

/// Eight lanes: the first four, then the others.
type Pair = [float32x4_t; 2];

/// Proof that this processor has NEON: only [`Neon::detect`] makes one.
#[derive(Clone, Copy)]
pub(crate) struct Neon(());

impl Neon {
    pub(super) fn detect() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Self(()))
    }

    /// Runs a kernel inside a function that has the features, so that all of it is compiled with
    /// them.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "neon")]
        fn with_features<K: Kernel>(simd: Neon, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists, so `detect` found the feature on this processor.
        unsafe { with_features(self, kernel) }
    }
}

/// Applies an operation that needs NEON to both registers, in a method of [`Neon`].
macro_rules! both {
    (|$($value:ident),+| $call:expr) => {
        [0, 1].map(|at| {
            $(let $value = $value[at];)+
            // SAFETY: the method's `self` exists, so `detect` found the feature on this processor.
            unsafe { $call }
        })
    };
}

impl Simd for Neon {
    type F32 = Pair;
    wide_of_two!();

    #[inline(always)]
    fn splat(self, value: f32) -> Pair {
        // SAFETY: as in `both`.
        [unsafe { vdupq_n_f32(value) }; 2]
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> Pair {
        let halves: &[[f32; 4]] = from.as_chunks().0;
        // SAFETY: as in `both`; each half is 16 readable bytes, and the load needs no alignment.
        [0, 1].map(|at| unsafe { vld1q_f32(halves[at].as_ptr()) })
    }

    #[inline(always)]
    fn store(self, value: Pair, to: &mut Lanes) {
        let halves: &mut [[f32; 4]] = to.as_chunks_mut().0;
        for (half, value) in halves.iter_mut().zip(value) {
            // SAFETY: as in `both`; `half` is 16 writable bytes, and the store needs no alignment.
            unsafe { vst1q_f32(half.as_mut_ptr(), value) }
        }
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &[T], index: usize) {
        // `_prefetch` is not stable in Rust 1.95.
        let line = from.as_ptr().wrapping_add(index);
        // SAFETY: the instruction is part of every ARMv8 and a hint for any address at all.
        unsafe {
            asm!("prfm pldl1keep, [{line}]", line = in(reg) line, options(nomem, nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn prefetch_behind<T>(self, from: &[T], index: usize) {
        let line = from.as_ptr().wrapping_add(index);
        // SAFETY: as in `prefetch`.
        unsafe {
            asm!("prfm pldl2keep, [{line}]", line = in(reg) line, options(nomem, nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn widen(self, from: &[bf16; LANES]) -> Pair {
        // SAFETY: as in `both`.
        unsafe { widen(from) }
    }

    #[inline(always)]
    fn unpack(self, block: &[u8; mxfp4::BLOCK_BYTES], scale: u8) -> Quad<Pair> {
        // SAFETY: as in `both`.
        unsafe { unpack(block, scale) }
    }

    #[inline(always)]
    fn add(self, a: Pair, b: Pair) -> Pair {
        both!(|a, b| vaddq_f32(a, b))
    }

    #[inline(always)]
    fn sub(self, a: Pair, b: Pair) -> Pair {
        both!(|a, b| vsubq_f32(a, b))
    }

    #[inline(always)]
    fn mul(self, a: Pair, b: Pair) -> Pair {
        both!(|a, b| vmulq_f32(a, b))
    }

    #[inline(always)]
    fn div(self, a: Pair, b: Pair) -> Pair {
        both!(|a, b| vdivq_f32(a, b))
    }

    #[inline(always)]
    fn min(self, a: Pair, b: Pair) -> Pair {
        both!(|a, b| smaller(a, b))
    }

    #[inline(always)]
    fn max(self, a: Pair, b: Pair) -> Pair {
        both!(|a, b| larger(a, b))
    }

    #[inline(always)]
    fn fma(self, a: Pair, b: Pair, c: Pair) -> Pair {
        both!(|a, b, c| vfmaq_f32(c, a, b))
    }

    #[inline(always)]
    fn round(self, value: Pair) -> Pair {
        both!(|value| vrndnq_f32(value))
    }

    #[inline(always)]
    fn pow2(self, value: Pair) -> Pair {
        both!(|value| pow2(value))
    }

    #[inline(always)]
    fn sums(self, values: Quad<Pair>) -> [f32; 4] {
        // SAFETY: as in `both`.
        unsafe { sums(values) }
    }
}

/// Not `fmin`, which has a rule of its own for NaN and for zeros.
#[inline]
#[target_feature(enable = "neon")]
fn smaller(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcltq_f32(a, b), a, b)
}

#[inline]
#[target_feature(enable = "neon")]
fn larger(a: float32x4_t, b: float32x4_t) -> float32x4_t {
    vbslq_f32(vcgtq_f32(a, b), a, b)
}

/// Builds the exponent field.
#[inline]
#[target_feature(enable = "neon")]
fn pow2(value: float32x4_t) -> float32x4_t {
    let exponent = vaddq_s32(vcvtnq_s32_f32(value), vdupq_n_s32(127));
    vreinterpretq_f32_s32(vshlq_n_s32::<23>(exponent))
}

/// The upper half of an `f32` is a `bf16`.
#[inline]
#[target_feature(enable = "neon")]
fn widen(from: &[bf16; LANES]) -> Pair {
    // SAFETY: `from` is 16 readable bytes, and the load needs no alignment.
    let halves = unsafe { vld1q_u16(from.as_ptr().cast()) };
    [vget_low_u16(halves), vget_high_u16(halves)]
        .map(|half| vreinterpretq_f32_u32(vshll_n_u16::<16>(half)))
}

/// Looks each code up as the two bytes of a `bf16`, twice its value, and multiplies by half the
/// scale.
#[inline]
#[target_feature(enable = "neon")]
fn unpack(block: &[u8; mxfp4::BLOCK_BYTES], scale: u8) -> Quad<Pair> {
    // SAFETY: `block` is 16 readable bytes, and the load needs no alignment.
    let codes = unsafe { vld1q_u8(block.as_ptr()) };
    // The low four bits of each byte are in the first half of the lanes, the high in the second.
    let first = values(vandq_u8(codes, vdupq_n_u8(15)));
    let second = values(vshrq_n_u8::<4>(codes));
    let scale = vdupq_n_f32(HALF_SCALES[usize::from(scale)]);
    std::array::from_fn(|at| [vmulq_f32(first[at], scale), vmulq_f32(second[at], scale)])
}

/// Twice the values of 16 codes: those of the even ones of the first 8, the odd, and so of the others.
#[inline]
#[target_feature(enable = "neon")]
fn values(codes: uint8x16_t) -> Quad<float32x4_t> {
    // SAFETY: the tables are 16 readable bytes each, and the loads need no alignment.
    let [upper, lower] = [0, 1].map(|at| unsafe { vld1q_u8(HALVES[at].as_ptr()) });
    let (upper, lower) = (vqtbl1q_u8(upper, codes), vqtbl1q_u8(lower, codes));
    // Pairs of `bf16`: the first moves up, the second is in its place.
    let [one, other] =
        [vzip1q_u8(lower, upper), vzip2q_u8(lower, upper)].map(|pairs| vreinterpretq_u32_u8(pairs));
    let in_place = vdupq_n_u32(0xffff_0000);
    [
        vshlq_n_u32::<16>(one),
        vandq_u32(one, in_place),
        vshlq_n_u32::<16>(other),
        vandq_u32(other, in_place),
    ]
    .map(|value| vreinterpretq_f32_u32(value))
}

/// Transposes and adds, halving the number of registers each time.
#[inline]
#[target_feature(enable = "neon")]
fn sums(values: Quad<Pair>) -> [f32; 4] {
    let [low, high] = [0, 1].map(|at| {
        let [ab, cd] = [0, 2].map(|first| {
            let a = vreinterpretq_f64_f32(values[first][at]);
            let b = vreinterpretq_f64_f32(values[first + 1][at]);
            let (even, odd) = (vtrn1q_f64(a, b), vtrn2q_f64(a, b));
            vaddq_f32(vreinterpretq_f32_f64(even), vreinterpretq_f32_f64(odd))
        });
        vpaddq_f32(ab, cd)
    });
    let mut sums = [0.0; 4];
    // SAFETY: `sums` is 16 writable bytes, and the store needs no alignment.
    unsafe { vst1q_f32(sums.as_mut_ptr(), vaddq_f32(low, high)) };
    sums
}
