//! The path of 64-bit ARM processors.
#![expect(unsafe_code, reason = "instructions of one architecture")]

use std::arch::aarch64::{
    float32x4_t, int8x16_t, int32x4_t, uint32x4_t, vandq_u8, vandq_u32, vbslq_u32, vcltq_u32,
    vcvtq_f32_s32, vdupq_n_f32, vdupq_n_s32, vdupq_n_u8, vdupq_n_u32, vfmaq_f32, vget_high_u8,
    vget_high_u16, vget_low_s8, vget_low_u8, vget_low_u16, vld1q_f32, vld1q_s8, vld1q_u8,
    vmlal_high_s8, vmlal_s8, vmovl_u8, vmovl_u16, vmull_high_s8, vmull_s8, vmulq_f32, vpadalq_s16,
    vpaddq_s16, vqtbl1q_s8, vreinterpretq_f32_u32, vreinterpretq_s8_s32, vreinterpretq_s32_u32,
    vreinterpretq_u32_u8, vshlq_n_u32, vshlq_u32, vshrq_n_u8, vst1q_f32, vsubq_u32,
};
use std::arch::is_aarch64_feature_detected;

use kernels::mxfp4;

use super::super::layout::{BLOCK_BYTES, GROUP, PAIR_BYTES, STRIP};
use super::super::quantize::{Rows, Whole};
use super::{Sums, by_rows};
use crate::simd::sdot::sdot;

/// Outputs of a register.
const LANES: usize = 4;

/// Registers of a strip's outputs.
const REGISTERS: usize = STRIP / LANES;

/// Registers of a group of outputs.
const GROUP_REGISTERS: usize = GROUP / LANES;

/// Rows of `bf16` whose sums with four registers of outputs stay in registers.
const HALF_ROWS: usize = 6;

/// Pairs of a `bf16` strip that are passed several times before the next are: 8 KiB, which the first cache
/// holds.
const PIECE: usize = 32;

/// Rows of a block's codes whose whole numbers stay in registers.
const TOGETHER: usize = 4;

/// Proof that this processor has NEON, and the instruction that sums products of bytes by fours if
/// `has_sdot` is set: only [`Neon::all`] makes one.
#[derive(Clone, Copy)]
pub(crate) struct Neon {
    has_sdot: bool,
}

impl Neon {
    /// Lists the ways of this processor, the fastest last.
    pub(super) fn all() -> Vec<Self> {
        let has_neon = is_aarch64_feature_detected!("neon");
        let has_sdot = has_neon && is_aarch64_feature_detected!("dotprod");
        let ways = [(has_neon, false), (has_sdot, true)];
        let ways = ways.into_iter().filter(|(is_there, _)| *is_there);
        ways.map(|(_, has_sdot)| Self { has_sdot }).collect()
    }

    pub(super) fn bf16(self, strip: &[u8], x: &[&[f32]], sums: &mut [Sums]) {
        #[target_feature(enable = "neon")]
        fn with_features(_: Neon, strip: &[u8], x: &[&[f32]], sums: &mut [Sums]) {
            for (piece, strip) in strip.chunks(PIECE * PAIR_BYTES).enumerate() {
                let begin = piece * PIECE;
                for (x, sums) in x.chunks(HALF_ROWS).zip(sums.chunks_mut(HALF_ROWS)) {
                    // As many outputs as leave room in the registers.
                    match x.len() {
                        1 => bf16_piece::<1, 16>(strip, begin, x, sums),
                        2 => bf16_piece::<2, 8>(strip, begin, x, sums),
                        3 => bf16_piece::<3, 4>(strip, begin, x, sums),
                        4 => bf16_piece::<4, 4>(strip, begin, x, sums),
                        5 => bf16_piece::<5, 4>(strip, begin, x, sums),
                        _ => bf16_piece::<HALF_ROWS, 4>(strip, begin, x, sums),
                    }
                }
            }
        }
        // SAFETY: `self` exists, so `all` found the feature on this processor.
        unsafe { with_features(self, strip, x, sums) }
    }

    pub(super) fn codes(self, strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
        #[target_feature(enable = "neon,dotprod")]
        fn with_sdot(strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
            codes(Sdot(()), strip, x, sums);
        }
        #[target_feature(enable = "neon")]
        fn without(strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
            codes(Plain(()), strip, x, sums);
        }
        match self.has_sdot {
            // SAFETY: `self` exists and says so, so `all` found both features on this processor.
            true => unsafe { with_sdot(strip, x, sums) },
            // SAFETY: `self` exists, so `all` found the feature on this processor.
            false => unsafe { without(strip, x, sums) },
        }
    }
}

/// Passes some pairs, from the one numbered `begin`, once for every `G` registers of outputs.
#[inline]
#[target_feature(enable = "neon")]
fn bf16_piece<const R: usize, const G: usize>(
    strip: &[u8],
    begin: usize,
    x: &[&[f32]],
    sums: &mut [Sums],
) {
    let upper = vdupq_n_u32(0xffff_0000);
    let strip = strip.as_chunks::<PAIR_BYTES>().0;
    let x: [&[[f32; 2]]; R] =
        std::array::from_fn(|row| &x[row].as_chunks().0[begin..][..strip.len()]);
    for first in (0..REGISTERS).step_by(G) {
        let mut registers = load::<R, G>(sums, first);
        for (pair, weights) in strip.iter().enumerate() {
            let weights = &weights.as_chunks::<16>().0[first..][..G];
            for (at, weights) in weights.iter().enumerate() {
                // SAFETY: the bytes are readable, and the load needs no alignment.
                let weights = vreinterpretq_u32_u8(unsafe { vld1q_u8(weights.as_ptr()) });
                let odd = vreinterpretq_f32_u32(vandq_u32(weights, upper));
                let even = vreinterpretq_f32_u32(vshlq_n_u32::<16>(weights));
                for (registers, x) in registers.iter_mut().zip(x) {
                    // SAFETY: the row was cut to as many pairs as the strip has.
                    let [one, second] = unsafe { x.get_unchecked(pair) };
                    let sum = vfmaq_f32(registers[at], vdupq_n_f32(*second), odd);
                    registers[at] = vfmaq_f32(sum, vdupq_n_f32(*one), even);
                }
            }
        }
        store(&registers, sums, first);
    }
}

/// How products of bytes are added, four to a sum. A value proves that the processor can.
trait Products: Copy {
    /// Adds the products of both pairs.
    fn add(self, sums: int32x4_t, a: [int8x16_t; 2], b: [int8x16_t; 2]) -> int32x4_t;
}

/// By the instruction made for it, an option of ARMv8.2 and a part of ARMv8.4.
#[derive(Clone, Copy)]
struct Sdot(());

impl Products for Sdot {
    #[inline(always)]
    fn add(self, sums: int32x4_t, a: [int8x16_t; 2], b: [int8x16_t; 2]) -> int32x4_t {
        #[inline]
        #[target_feature(enable = "neon,dotprod")]
        fn add(sums: int32x4_t, a: [int8x16_t; 2], b: [int8x16_t; 2]) -> int32x4_t {
            sdot(sdot(sums, a[0], b[0]), a[1], b[1])
        }
        // SAFETY: the value exists, so the processor has both features.
        unsafe { add(sums, a, b) }
    }
}

/// On any.
#[derive(Clone, Copy)]
struct Plain(());

impl Products for Plain {
    #[inline(always)]
    fn add(self, sums: int32x4_t, a: [int8x16_t; 2], b: [int8x16_t; 2]) -> int32x4_t {
        #[inline]
        #[target_feature(enable = "neon")]
        fn add(sums: int32x4_t, a: [int8x16_t; 2], b: [int8x16_t; 2]) -> int32x4_t {
            // Sums of four products fit into 16 bits: 4 · 12 · 127 is below 2^15.
            let low = vmull_s8(vget_low_s8(a[0]), vget_low_s8(b[0]));
            let low = vmlal_s8(low, vget_low_s8(a[1]), vget_low_s8(b[1]));
            let high = vmlal_high_s8(vmull_high_s8(a[0], b[0]), a[1], b[1]);
            vpadalq_s16(sums, vpaddq_s16(low, high))
        }
        // SAFETY: the value exists, so the processor has NEON.
        unsafe { add(sums, a, b) }
    }
}

/// Has to be inlined where the features of `products` are.
#[inline(always)]
fn codes(products: impl Products, strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
    for (block, bytes) in strip.as_chunks::<BLOCK_BYTES>().0.iter().enumerate() {
        for (first, sums) in sums.chunks_mut(TOGETHER).enumerate() {
            let rows = block * x.step + first * TOGETHER..;
            let (values, scales) = (&x.values[rows.clone()], &x.scales[rows]);
            by_rows!(
                sums.len(),
                [1 2 3 4],
                codes_block(products, bytes, values, scales, sums)
            );
        }
    }
}

/// Some rows' products with one block of all outputs.
#[inline(always)]
fn codes_block<const R: usize>(
    products: impl Products,
    bytes: &[u8; BLOCK_BYTES],
    values: &[Whole],
    factors: &[f32],
    sums: &mut [Sums],
) {
    let (values, factors) = (&values[..R], &factors[..R]);
    // SAFETY: who has `products` has NEON.
    let table = unsafe { table() };
    let (scales, codes) = bytes.split_at(STRIP);
    let groups = codes.as_chunks::<256>().0.iter();
    for (group, (codes, scales)) in groups.zip(scales.as_chunks().0).enumerate() {
        // Signed values need no start.
        // SAFETY: as above.
        let mut wholes = [[unsafe { vdupq_n_s32(0) }; GROUP_REGISTERS]; R];
        for (octet, codes) in codes.as_chunks::<64>().0.iter().enumerate() {
            for (at, codes) in codes.as_chunks::<16>().0.iter().enumerate() {
                // SAFETY: as above.
                let weights = unsafe { twice(table, codes) };
                for (wholes, values) in wholes.iter_mut().zip(values) {
                    let halves = [values[2 * octet], values[2 * octet + 1]];
                    // SAFETY: as above.
                    let halves = halves.map(|half| unsafe { broadcast(half) });
                    wholes[at] = products.add(wholes[at], weights, halves);
                }
            }
        }
        // SAFETY: as above.
        unsafe { scale(sums, GROUP_REGISTERS * group, &wholes, scales, factors) };
    }
}

/// Twice each code's value.
#[inline]
#[target_feature(enable = "neon")]
fn table() -> int8x16_t {
    static TABLE: [i8; 16] = {
        let mut table = [0; 16];
        let mut code = 0;
        while code < 16 {
            table[code] = mxfp4::TWICE[code] as i8;
            code += 1;
        }
        table
    };
    // SAFETY: the table is 16 readable bytes, and the load needs no alignment.
    unsafe { vld1q_s8(TABLE.as_ptr()) }
}

/// Twice the values of the codes in the low halves of 16 bytes, and of those in the high ones.
#[inline]
#[target_feature(enable = "neon")]
fn twice(table: int8x16_t, codes: &[u8; 16]) -> [int8x16_t; 2] {
    // SAFETY: the bytes are readable, and the load needs no alignment.
    let codes = unsafe { vld1q_u8(codes.as_ptr()) };
    [vandq_u8(codes, vdupq_n_u8(15)), vshrq_n_u8::<4>(codes)].map(|codes| vqtbl1q_s8(table, codes))
}

/// The same four bytes in all lanes.
#[inline]
#[target_feature(enable = "neon")]
fn broadcast(bytes: i32) -> int8x16_t {
    vreinterpretq_s8_s32(vdupq_n_s32(bytes))
}

/// Adds whole numbers of a group of outputs, times the scales of weights and activations, to sums.
#[inline]
#[target_feature(enable = "neon")]
fn scale<const R: usize>(
    sums: &mut [Sums],
    first: usize,
    wholes: &[[int32x4_t; GROUP_REGISTERS]; R],
    scales: &[u8; GROUP],
    factors: &[f32],
) {
    let mut registers = load::<R, GROUP_REGISTERS>(sums, first);
    for (at, scales) in half_scales(scales).into_iter().enumerate() {
        for ((registers, wholes), factor) in registers.iter_mut().zip(wholes).zip(factors) {
            let scale = vmulq_f32(scales, vdupq_n_f32(*factor));
            registers[at] = vfmaq_f32(registers[at], vcvtq_f32_s32(wholes[at]), scale);
        }
    }
    store(&registers, sums, first);
}

/// `2^(scale − 128)` of 16 scales, as [`mxfp4::half_scale`].
#[inline]
#[target_feature(enable = "neon")]
fn half_scales(scales: &[u8; GROUP]) -> [float32x4_t; GROUP_REGISTERS] {
    // SAFETY: the bytes are readable, and the load needs no alignment.
    let scales = unsafe { vld1q_u8(scales.as_ptr()) };
    let low = vmovl_u8(vget_low_u8(scales));
    let high = vmovl_u8(vget_high_u8(scales));
    let fours = [
        vget_low_u16(low),
        vget_high_u16(low),
        vget_low_u16(high),
        vget_high_u16(high),
    ];
    fours.map(|scales| half_scales_of(vmovl_u16(scales)))
}

#[inline]
#[target_feature(enable = "neon")]
fn half_scales_of(scales: uint32x4_t) -> float32x4_t {
    let normal = vshlq_n_u32::<23>(vsubq_u32(scales, vdupq_n_u32(1)));
    let subnormal = vshlq_u32(vdupq_n_u32(1 << 21), vreinterpretq_s32_u32(scales));
    let is_small = vcltq_u32(scales, vdupq_n_u32(2));
    vreinterpretq_f32_u32(vbslq_u32(is_small, subnormal, normal))
}

#[inline]
#[target_feature(enable = "neon")]
fn load<const R: usize, const G: usize>(sums: &[Sums], first: usize) -> [[float32x4_t; G]; R] {
    std::array::from_fn(|row| {
        let sums = &sums[row].as_chunks::<LANES>().0[first..][..G];
        // SAFETY: each time 4 readable numbers, and the load needs no alignment.
        std::array::from_fn(|at| unsafe { vld1q_f32(sums[at].as_ptr()) })
    })
}

#[inline]
#[target_feature(enable = "neon")]
fn store<const R: usize, const G: usize>(
    registers: &[[float32x4_t; G]; R],
    sums: &mut [Sums],
    first: usize,
) {
    for (registers, sums) in registers.iter().zip(sums) {
        let sums = &mut sums.as_chunks_mut::<LANES>().0[first..][..G];
        for (register, sums) in registers.iter().zip(sums) {
            // SAFETY: 4 writable numbers, and the store needs no alignment.
            unsafe { vst1q_f32(sums.as_mut_ptr(), *register) };
        }
    }
}
