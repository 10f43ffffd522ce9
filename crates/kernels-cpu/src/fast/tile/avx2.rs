//! The path of x86-64 processors with AVX2 and FMA (2013 and later).
#![expect(unsafe_code, reason = "instructions that not every x86-64 has")]

use std::arch::x86_64::{
    __m256, __m256i, _mm_loadl_epi64, _mm_loadu_si128, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_and_si256, _mm256_blendv_epi8, _mm256_broadcastsi128_si256, _mm256_castsi256_ps,
    _mm256_cmpgt_epi32, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi8,
    _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256,
    _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_sllv_epi32, _mm256_srli_epi16, _mm256_storeu_ps,
    _mm256_sub_epi32,
};

use kernels::mxfp4;

use super::super::layout::{BLOCK_BYTES, PAIR_BYTES, STRIP};
use super::super::quantize::{OFFSET, Rows};
use super::Sums;

/// Rows of a register.
const LANES: usize = 8;

/// Rows of a call that share a pass over the strip: with more their sums would not stay in registers.
const TOGETHER: usize = 2;

/// Registers of a strip's rows that are summed in one pass over the strip.
const WIDE: usize = 4;

/// The same for codes, whose sums are of three kinds at a time.
const NARROW: usize = 2;

/// Proof that this processor has AVX2 and FMA: only [`Avx2::detect`] makes one.
#[derive(Clone, Copy)]
pub(crate) struct Avx2(());

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        found.then_some(Self(()))
    }

    pub(super) fn bf16(self, strip: &[u8], x: &[&[f32]], sums: &mut [Sums]) {
        #[target_feature(enable = "avx2,fma")]
        fn with_features(_: Avx2, strip: &[u8], x: &[&[f32]], sums: &mut [Sums]) {
            for (x, sums) in x.chunks(TOGETHER).zip(sums.chunks_mut(TOGETHER)) {
                for first in (0..STRIP / LANES).step_by(WIDE) {
                    match x.len() {
                        1 => bf16_part::<1>(strip, x, sums, first),
                        _ => bf16_part::<TOGETHER>(strip, x, sums, first),
                    }
                }
            }
        }
        // SAFETY: `self` exists, so `detect` found both features on this processor.
        unsafe { with_features(self, strip, x, sums) }
    }

    pub(super) fn codes(self, strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
        #[target_feature(enable = "avx2,fma")]
        fn with_features(_: Avx2, strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
            for (x, sums) in x.chunks(TOGETHER).zip(sums.chunks_mut(TOGETHER)) {
                for first in (0..STRIP / LANES).step_by(NARROW) {
                    match x.count {
                        1 => codes_part::<1>(strip, x, sums, first),
                        _ => codes_part::<TOGETHER>(strip, x, sums, first),
                    }
                }
            }
        }
        // SAFETY: `self` exists, so `detect` found both features on this processor.
        unsafe { with_features(self, strip, x, sums) }
    }
}

#[target_feature(enable = "avx2,fma")]
fn bf16_part<const R: usize>(strip: &[u8], x: &[&[f32]], sums: &mut [Sums], first: usize) {
    let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    let strip = strip.as_chunks::<PAIR_BYTES>().0;
    let x: [&[[f32; 2]]; R] = std::array::from_fn(|row| &x[row].as_chunks().0[..strip.len()]);
    let mut registers = [[_mm256_setzero_ps(); WIDE]; R];
    load(&mut registers, sums, first);
    for (pair, weights) in strip.iter().enumerate() {
        let weights = &weights.as_chunks::<32>().0[first..][..WIDE];
        for (registers, x) in registers.iter_mut().zip(x) {
            // SAFETY: the row was cut to as many pairs as the strip has.
            let [one, second] = unsafe { x.get_unchecked(pair) };
            let (one, second) = (_mm256_set1_ps(*one), _mm256_set1_ps(*second));
            for (sum, weights) in registers.iter_mut().zip(weights) {
                let weights = register(weights);
                let odd = _mm256_castsi256_ps(_mm256_and_si256(weights, upper));
                let even = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(weights));
                *sum = _mm256_fmadd_ps(second, odd, *sum);
                *sum = _mm256_fmadd_ps(one, even, *sum);
            }
        }
    }
    store(&registers, sums, first);
}

#[target_feature(enable = "avx2,fma")]
fn codes_part<const R: usize>(strip: &[u8], x: Rows<'_>, sums: &mut [Sums], first: usize) {
    // SAFETY: 16 readable bytes, and the load needs no alignment.
    let table = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(TABLE.as_ptr().cast()) });
    let (nibble, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    let strip = strip.as_chunks::<BLOCK_BYTES>().0;
    assert_eq!(x.count, R, "codes: rows");
    let mut registers = [[_mm256_setzero_ps(); NARROW]; R];
    load(&mut registers, sums, first);
    for (block, bytes) in strip.iter().enumerate() {
        let rows = block * x.step..block * x.step + R;
        let values = &x.values[rows.clone()];
        let (starts, factors) = (&x.starts[rows.clone()], &x.scales[rows]);
        let mut wholes = [[_mm256_setzero_si256(); NARROW]; R];
        for (wholes, start) in wholes.iter_mut().zip(starts) {
            *wholes = [_mm256_set1_epi32(*start); NARROW];
        }
        let (scales, codes) = bytes.split_at(STRIP);
        // Each 16 rows have four octets of 64 bytes, of which the first half is the first 8 rows'.
        let codes = codes.as_chunks::<32>().0;
        for half in 0..2 {
            // Sums of pairs over two octets fit into 16 bits: 4 · 2 · 24 · 127 is below 2^15.
            let mut pairs = [[_mm256_setzero_si256(); NARROW]; R];
            for octet in 2 * half..2 * half + 2 {
                for group in 0..NARROW {
                    let at = first + group;
                    let codes = register(&codes[at / 2 * 8 + 2 * octet + at % 2]);
                    let low = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, nibble));
                    let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble);
                    let high = _mm256_shuffle_epi8(table, high);
                    for (pairs, values) in pairs.iter_mut().zip(values) {
                        let one = _mm256_set1_epi32(values[2 * octet]);
                        let two = _mm256_set1_epi32(values[2 * octet + 1]);
                        let sum = _mm256_add_epi16(
                            _mm256_maddubs_epi16(low, one),
                            _mm256_maddubs_epi16(high, two),
                        );
                        pairs[group] = _mm256_add_epi16(pairs[group], sum);
                    }
                }
            }
            for (wholes, pairs) in wholes.iter_mut().zip(pairs) {
                for (whole, pairs) in wholes.iter_mut().zip(pairs) {
                    *whole = _mm256_add_epi32(*whole, _mm256_madd_epi16(pairs, ones));
                }
            }
        }
        let scales = &scales.as_chunks::<LANES>().0[first..][..NARROW];
        for (group, scales) in scales.iter().enumerate() {
            let scales = half_scales(scales);
            for ((registers, wholes), factor) in registers.iter_mut().zip(&wholes).zip(factors) {
                let scale = _mm256_mul_ps(scales, _mm256_set1_ps(*factor));
                let whole = _mm256_cvtepi32_ps(wholes[group]);
                registers[group] = _mm256_fmadd_ps(whole, scale, registers[group]);
            }
        }
    }
    store(&registers, sums, first);
}

/// Twice each code's value, moved.
const TABLE: [u8; 16] = {
    let mut table = [0; 16];
    let mut code = 0;
    while code < 16 {
        table[code] = (mxfp4::TWICE[code] as i32 + OFFSET) as u8;
        code += 1;
    }
    table
};

#[inline]
#[target_feature(enable = "avx2")]
fn register(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the bytes are readable, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// `2^(scale − 128)` of 8 scales, as [`mxfp4::half_scale`].
#[inline]
#[target_feature(enable = "avx2")]
fn half_scales(scales: &[u8; LANES]) -> __m256 {
    // SAFETY: the bytes are readable, and the load needs no alignment.
    let scales = _mm256_cvtepu8_epi32(unsafe { _mm_loadl_epi64(scales.as_ptr().cast()) });
    let normal = _mm256_slli_epi32::<23>(_mm256_sub_epi32(scales, _mm256_set1_epi32(1)));
    let subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(1 << 21), scales);
    let is_small = _mm256_cmpgt_epi32(_mm256_set1_epi32(2), scales);
    _mm256_castsi256_ps(_mm256_blendv_epi8(normal, subnormal, is_small))
}

#[inline]
#[target_feature(enable = "avx2")]
fn load<const R: usize, const G: usize>(
    registers: &mut [[__m256; G]; R],
    sums: &[Sums],
    first: usize,
) {
    for (registers, sums) in registers.iter_mut().zip(sums) {
        let sums = &sums.as_chunks::<LANES>().0[first..][..G];
        for (register, sums) in registers.iter_mut().zip(sums) {
            // SAFETY: 8 readable numbers, and the load needs no alignment.
            *register = unsafe { _mm256_loadu_ps(sums.as_ptr()) };
        }
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store<const R: usize, const G: usize>(
    registers: &[[__m256; G]; R],
    sums: &mut [Sums],
    first: usize,
) {
    for (registers, sums) in registers.iter().zip(sums) {
        let sums = &mut sums.as_chunks_mut::<LANES>().0[first..][..G];
        for (register, sums) in registers.iter().zip(sums) {
            // SAFETY: 8 writable numbers, and the store needs no alignment.
            unsafe { _mm256_storeu_ps(sums.as_mut_ptr(), *register) };
        }
    }
}
