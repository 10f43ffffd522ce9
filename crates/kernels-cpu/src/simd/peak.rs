//! The most operations that one thread can do with numbers in registers: what rates of kernels are
//! compared with.
#![expect(unsafe_code, reason = "instructions that not every processor has")]

use std::time::{Duration, Instant};

#[cfg(target_arch = "aarch64")]
use std::arch::is_aarch64_feature_detected;

#[cfg(target_arch = "x86_64")]
use super::matrix;

/// How long a rate is measured.
const TIME: Duration = Duration::from_millis(30);
/// Rounds between two looks at the clock.
const ROUNDS: usize = 10_000;
/// Sums at a time: more than have to be on their way where one takes four cycles and two begin in each or, on
/// 64-bit ARM, four.
const SUMS: usize = if cfg!(target_arch = "aarch64") {
    20
} else {
    12
};

/// A kind of multiply-and-add.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `f32` times `f32`, added to `f32`.
    F32,
    /// Pairs of `bf16`, added to `f32` (AVX512_BF16).
    Bf16,
    /// Tiles of 16 rows by 32 `bf16`, added to `f32` (AMX).
    Tiles,
    /// Bytes by fours, added to whole numbers of 32 bits (AVX512_VNNI, DotProd).
    Bytes,
}

impl Unit {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::F32, Self::Bf16, Self::Tiles, Self::Bytes];

    /// Returns its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::Tiles => "bf16 tiles",
            Self::Bytes => "int8",
        }
    }

    /// Measures operations a second of this thread, a multiplication and an addition being two; `None` where
    /// the processor has no instruction for it.
    #[must_use]
    pub fn rate(self) -> Option<f64> {
        self.registers().map(|(operations, run)| {
            // SAFETY: `registers` has found what the function needs.
            let run = || unsafe { run() };
            run();
            let (start, mut rounds) = (Instant::now(), 0);
            while start.elapsed() < TIME {
                run();
                rounds += ROUNDS;
            }
            (rounds * SUMS * operations) as f64 / start.elapsed().as_secs_f64()
        })
    }

    /// Operations of an instruction, and what does [`ROUNDS`] times [`SUMS`] of them.
    #[cfg(target_arch = "x86_64")]
    fn registers(self) -> Option<(usize, unsafe fn())> {
        use x86::{bf16, bytes, f32_of_256_bits, f32_of_512_bits, tiles};
        let is_wide = is_x86_feature_detected!("avx512f");
        match self {
            Self::F32 if is_wide => Some((32, f32_of_512_bits)),
            Self::F32 if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") => {
                Some((16, f32_of_256_bits))
            }
            Self::Bf16 if is_wide && is_x86_feature_detected!("avx512bf16") => Some((64, bf16)),
            Self::Tiles if matrix::is_lent() => Some((16 * 16 * 32 * 2, tiles)),
            Self::Bytes if is_wide && is_x86_feature_detected!("avx512vnni") => Some((128, bytes)),
            _ => None,
        }
    }

    #[cfg(target_arch = "aarch64")]
    fn registers(self) -> Option<(usize, unsafe fn())> {
        match self {
            Self::F32 if is_aarch64_feature_detected!("neon") => Some((8, arm::f32)),
            Self::Bytes
                if is_aarch64_feature_detected!("neon")
                    && is_aarch64_feature_detected!("dotprod") =>
            {
                Some((32, arm::bytes))
            }
            _ => None,
        }
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn registers(self) -> Option<(usize, unsafe fn())> {
        None
    }
}

/// A function that does nothing but an instruction, over and over, on sums that begin with `$start`, of
/// which nobody knows that they are alike.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! over_and_over {
    ($name:ident, $features:literal, $start:expr, $factor:expr, |$sum:ident, $by:ident| $next:expr) => {
        /// # Safety
        ///
        /// The processor must have the features.
        #[target_feature(enable = $features)]
        pub(super) fn $name() {
            let mut sums = black_box([$start; SUMS]);
            let $by = black_box($factor);
            for _ in 0..ROUNDS {
                for sum in &mut sums {
                    let $sum = *sum;
                    *sum = $next;
                }
            }
            black_box(sums);
        }
    };
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::asm;
    use std::arch::x86_64::{
        __m512bh, _mm256_fmadd_ps, _mm256_set1_ps, _mm512_dpbf16_ps, _mm512_dpbusd_epi32,
        _mm512_fmadd_ps, _mm512_set1_epi32, _mm512_set1_ps,
    };
    use std::hint::black_box;
    use std::mem::transmute;

    use super::matrix::{ROW_BYTES, ROWS, Sizes};
    use super::{ROUNDS, SUMS};

    /// Does nothing but multiply tiles, over and over, all of them zero.
    ///
    /// # Safety
    ///
    /// The matrix unit must be lent, and not be in use on this thread.
    pub(super) unsafe fn tiles() {
        let sizes = Sizes::new([(ROWS, ROW_BYTES); 8]);
        // SAFETY: as asked of the caller; `sizes` are of 64 bytes, and sound.
        unsafe {
            asm!(
                "ldtilecfg [{sizes}]",
                "2:",
                "tdpbf16ps tmm0, tmm4, tmm5",
                "tdpbf16ps tmm1, tmm4, tmm5",
                "tdpbf16ps tmm2, tmm4, tmm5",
                "tdpbf16ps tmm3, tmm4, tmm5",
                "dec {rounds}",
                "jnz 2b",
                "tilerelease",
                sizes = in(reg) &sizes,
                rounds = inout(reg) ROUNDS * SUMS / 4 => _,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly),
            );
        }
    }

    over_and_over!(
        f32_of_256_bits,
        "avx2,fma",
        _mm256_set1_ps(1.0),
        _mm256_set1_ps(0.5),
        |sum, by| _mm256_fmadd_ps(sum, by, by)
    );
    over_and_over!(
        f32_of_512_bits,
        "avx512f",
        _mm512_set1_ps(1.0),
        _mm512_set1_ps(0.5),
        |sum, by| _mm512_fmadd_ps(sum, by, by)
    );
    over_and_over!(
        bf16,
        "avx512f,avx512bf16",
        _mm512_set1_ps(1.0),
        // SAFETY: both are 64 bytes of any value.
        unsafe { transmute::<[u16; 32], __m512bh>([0x3f00; 32]) },
        |sum, by| _mm512_dpbf16_ps(sum, by, by)
    );
    over_and_over!(
        bytes,
        "avx512f,avx512vnni",
        _mm512_set1_epi32(0),
        _mm512_set1_epi32(0x0101_0101),
        |sum, by| _mm512_dpbusd_epi32(sum, by, by)
    );
}

#[cfg(target_arch = "aarch64")]
mod arm {
    use std::arch::aarch64::{vdupq_n_f32, vdupq_n_s8, vdupq_n_s32, vfmaq_f32};
    use std::hint::black_box;

    use super::super::sdot::sdot;
    use super::{ROUNDS, SUMS};

    over_and_over!(
        f32,
        "neon",
        vdupq_n_f32(1.0),
        vdupq_n_f32(0.5),
        |sum, by| vfmaq_f32(sum, by, by)
    );
    over_and_over!(
        bytes,
        "neon,dotprod",
        vdupq_n_s32(0),
        vdupq_n_s8(1),
        |sum, by| sdot(sum, by, by)
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_is_there_has_a_rate() {
        for unit in Unit::ALL {
            let rate = unit.rate();
            assert_eq!(rate.is_some(), unit.registers().is_some());
            assert!(rate.is_none_or(|rate| rate > 1e6), "{unit:?}: {rate:?}");
        }
    }
}
