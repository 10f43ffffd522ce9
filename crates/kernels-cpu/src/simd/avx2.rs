//! The path of x86-64 processors with AVX2 and FMA (2013 and later).
#![expect(unsafe_code, reason = "instructions that not every x86-64 has")]

use std::arch::x86_64::{
    __m256, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0, _MM_HINT_T1, _mm_add_ps,
    _mm_loadu_si128, _mm_prefetch, _mm_storeu_ps, _mm256_add_epi32, _mm256_add_ps,
    _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_castpd_ps, _mm256_castps_pd,
    _mm256_castps256_ps128, _mm256_castsi256_ps, _mm256_cvtepu16_epi32, _mm256_cvtps_epi32,
    _mm256_div_ps, _mm256_extractf128_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_max_ps,
    _mm256_min_ps, _mm256_mul_ps, _mm256_round_ps, _mm256_set1_epi8, _mm256_set1_epi32,
    _mm256_set1_ps, _mm256_setr_epi64x, _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_srlv_epi64,
    _mm256_storeu_ps, _mm256_sub_ps, _mm256_unpackhi_epi8, _mm256_unpackhi_pd, _mm256_unpackhi_ps,
    _mm256_unpacklo_epi8, _mm256_unpacklo_pd, _mm256_unpacklo_ps,
};

use half::bf16;
use kernels::mxfp4;

use super::halves::{HALF_SCALES, HALVES};
use super::{Kernel, LANES, Lanes, Quad, Simd, wide_of_two};

/// Proof that this processor has AVX2 and FMA: only [`Avx2::detect`] makes one.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        found.then_some(Self(()))
    }

    /// Runs a kernel inside a function that has the features, so that all of it is compiled with
    /// them.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma")]
        fn with_features<K: Kernel>(simd: Avx2, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists, so `detect` found both features on this processor.
        unsafe { with_features(self, kernel) }
    }
}

/// Calls an operation that needs AVX2 or FMA, in a method of [`Avx2`].
macro_rules! on_avx2 {
    ($call:expr) => {
        // SAFETY: the method's `self` exists, so `detect` found both features on this processor.
        unsafe { $call }
    };
}

impl Simd for Avx2 {
    type F32 = __m256;
    wide_of_two!();

    #[inline(always)]
    fn splat(self, value: f32) -> __m256 {
        on_avx2!(_mm256_set1_ps(value))
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> __m256 {
        // SAFETY: as in `on_avx2`; `from` is 32 readable bytes, and the load needs no alignment.
        unsafe { _mm256_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, value: __m256, to: &mut Lanes) {
        // SAFETY: as in `on_avx2`; `to` is 32 writable bytes, and the store needs no alignment.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &[T], index: usize) {
        let line = from.as_ptr().wrapping_add(index).cast();
        // SAFETY: the instruction is part of x86-64 and a hint for any address at all.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) }
    }

    #[inline(always)]
    fn prefetch_behind<T>(self, from: &[T], index: usize) {
        let line = from.as_ptr().wrapping_add(index).cast();
        // SAFETY: as in `prefetch`.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line) }
    }

    #[inline(always)]
    fn widen(self, from: &[bf16; LANES]) -> __m256 {
        on_avx2!(widen(from))
    }

    #[inline(always)]
    fn unpack(self, block: &[u8; mxfp4::BLOCK_BYTES], scale: u8) -> Quad<__m256> {
        on_avx2!(unpack(block, scale))
    }

    #[inline(always)]
    fn add(self, a: __m256, b: __m256) -> __m256 {
        on_avx2!(_mm256_add_ps(a, b))
    }

    #[inline(always)]
    fn sub(self, a: __m256, b: __m256) -> __m256 {
        on_avx2!(_mm256_sub_ps(a, b))
    }

    #[inline(always)]
    fn mul(self, a: __m256, b: __m256) -> __m256 {
        on_avx2!(_mm256_mul_ps(a, b))
    }

    #[inline(always)]
    fn div(self, a: __m256, b: __m256) -> __m256 {
        on_avx2!(_mm256_div_ps(a, b))
    }

    #[inline(always)]
    fn min(self, a: __m256, b: __m256) -> __m256 {
        on_avx2!(_mm256_min_ps(a, b))
    }

    #[inline(always)]
    fn max(self, a: __m256, b: __m256) -> __m256 {
        on_avx2!(_mm256_max_ps(a, b))
    }

    #[inline(always)]
    fn fma(self, a: __m256, b: __m256, c: __m256) -> __m256 {
        on_avx2!(_mm256_fmadd_ps(a, b, c))
    }

    #[inline(always)]
    fn round(self, value: __m256) -> __m256 {
        on_avx2!(_mm256_round_ps::<
            { _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC },
        >(value))
    }

    #[inline(always)]
    fn pow2(self, value: __m256) -> __m256 {
        on_avx2!(pow2(value))
    }

    #[inline(always)]
    fn sums(self, values: Quad<__m256>) -> [f32; 4] {
        on_avx2!(sums(values))
    }
}

/// The upper half of an `f32` is a `bf16`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn widen(from: &[bf16; LANES]) -> __m256 {
    // SAFETY: `from` is 16 readable bytes, and the load needs no alignment.
    let halves = unsafe { _mm_loadu_si128(from.as_ptr().cast()) };
    _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(halves)))
}

/// Looks each code up as the two bytes of a `bf16`, twice its value, and multiplies by half the
/// scale.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn unpack(block: &[u8; mxfp4::BLOCK_BYTES], scale: u8) -> Quad<__m256> {
    // SAFETY: `block` is 16 readable bytes, and the load needs no alignment.
    let codes = unsafe { _mm_loadu_si128(block.as_ptr().cast()) };
    // SAFETY: the table is 16 readable bytes, and the load needs no alignment.
    let upper = unsafe { _mm_loadu_si128(HALVES[0].as_ptr().cast()) };
    // SAFETY: the table is 16 readable bytes, and the load needs no alignment.
    let lower = unsafe { _mm_loadu_si128(HALVES[1].as_ptr().cast()) };
    // The low four bits of each byte in the lower half of the register, the high in the upper.
    let codes = _mm256_srlv_epi64(
        _mm256_broadcastsi128_si256(codes),
        _mm256_setr_epi64x(0, 0, 4, 4),
    );
    let codes = _mm256_and_si256(codes, _mm256_set1_epi8(15));
    let upper = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(upper), codes);
    let lower = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(lower), codes);
    // Pairs of `bf16`: the first moves up, the second is in its place.
    let first = _mm256_unpacklo_epi8(lower, upper);
    let second = _mm256_unpackhi_epi8(lower, upper);
    let in_place = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    let scale = _mm256_set1_ps(HALF_SCALES[usize::from(scale)]);
    let scaled = |value| _mm256_mul_ps(_mm256_castsi256_ps(value), scale);
    [
        scaled(_mm256_slli_epi32::<16>(first)),
        scaled(_mm256_and_si256(first, in_place)),
        scaled(_mm256_slli_epi32::<16>(second)),
        scaled(_mm256_and_si256(second, in_place)),
    ]
}

/// Builds the exponent field.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn pow2(value: __m256) -> __m256 {
    let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(value), _mm256_set1_epi32(127));
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
}

/// Transposes and adds, halving the number of registers each time.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn sums([a, b, c, d]: Quad<__m256>) -> [f32; 4] {
    let ab = _mm256_add_ps(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b));
    let cd = _mm256_add_ps(_mm256_unpacklo_ps(c, d), _mm256_unpackhi_ps(c, d));
    let (ab, cd) = (_mm256_castps_pd(ab), _mm256_castps_pd(cd));
    let even = _mm256_castpd_ps(_mm256_unpacklo_pd(ab, cd));
    let odd = _mm256_castpd_ps(_mm256_unpackhi_pd(ab, cd));
    let halves = _mm256_add_ps(even, odd);
    let sum = _mm_add_ps(
        _mm256_castps256_ps128(halves),
        _mm256_extractf128_ps::<1>(halves),
    );
    let mut sums = [0.0; 4];
    // SAFETY: `sums` is 16 writable bytes, and the store needs no alignment.
    unsafe { _mm_storeu_ps(sums.as_mut_ptr(), sum) };
    sums
}
