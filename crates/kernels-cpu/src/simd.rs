//! Eight and sixteen lanes of `f32`, by instruction paths that give the same bits.
//!
//! A kernel is written once, against [`Simd`], and runs through [`Path::run`], which enters the
//! instruction path found at start. Every operation is exact or rounded once as IEEE 754 says, and
//! sums across lanes have one order, so that [`Scalar`], `Avx2`, `Avx512` and `Neon` cannot differ.
//!
//! Everything between [`Path::run`] and an operation has to be inlined into the function that
//! carries the target features: hence `#[inline(always)]` on kernels and their helpers.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod halves;
#[cfg(target_arch = "x86_64")]
pub(crate) mod matrix;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod peak;
pub(crate) mod read;
mod scalar;
#[cfg(target_arch = "aarch64")]
pub(crate) mod sdot;
#[cfg(test)]
mod tests;

use half::bf16;
use kernels::mxfp4;

#[cfg(target_arch = "x86_64")]
use self::avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use self::avx512::Avx512;
#[cfg(target_arch = "aarch64")]
use self::neon::Neon;
pub(crate) use self::scalar::Scalar;

/// Values of a [`Simd::F32`].
pub(crate) const LANES: usize = 8;

/// A [`Simd::F32`] in memory.
pub(crate) type Lanes = [f32; LANES];

/// Values of [`Simd::Wide`].
pub(crate) const WIDE: usize = 2 * LANES;

/// A [`Simd::Wide`] in memory.
pub(crate) type WideLanes = [f32; WIDE];

/// Four of [`Simd::F32`]: 32 values, which is also an MXFP4 block.
pub(crate) type Quad<T> = [T; 4];

/// Which of 32 values each lane holds, where they lie in order.
pub(crate) const ORDERED: Quad<[usize; LANES]> = {
    let mut order = [[0; LANES]; 4];
    let mut place = 0;
    while place < 4 * LANES {
        order[place / LANES][place % LANES] = place;
        place += 1;
    }
    order
};

/// The same for the values of an MXFP4 block, in the order in which AVX2 takes them apart with the
/// fewest instructions.
pub(crate) const SPLIT: Quad<[usize; LANES]> = {
    let mut order = [[0; LANES]; 4];
    let mut place = 0;
    while place < 4 * LANES {
        let (register, lane) = (place / LANES, place % LANES);
        order[register][lane] =
            16 * (register / 2) + 2 * (register % 2) + 4 * (lane % 4) + lane / 4;
        place += 1;
    }
    order
};

/// The operations of one instruction path. A value of the type proves that the processor has it.
pub(crate) trait Simd: Copy {
    /// Eight `f32`: one register, or two.
    type F32: Copy;
    /// Sixteen `f32`: one register, or several.
    type Wide: Copy;

    /// How many [`Simd::Wide`] a kernel keeps at once where it can choose: two, or one of several registers.
    const WIDES: usize;

    fn splat(self, value: f32) -> Self::F32;
    fn load(self, from: &Lanes) -> Self::F32;
    fn store(self, value: Self::F32, to: &mut Lanes);

    /// Hints that the element is read soon. It may lie beyond the end.
    fn prefetch<T>(self, from: &[T], index: usize);

    /// The same for what is read after so much else that the first-level cache has no room for it yet.
    fn prefetch_behind<T>(self, from: &[T], index: usize);

    /// Widens eight `bf16`.
    fn widen(self, from: &[bf16; LANES]) -> Self::F32;

    /// Returns the values of one MXFP4 block in [`SPLIT`] order; code 8, minus zero, gives zero.
    fn unpack(self, block: &[u8; mxfp4::BLOCK_BYTES], scale: u8) -> Quad<Self::F32>;

    fn add(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn sub(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn mul(self, a: Self::F32, b: Self::F32) -> Self::F32;
    fn div(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// The smaller; `b` unless `a` is smaller, so also if either is NaN.
    fn min(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// The larger; `b` unless `a` is larger, so also if either is NaN.
    fn max(self, a: Self::F32, b: Self::F32) -> Self::F32;

    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::F32, b: Self::F32, c: Self::F32) -> Self::F32;

    /// The nearest whole number, ties to even.
    fn round(self, value: Self::F32) -> Self::F32;

    /// `2^value` for whole values in `-126..=127`; 0 for −127.
    fn pow2(self, value: Self::F32) -> Self::F32;

    fn splat_wide(self, value: f32) -> Self::Wide;
    fn load_wide(self, from: &WideLanes) -> Self::Wide;
    fn store_wide(self, value: Self::Wide, to: &mut WideLanes);
    fn mul_wide(self, a: Self::Wide, b: Self::Wide) -> Self::Wide;

    /// `a · b + c`, rounded once.
    fn fma_wide(self, a: Self::Wide, b: Self::Wide, c: Self::Wide) -> Self::Wide;

    /// Sums each register's lanes: `((0 + 2) + (1 + 3)) + ((4 + 6) + (5 + 7))`.
    fn sums(self, values: Quad<Self::F32>) -> [f32; 4];
}

/// The operations on sixteen values of a path whose registers hold fewer.
macro_rules! wide_of_two {
    () => {
        type Wide = [Self::F32; 2];

        const WIDES: usize = 1;

        #[inline(always)]
        fn splat_wide(self, value: f32) -> Self::Wide {
            [self.splat(value); 2]
        }

        #[inline(always)]
        fn load_wide(self, from: &crate::simd::WideLanes) -> Self::Wide {
            let (halves, _) = from.as_chunks();
            [self.load(&halves[0]), self.load(&halves[1])]
        }

        #[inline(always)]
        fn store_wide(self, [low, high]: Self::Wide, to: &mut crate::simd::WideLanes) {
            let (halves, _) = to.as_chunks_mut();
            self.store(low, &mut halves[0]);
            self.store(high, &mut halves[1]);
        }

        #[inline(always)]
        fn mul_wide(self, a: Self::Wide, b: Self::Wide) -> Self::Wide {
            [self.mul(a[0], b[0]), self.mul(a[1], b[1])]
        }

        #[inline(always)]
        fn fma_wide(self, a: Self::Wide, b: Self::Wide, c: Self::Wide) -> Self::Wide {
            [self.fma(a[0], b[0], c[0]), self.fma(a[1], b[1], c[1])]
        }
    };
}
use wide_of_two;

/// A computation that any instruction path can run.
pub(crate) trait Kernel {
    /// What it returns.
    type Output;

    /// Has to be `#[inline(always)]`.
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// An instruction path of this processor.
#[derive(Clone, Copy)]
pub(crate) enum Path {
    Scalar(Scalar),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon),
}

impl Path {
    /// Finds the fastest path.
    pub(crate) fn detect() -> Self {
        Self::all().pop().unwrap_or(Self::Scalar(Scalar))
    }

    /// Lists the paths of this processor, slowest first.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![Self::Scalar(Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            all.extend(Avx2::detect().map(Self::Avx2));
            all.extend(Avx512::detect().map(Self::Avx512));
        }
        #[cfg(target_arch = "aarch64")]
        all.extend(Neon::detect().map(Self::Neon));
        all
    }

    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        match self {
            Self::Scalar(scalar) => kernel.run(scalar),
            #[cfg(target_arch = "x86_64")]
            Self::Avx2(avx2) => avx2.run(kernel),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512(avx512) => avx512.run(kernel),
            #[cfg(target_arch = "aarch64")]
            Self::Neon(neon) => neon.run(kernel),
        }
    }
}
