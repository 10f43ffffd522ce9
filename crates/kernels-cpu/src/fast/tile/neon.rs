//! The path of 64-bit ARM processors.
#![expect(unsafe_code, reason = "instructions of one architecture")]

use std::arch::aarch64::{
    float32x4_t, int8x16_t, int32x4_t, uint32x4_t, vandq_u8, vandq_u32, vbslq_u32, vcltq_u32,
    vcvtq_f32_s32, vdupq_n_f32, vdupq_n_s32, vdupq_n_u8, vdupq_n_u32, vfmaq_f32, vget_high_u8,
    vget_high_u16, vget_low_s8, vget_low_u8, vget_low_u16, vld1q_f32, vld1q_s8, vld1q_u8, vmovl_u8,
    vmovl_u16, vmull_high_s8, vmull_s8, vmulq_f32, vpadalq_s16, vpaddq_s16, vqtbl1q_s8,
    vreinterpretq_f32_u32, vreinterpretq_s8_s32, vreinterpretq_s32_u32, vreinterpretq_u32_u8,
    vshlq_n_u32, vshlq_u32, vshrq_n_u8, vst1q_f32, vsubq_u32,
};
use std::arch::{asm, is_aarch64_feature_detected};

use kernels::mxfp4;

use super::super::layout::{BLOCK_BYTES, GROUP, PAIR_BYTES, STRIP};
use super::super::quantize::Rows;
use super::{Sums, by_rows};

/// Rows of a register.
const LANES: usize = 4;

/// Registers of a group.
const REGISTERS: usize = GROUP / LANES;

/// Rows of a call that share a pass over the strip: with more their sums would not stay in registers.
const TOGETHER: usize = 4;

/// Proof that this processor has NEON, and the instruction that sums products of bytes by fours if
/// `sums_fours` is set: only [`Neon::all`] makes one.
#[derive(Clone, Copy)]
pub(crate) struct Neon {
    sums_fours: bool,
}

impl Neon {
    /// Lists the ways of this processor, the fastest last.
    pub(super) fn all() -> Vec<Self> {
        let has = [
            is_aarch64_feature_detected!("neon"),
            is_aarch64_feature_detected!("dotprod"),
        ];
        let ways = [false, true].into_iter().zip(has).filter(|(_, has)| *has);
        ways.map(|(sums_fours, _)| Self { sums_fours }).collect()
    }

    pub(super) fn bf16(self, strip: &[u8], x: &[&[f32]], sums: &mut [Sums]) {
        #[target_feature(enable = "neon")]
        fn with_features(_: Neon, strip: &[u8], x: &[&[f32]], sums: &mut [Sums]) {
            for (x, sums) in x.chunks(TOGETHER).zip(sums.chunks_mut(TOGETHER)) {
                for group in 0..STRIP / GROUP {
                    by_rows!(x.len(), [1 2 3 4], bf16_part(strip, x, sums, group));
                }
            }
        }
        // SAFETY: `self` exists, so `all` found the feature on this processor.
        unsafe { with_features(self, strip, x, sums) }
    }

    pub(super) fn codes(self, strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
        #[target_feature(enable = "neon,dotprod")]
        fn by_fours(strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
            codes(Fours(()), strip, x, sums);
        }
        #[target_feature(enable = "neon")]
        fn by_steps(strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
            codes(Steps(()), strip, x, sums);
        }
        match self.sums_fours {
            // SAFETY: `self` exists and says so, so `all` found both features on this processor.
            true => unsafe { by_fours(strip, x, sums) },
            // SAFETY: `self` exists, so `all` found the feature on this processor.
            false => unsafe { by_steps(strip, x, sums) },
        }
    }
}

#[inline]
#[target_feature(enable = "neon")]
fn bf16_part<const R: usize>(strip: &[u8], x: &[&[f32]], sums: &mut [Sums], group: usize) {
    let upper = vdupq_n_u32(0xffff_0000);
    let strip = strip.as_chunks::<PAIR_BYTES>().0;
    let x: [&[[f32; 2]]; R] = std::array::from_fn(|row| &x[row].as_chunks().0[..strip.len()]);
    let mut registers = load::<R>(sums, group);
    for (pair, weights) in strip.iter().enumerate() {
        let weights = &weights.as_chunks::<16>().0[REGISTERS * group..][..REGISTERS];
        for (at, weights) in weights.iter().enumerate() {
            // SAFETY: the bytes are readable, and the load needs no alignment.
            let weights = vreinterpretq_u32_u8(unsafe { vld1q_u8(weights.as_ptr()) });
            let odd = vreinterpretq_f32_u32(vandq_u32(weights, upper));
            let even = vreinterpretq_f32_u32(vshlq_n_u32::<16>(weights));
            for (registers, x) in registers.iter_mut().zip(x) {
                // SAFETY: the row was cut to as many pairs as the strip has.
                let [first, second] = unsafe { x.get_unchecked(pair) };
                let sum = vfmaq_f32(registers[at], vdupq_n_f32(*second), odd);
                registers[at] = vfmaq_f32(sum, vdupq_n_f32(*first), even);
            }
        }
    }
    store(&registers, sums, group);
}

/// Adds the products of bytes to sums, four to a sum. A value proves that the processor can.
trait Products: Copy {
    fn add(self, sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t;
}

/// By the instruction made for it (2018 and later).
#[derive(Clone, Copy)]
struct Fours(());

impl Products for Fours {
    #[inline(always)]
    fn add(self, mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        // SAFETY: the value exists, so the processor has the instruction, which touches nothing but `sums`.
        unsafe {
            asm!(
                "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
                sums = inout(vreg) sums, a = in(vreg) a, b = in(vreg) b,
                options(pure, nomem, nostack, preserves_flags),
            );
        }
        sums
    }
}

/// Step by step, on any.
#[derive(Clone, Copy)]
struct Steps(());

impl Products for Steps {
    #[inline(always)]
    fn add(self, sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
        #[inline]
        #[target_feature(enable = "neon")]
        fn add(sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
            // A sum of two products fits into 16 bits: 2 · 12 · 127 is below 2^15.
            let low = vmull_s8(vget_low_s8(a), vget_low_s8(b));
            vpadalq_s16(sums, vpaddq_s16(low, vmull_high_s8(a, b)))
        }
        // SAFETY: the value exists, so the processor has NEON.
        unsafe { add(sums, a, b) }
    }
}

/// Has to be inlined where the features of `products` are.
#[inline(always)]
fn codes(products: impl Products, strip: &[u8], x: Rows<'_>, sums: &mut [Sums]) {
    for (x, sums) in x.chunks(TOGETHER).zip(sums.chunks_mut(TOGETHER)) {
        for group in 0..STRIP / GROUP {
            by_rows!(
                x.count,
                [1 2 3 4],
                codes_part(products, strip, x, sums, group)
            );
        }
    }
}

#[inline(always)]
fn codes_part<const R: usize>(
    products: impl Products,
    strip: &[u8],
    x: Rows<'_>,
    sums: &mut [Sums],
    group: usize,
) {
    let strip = strip.as_chunks::<BLOCK_BYTES>().0;
    assert_eq!(x.count, R, "codes: rows");
    // SAFETY: who has `products` has NEON.
    let mut registers = unsafe { load::<R>(sums, group) };
    for (block, bytes) in strip.iter().enumerate() {
        let rows = block * x.step..block * x.step + R;
        let values = &x.values[rows.clone()];
        let (scales, codes) = bytes.split_at(STRIP);
        let codes = &codes.as_chunks::<64>().0[4 * group..][..4];
        // Signed values need no start.
        // SAFETY: as above.
        let mut wholes = [[unsafe { vdupq_n_s32(0) }; REGISTERS]; R];
        for (octet, codes) in codes.iter().enumerate() {
            for (at, codes) in codes.as_chunks::<16>().0.iter().enumerate() {
                // SAFETY: as above.
                let [low, high] = unsafe { twice(codes) };
                for (wholes, values) in wholes.iter_mut().zip(values) {
                    // SAFETY: as above.
                    let (one, two) =
                        unsafe { (four(values[2 * octet]), four(values[2 * octet + 1])) };
                    wholes[at] = products.add(products.add(wholes[at], low, one), high, two);
                }
            }
        }
        let scales = &scales.as_chunks::<GROUP>().0[group];
        // SAFETY: as above.
        unsafe { scale(&mut registers, &wholes, scales, &x.scales[rows]) };
    }
    // SAFETY: as above.
    unsafe { store(&registers, sums, group) };
}

/// Twice the values of the codes in the low halves of 16 bytes, and of those in the high ones.
#[inline]
#[target_feature(enable = "neon")]
fn twice(codes: &[u8; 16]) -> [int8x16_t; 2] {
    // SAFETY: the table is 16 readable bytes, and the load needs no alignment.
    let table = unsafe { vld1q_s8(TABLE.as_ptr()) };
    // SAFETY: the bytes are readable, and the load needs no alignment.
    let codes = unsafe { vld1q_u8(codes.as_ptr()) };
    [vandq_u8(codes, vdupq_n_u8(15)), vshrq_n_u8::<4>(codes)].map(|codes| vqtbl1q_s8(table, codes))
}

/// Four bytes, four times.
#[inline]
#[target_feature(enable = "neon")]
fn four(values: i32) -> int8x16_t {
    vreinterpretq_s8_s32(vdupq_n_s32(values))
}

/// Adds whole numbers, times the scales of weights and activations.
#[inline]
#[target_feature(enable = "neon")]
fn scale<const R: usize>(
    registers: &mut [[float32x4_t; REGISTERS]; R],
    wholes: &[[int32x4_t; REGISTERS]; R],
    scales: &[u8; GROUP],
    factors: &[f32],
) {
    for (at, scales) in half_scales(scales).into_iter().enumerate() {
        for ((registers, wholes), factor) in registers.iter_mut().zip(wholes).zip(factors) {
            let scale = vmulq_f32(scales, vdupq_n_f32(*factor));
            registers[at] = vfmaq_f32(registers[at], vcvtq_f32_s32(wholes[at]), scale);
        }
    }
}

/// Twice each code's value.
const TABLE: [i8; 16] = {
    let mut table = [0; 16];
    let mut code = 0;
    while code < 16 {
        table[code] = mxfp4::TWICE[code] as i8;
        code += 1;
    }
    table
};

/// `2^(scale − 128)` of 16 scales, as [`mxfp4::half_scale`].
#[inline]
#[target_feature(enable = "neon")]
fn half_scales(scales: &[u8; GROUP]) -> [float32x4_t; REGISTERS] {
    // SAFETY: the bytes are readable, and the load needs no alignment.
    let scales = unsafe { vld1q_u8(scales.as_ptr()) };
    let (low, high) = (
        vmovl_u8(vget_low_u8(scales)),
        vmovl_u8(vget_high_u8(scales)),
    );
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
fn load<const R: usize>(sums: &[Sums], group: usize) -> [[float32x4_t; REGISTERS]; R] {
    std::array::from_fn(|row| {
        let sums = &sums[row].as_chunks::<GROUP>().0[group];
        // SAFETY: each time 4 readable numbers, and the load needs no alignment.
        std::array::from_fn(|at| unsafe { vld1q_f32(sums.as_chunks::<LANES>().0[at].as_ptr()) })
    })
}

#[inline]
#[target_feature(enable = "neon")]
fn store<const R: usize>(
    registers: &[[float32x4_t; REGISTERS]; R],
    sums: &mut [Sums],
    group: usize,
) {
    for (registers, sums) in registers.iter().zip(sums) {
        let sums = sums.as_chunks_mut::<GROUP>().0[group]
            .as_chunks_mut::<LANES>()
            .0;
        for (register, sums) in registers.iter().zip(sums) {
            // SAFETY: 4 writable numbers, and the store needs no alignment.
            unsafe { vst1q_f32(sums.as_mut_ptr(), *register) };
        }
    }
}
