//! The path of x86-64 processors with AVX-512 and its instructions for bytes and `bf16`.
#![expect(unsafe_code, reason = "instructions that not every x86-64 has")]

use std::arch::x86_64::{
    __cpuid, __m512, __m512bh, __m512i, _MM_HINT_T1, _mm_loadu_si128, _mm_prefetch,
    _mm512_and_si512, _mm512_castsi512_ps, _mm512_cmplt_epu32_mask, _mm512_cvtepi32_ps,
    _mm512_cvtepu8_epi32, _mm512_dpbf16_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mask_mov_epi32, _mm512_mul_ps, _mm512_permutexvar_epi8,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi32,
    _mm512_sllv_epi32, _mm512_srli_epi16, _mm512_storeu_ps, _mm512_sub_epi32,
};
use std::mem::transmute;

use half::bf16;
use kernels::mxfp4;

use super::super::layout::{BLOCK_BYTES, GROUP, PAIR_BYTES, STRIP};
use super::super::quantize::{OFFSET, Rows};
use super::{Sums, by_rows, numbers, scalar};

/// How many bytes ahead a strip is read into the second-level cache, and the next strip behind it, on processors
/// of Intel: left to itself, one thread of a Xeon reads three quarters as much in a second. Others were not tried.
/// Few lines are asked for at a time, between products: a processor waits for some ten at once, and beyond those
/// with all that it does.
const AHEAD: usize = 8192;

/// Rows of `bf16` whose sums with all outputs of a strip stay in registers.
const HALF_ROWS: usize = 6;

/// Registers of a strip's rows.
const GROUPS: usize = STRIP / GROUP;

/// Proof that this processor has the instructions, those for `bf16` too if `has_dots` is set: only
/// [`Avx512::all`] makes one.
#[derive(Clone, Copy)]
pub(crate) struct Avx512 {
    has_dots: bool,
    is_intel: bool,
}

impl Avx512 {
    /// Lists the ways of this processor, the fastest last: those of Intel multiply two `f32` in the time of a
    /// pair of `bf16`, or faster.
    pub(super) fn all() -> Vec<Self> {
        let found = is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512bw")
            && is_x86_feature_detected!("avx512vbmi")
            && is_x86_feature_detected!("avx512vnni");
        if !found {
            return Vec::new();
        }
        let is_intel = is_intel();
        let mut all = vec![Self {
            has_dots: false,
            is_intel,
        }];
        let dots = Self {
            has_dots: true,
            is_intel,
        };
        if is_x86_feature_detected!("avx512bf16") && dots.rounds_as_the_model() {
            all.push(dots);
        }
        if is_intel {
            all.reverse();
        }
        all
    }

    /// Whether products of `bf16` are made by the instruction for that.
    pub(super) fn has_dots(self) -> bool {
        self.has_dots
    }

    /// Compares a thousand sums of products with the model's; if one in ten were rounded otherwise, that
    /// would not be missed. Intel's manual leaves open what is rounded between the two products of a pair.
    fn rounds_as_the_model(self) -> bool {
        const PAIRS: usize = 16;
        let mut next = numbers();
        let strip: Vec<u8> = (0..PAIRS * PAIR_BYTES / 2)
            .flat_map(|_| next().to_le_bytes())
            .collect();
        let x: [bf16; 2 * PAIRS] = std::array::from_fn(|_| next());
        let (mut found, mut expected) = ([[0.0; STRIP]], [[0.0; STRIP]]);
        self.dots(&strip, &[&x], &mut found);
        scalar::bf16(&strip, &[&x.map(bf16::to_f32)], &mut expected);
        found == expected
    }

    pub(super) fn bf16(self, strip: &[u8], x: &[&[f32]], sums: &mut [Sums]) {
        #[target_feature(enable = "avx512f")]
        fn with_features(this: Avx512, strip: &[u8], x: &[&[f32]], sums: &mut [Sums]) {
            for (x, sums) in x.chunks(HALF_ROWS).zip(sums.chunks_mut(HALF_ROWS)) {
                by_rows!(x.len(), [1 2 3 4 5 6], bf16_tile(this, strip, x, sums));
            }
        }
        // SAFETY: `self` exists, so `all` found the features on this processor.
        unsafe { with_features(self, strip, x, sums) }
    }

    /// # Panics
    ///
    /// If it has no dots.
    pub(super) fn dots(self, strip: &[u8], x: &[&[bf16]], sums: &mut [Sums]) {
        #[target_feature(enable = "avx512f,avx512bf16")]
        fn with_features(_: Avx512, strip: &[u8], x: &[&[bf16]], sums: &mut [Sums]) {
            for (x, sums) in x.chunks(HALF_ROWS).zip(sums.chunks_mut(HALF_ROWS)) {
                by_rows!(x.len(), [1 2 3 4 5 6], dots_tile(strip, x, sums));
            }
        }
        assert!(self.has_dots, "dots: the processor has none");
        // SAFETY: `has_dots` is set, so `all` found the features on this processor.
        unsafe { with_features(self, strip, x, sums) }
    }

    pub(super) fn codes(self, strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
        #[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
        fn with_features(this: Avx512, strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
            by_rows!(x.count, [1 2 3 4 5 6 7 8], codes_tile(this, strip, x, sums));
        }
        // SAFETY: `self` exists, so `all` found the features on this processor.
        unsafe { with_features(self, strip, x, sums) }
    }
}

/// Whether the processor is one of Intel's.
fn is_intel() -> bool {
    let about = __cpuid(0);
    [about.ebx, about.edx, about.ecx].map(u32::to_le_bytes) == [*b"Genu", *b"ineI", *b"ntel"]
}

#[target_feature(enable = "avx512f")]
fn bf16_tile<const R: usize>(this: Avx512, strip: &[u8], x: &[&[f32]], sums: &mut [Sums]) {
    let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    let strip = strip.as_chunks::<PAIR_BYTES>().0;
    let x: [&[[f32; 2]]; R] = std::array::from_fn(|row| &x[row].as_chunks().0[..strip.len()]);
    let mut registers = [[_mm512_setzero_ps(); GROUPS]; R];
    load(&mut registers, sums, 0);
    for (pair, weights) in strip.iter().enumerate() {
        if this.is_intel {
            ahead(weights);
        }
        for (group, weights) in weights.as_chunks::<64>().0.iter().enumerate() {
            let weights = register(weights);
            let odd = _mm512_castsi512_ps(_mm512_and_si512(weights, upper));
            let even = _mm512_castsi512_ps(_mm512_slli_epi32::<16>(weights));
            for (registers, x) in registers.iter_mut().zip(x) {
                // SAFETY: the row was cut to as many pairs as the strip has.
                let [first, second] = unsafe { x.get_unchecked(pair) };
                let sum = _mm512_fmadd_ps(_mm512_set1_ps(*second), odd, registers[group]);
                registers[group] = _mm512_fmadd_ps(_mm512_set1_ps(*first), even, sum);
            }
        }
    }
    store(&registers, sums, 0);
}

#[target_feature(enable = "avx512f,avx512bf16")]
fn dots_tile<const R: usize>(strip: &[u8], x: &[&[bf16]], sums: &mut [Sums]) {
    let strip = strip.as_chunks::<PAIR_BYTES>().0;
    let x: [&[[bf16; 2]]; R] = std::array::from_fn(|row| &x[row].as_chunks().0[..strip.len()]);
    let mut registers = [[_mm512_setzero_ps(); GROUPS]; R];
    load(&mut registers, sums, 0);
    for (pair, weights) in strip.iter().enumerate() {
        let mut wide = [_mm512_setzero_si512(); GROUPS];
        for (wide, weights) in wide.iter_mut().zip(weights.as_chunks::<64>().0) {
            *wide = register(weights);
        }
        for (registers, x) in registers.iter_mut().zip(x) {
            // SAFETY: the row was cut to as many pairs as the strip has.
            let x = _mm512_set1_epi32(bits(unsafe { x.get_unchecked(pair) }));
            for (register, weights) in registers.iter_mut().zip(wide) {
                *register = _mm512_dpbf16_ps(*register, halves(weights), halves(x));
            }
        }
    }
    store(&registers, sums, 0);
}

/// Begins to read what comes [`AHEAD`] of some bytes.
#[inline]
fn ahead(bytes: &[u8]) {
    for line in bytes.chunks(64) {
        let line = line.as_ptr().wrapping_add(AHEAD);
        // SAFETY: a hint, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(line.cast()) };
    }
}

/// Two `bf16` as a processor reads them at once.
#[inline]
fn bits([first, second]: &[bf16; 2]) -> i32 {
    (u32::from(first.to_bits()) | u32::from(second.to_bits()) << 16) as i32
}

#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn codes_tile<const R: usize>(this: Avx512, strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
    // The whole numbers of all rows have to stay in registers, beside what they are multiplied with.
    if R <= 6 {
        codes_part::<R, GROUPS>(this, strip, x, sums, 0);
    } else {
        codes_part::<R, { GROUPS / 2 }>(this, strip, x, sums, 0);
        codes_part::<R, { GROUPS / 2 }>(this, strip, x, sums, GROUPS / 2);
    }
}

/// The products of `G` registers of a strip's rows, from the one numbered `first`.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi,avx512vnni")]
fn codes_part<const R: usize, const G: usize>(
    this: Avx512,
    strip: &[u8],
    x: Rows<'_>,
    sums: &mut [Sums],
    first: usize,
) {
    let table = register(&TABLE);
    let strip = strip.as_chunks::<BLOCK_BYTES>().0;
    assert_eq!(x.count, R, "codes: rows");
    let mut registers = [[_mm512_setzero_ps(); G]; R];
    load(&mut registers, sums, first);
    for (block, bytes) in strip.iter().enumerate() {
        if this.is_intel && first == 0 {
            ahead(&bytes[..STRIP]);
        }
        let rows = block * x.step..block * x.step + R;
        let values = &x.values[rows.clone()];
        let (starts, factors) = (&x.starts[rows.clone()], &x.scales[rows]);
        let mut wholes = [[_mm512_setzero_si512(); G]; R];
        for (wholes, start) in wholes.iter_mut().zip(starts) {
            *wholes = [_mm512_set1_epi32(*start); G];
        }
        let (scales, codes) = bytes.split_at(STRIP);
        let codes = &codes.as_chunks::<64>().0[4 * first..][..4 * G];
        for octet in 0..4 {
            let (mut low, mut high) = ([_mm512_setzero_si512(); G], [_mm512_setzero_si512(); G]);
            for group in 0..G {
                // An index is of six bits; the table says the same whatever the upper two are.
                let codes = &codes[4 * group + octet];
                if this.is_intel {
                    ahead(codes);
                }
                let codes = register(codes);
                low[group] = _mm512_permutexvar_epi8(codes, table);
                high[group] = _mm512_permutexvar_epi8(_mm512_srli_epi16::<4>(codes), table);
            }
            for (wholes, values) in wholes.iter_mut().zip(values) {
                // Read into all lanes from memory: from a register that would take the unit that multiplies.
                let first = _mm512_set1_epi32(values[2 * octet]);
                let second = _mm512_set1_epi32(values[2 * octet + 1]);
                for (group, whole) in wholes.iter_mut().enumerate() {
                    *whole = _mm512_dpbusd_epi32(*whole, low[group], first);
                    *whole = _mm512_dpbusd_epi32(*whole, high[group], second);
                }
            }
        }
        let scales = &scales.as_chunks::<GROUP>().0[first..][..G];
        for (group, scales) in scales.iter().enumerate() {
            let scales = half_scales(scales);
            for ((registers, wholes), factor) in registers.iter_mut().zip(&wholes).zip(factors) {
                let scale = _mm512_mul_ps(scales, _mm512_set1_ps(*factor));
                let whole = _mm512_cvtepi32_ps(wholes[group]);
                registers[group] = _mm512_fmadd_ps(whole, scale, registers[group]);
            }
        }
    }
    store(&registers, sums, first);
}

/// Twice each code's value, moved: four times over.
const TABLE: [u8; 64] = {
    let mut table = [0; 64];
    let mut code = 0;
    while code < 64 {
        table[code] = (mxfp4::TWICE[code % 16] as i32 + OFFSET) as u8;
        code += 1;
    }
    table
};

#[inline]
#[target_feature(enable = "avx512f")]
fn register(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: the bytes are readable, and the load needs no alignment.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn halves(bits: __m512i) -> __m512bh {
    // SAFETY: both are 64 bytes of any value.
    unsafe { transmute(bits) }
}

/// `2^(scale − 128)` of 16 scales, as [`mxfp4::half_scale`].
#[inline]
#[target_feature(enable = "avx512f")]
fn half_scales(scales: &[u8; GROUP]) -> __m512 {
    // SAFETY: the bytes are readable, and the load needs no alignment.
    let scales = _mm512_cvtepu8_epi32(unsafe { _mm_loadu_si128(scales.as_ptr().cast()) });
    let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(scales, _mm512_set1_epi32(1)));
    let subnormal = _mm512_sllv_epi32(_mm512_set1_epi32(1 << 21), scales);
    let is_small = _mm512_cmplt_epu32_mask(scales, _mm512_set1_epi32(2));
    _mm512_castsi512_ps(_mm512_mask_mov_epi32(normal, is_small, subnormal))
}

#[inline]
#[target_feature(enable = "avx512f")]
fn load<const R: usize, const G: usize>(
    registers: &mut [[__m512; G]; R],
    sums: &[Sums],
    first: usize,
) {
    for (registers, sums) in registers.iter_mut().zip(sums) {
        let sums = &sums.as_chunks::<GROUP>().0[first..][..G];
        for (register, sums) in registers.iter_mut().zip(sums) {
            // SAFETY: 16 readable numbers, and the load needs no alignment.
            *register = unsafe { _mm512_loadu_ps(sums.as_ptr()) };
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f")]
fn store<const R: usize, const G: usize>(
    registers: &[[__m512; G]; R],
    sums: &mut [Sums],
    first: usize,
) {
    for (registers, sums) in registers.iter().zip(sums) {
        let sums = &mut sums.as_chunks_mut::<GROUP>().0[first..][..G];
        for (register, sums) in registers.iter().zip(sums) {
            // SAFETY: 16 writable numbers, and the store needs no alignment.
            unsafe { _mm512_storeu_ps(sums.as_mut_ptr(), *register) };
        }
    }
}
