//! The path of x86-64 processors with AVX2 and FMA (2013 and later).
#![expect(unsafe_code, reason = "instructions that not every x86-64 has")]

use std::arch::x86_64::{
    __m256, __m256i, _MM_HINT_T0, _mm_loadl_epi64, _mm_loadu_si128, _mm_prefetch, _mm256_add_epi16,
    _mm256_add_epi32, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_castsi256_ps,
    _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_max_epi32, _mm256_min_epi32, _mm256_mul_ps,
    _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi32, _mm256_sllv_epi32,
    _mm256_srli_epi16, _mm256_storeu_ps, _mm256_sub_epi32,
};

use kernels::mxfp4;

use super::super::layout::{BLOCK_BYTES, PAIR_BYTES, STRIP};
use super::super::quantize::{OFFSET, Rows, Whole};
use super::{Sums, by_rows};

/// How many bytes ahead a strip is read, and the next strip behind it: left to itself, one thread of an EPYC
/// without AVX-512 reads codes 0.7 times as fast for one row, half for two. Processors of Intel were not tried.
const AHEAD: usize = 8192;

/// The same for `bf16` and one row: a seventh faster than with [`AHEAD`], on that EPYC.
const AHEAD_OF_ONE: usize = 2048;

/// Rows of a register.
const LANES: usize = 8;

/// Registers of a strip's rows.
const GROUPS: usize = STRIP / LANES;

/// Pairs of inputs that all rows pass before the next: 8 KiB, which stay in the nearest cache.
const NEAR: usize = 32;

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
            for (at, pairs) in strip.as_chunks().0.chunks(NEAR).enumerate() {
                let begin = at * NEAR;
                if x.len() == 1 {
                    bf16_part::<1, 8, AHEAD_OF_ONE>(pairs, begin, x, sums);
                    continue;
                }
                let (mut x, mut sums) = (x, &mut *sums);
                while !x.is_empty() {
                    // As many as leave room for sums of two registers each. Three have six sums in all: too few to
                    // keep the processor busy while each waits for its last addition.
                    let count = match x.len() {
                        4 | 8 => 4,
                        5.. => 5,
                        3 => 2,
                        few => few,
                    };
                    match count {
                        1 => bf16_part::<1, 8, AHEAD>(pairs, begin, x, sums),
                        2 => bf16_part::<2, 4, AHEAD>(pairs, begin, x, sums),
                        4 => bf16_part::<4, 2, AHEAD>(pairs, begin, x, sums),
                        5 => bf16_part::<5, 2, AHEAD>(pairs, begin, x, sums),
                        _ => unreachable!("chosen above"),
                    }
                    (x, sums) = (&x[count..], &mut sums[count..]);
                }
            }
        }
        // SAFETY: `self` exists, so `detect` found both features on this processor.
        unsafe { with_features(self, strip, x, sums) }
    }

    pub(super) fn codes(self, strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
        #[target_feature(enable = "avx2,fma")]
        fn with_features(_: Avx2, strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
            by_rows!(x.count, [1 2 3 4 5 6 7 8], codes_tile(strip, x, sums));
        }
        // SAFETY: `self` exists, so `detect` found both features on this processor.
        unsafe { with_features(self, strip, x, sums) }
    }
}

/// Passes some pairs, from the one numbered `begin`, once for every `W` registers of a strip's rows.
#[target_feature(enable = "avx2,fma")]
fn bf16_part<const R: usize, const W: usize, const DISTANCE: usize>(
    pairs: &[[u8; PAIR_BYTES]],
    begin: usize,
    x: &[&[f32]],
    sums: &mut [Sums],
) {
    let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    let x: [&[[f32; 2]]; R] =
        std::array::from_fn(|row| &x[row].as_chunks().0[begin..][..pairs.len()]);
    for first in (0..GROUPS).step_by(W) {
        let mut registers = [[_mm256_setzero_ps(); W]; R];
        load(&mut registers, sums, first);
        // What comes is asked for in its order, a part of it in each pass: a processor then reads ahead by itself too.
        let part = 32 * first * pairs.len();
        let coming = pairs.as_ptr().cast::<u8>().wrapping_add(DISTANCE + part);
        for (pair, weights) in pairs.iter().enumerate() {
            let weights: &[_; W] = weights.as_chunks::<32>().0[first..]
                .first_chunk()
                .expect("W registers");
            ahead(coming.wrapping_add(32 * W * pair), 32 * W);
            let mut halves = [[_mm256_setzero_ps(); 2]; W];
            for (halves, weights) in halves.iter_mut().zip(weights) {
                let weights = register(weights);
                halves[0] = _mm256_castsi256_ps(_mm256_slli_epi32::<16>(weights));
                halves[1] = _mm256_castsi256_ps(_mm256_and_si256(weights, upper));
            }
            for (sums, x) in registers.iter_mut().zip(x) {
                // SAFETY: the row was cut to as many pairs as there are.
                let [one, second] = unsafe { x.get_unchecked(pair) };
                let (one, second) = (_mm256_set1_ps(*one), _mm256_set1_ps(*second));
                for (sum, [even, odd]) in sums.iter_mut().zip(halves) {
                    *sum = _mm256_fmadd_ps(second, odd, *sum);
                    *sum = _mm256_fmadd_ps(one, even, *sum);
                }
            }
        }
        store(&registers, sums, first);
    }
}

/// One pass over the strip: the whole numbers of a register's rows stay in registers, the sums of all in memory.
#[target_feature(enable = "avx2,fma")]
fn codes_tile<const R: usize>(strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
    let mut registers = [[_mm256_setzero_ps(); GROUPS]; R];
    load(&mut registers, sums, 0);
    for (block, bytes) in strip.as_chunks::<BLOCK_BYTES>().0.iter().enumerate() {
        let rows = block * x.step..block * x.step + R;
        let values: &[Whole; R] = x.values[rows.clone()].as_array().expect("R rows");
        let starts: &[i32; R] = x.starts[rows.clone()].as_array().expect("R rows");
        let factors = &x.scales[rows];
        let (scales, codes) = bytes.split_at(STRIP);
        ahead(scales.as_ptr().wrapping_add(AHEAD), STRIP);
        // Each 16 rows have four octets of 64 bytes, of which the first half is the first 8 rows'.
        let codes = codes.as_chunks::<32>().0;
        for (group, scales) in scales.as_chunks::<LANES>().0.iter().enumerate() {
            ahead(
                codes[4 * group..].as_ptr().cast::<u8>().wrapping_add(AHEAD),
                4 * 32,
            );
            let wholes = wholes(&codes[group / 2 * 8 + group % 2..][..7], values, starts);
            let scales = half_scales(scales);
            for ((registers, whole), factor) in registers.iter_mut().zip(wholes).zip(factors) {
                let scale = _mm256_mul_ps(scales, _mm256_set1_ps(*factor));
                let whole = _mm256_cvtepi32_ps(whole);
                registers[group] = _mm256_fmadd_ps(whole, scale, registers[group]);
            }
        }
    }
    store(&registers, sums, 0);
}

/// Sums of a block's products with 8 rows of a strip, whose octets lie two apart.
#[inline]
#[target_feature(enable = "avx2")]
fn wholes<const R: usize>(
    octets: &[[u8; 32]],
    values: &[Whole; R],
    starts: &[i32; R],
) -> [__m256i; R] {
    let (nibble, ones) = (_mm256_set1_epi8(15), _mm256_set1_epi16(1));
    // SAFETY: 16 readable bytes, and the load needs no alignment.
    let table = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(TABLE.as_ptr().cast()) });
    let mut wholes = starts.map(|start| _mm256_set1_epi32(start));
    for half in 0..2 {
        // Sums of pairs over two octets fit into 16 bits: 4 · 2 · 24 · 127 is below 2^15.
        let mut pairs = [_mm256_setzero_si256(); R];
        for octet in 2 * half..2 * half + 2 {
            let codes = register(&octets[2 * octet]);
            let low = _mm256_shuffle_epi8(table, _mm256_and_si256(codes, nibble));
            let high = _mm256_and_si256(_mm256_srli_epi16::<4>(codes), nibble);
            let high = _mm256_shuffle_epi8(table, high);
            for (pairs, values) in pairs.iter_mut().zip(values) {
                let one = _mm256_set1_epi32(values[2 * octet]);
                let two = _mm256_set1_epi32(values[2 * octet + 1]);
                *pairs = _mm256_add_epi16(*pairs, _mm256_maddubs_epi16(low, one));
                *pairs = _mm256_add_epi16(*pairs, _mm256_maddubs_epi16(high, two));
            }
        }
        for (whole, pairs) in wholes.iter_mut().zip(pairs) {
            *whole = _mm256_add_epi32(*whole, _mm256_madd_epi16(pairs, ones));
        }
    }
    wholes
}

/// Begins to read some lines, wherever they are.
#[inline]
fn ahead(from: *const u8, bytes: usize) {
    for line in 0..bytes / 64 {
        // SAFETY: a hint, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(64 * line).cast()) };
    }
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
    // At 0 and 1 the one above is not positive, at 2 both are equal, and so from there on this is no larger.
    let shift = _mm256_min_epi32(scales, _mm256_set1_epi32(2));
    let subnormal = _mm256_sllv_epi32(_mm256_set1_epi32(1 << 21), shift);
    _mm256_castsi256_ps(_mm256_max_epi32(normal, subnormal))
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
