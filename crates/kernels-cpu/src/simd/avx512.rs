//! The path of x86-64 processors with AVX-512: that of AVX2, with sixteen values in a register.
#![expect(unsafe_code, reason = "instructions that not every x86-64 has")]

use std::arch::x86_64::{
    __m256, __m512, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mul_ps, _mm512_set1_ps,
    _mm512_storeu_ps,
};

use half::bf16;
use kernels::mxfp4;

use super::avx2::Avx2;
use super::{Kernel, LANES, Lanes, Quad, Simd, WideLanes};

/// Proof that this processor has AVX-512 and what AVX2 is proof of: only [`Avx512::detect`] makes one.
#[derive(Clone, Copy)]
pub(crate) struct Avx512 {
    narrow: Avx2,
}

impl Avx512 {
    pub(super) fn detect() -> Option<Self> {
        let found = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl");
        let narrow = Avx2::detect()?;
        found.then_some(Self { narrow })
    }

    /// Runs a kernel inside a function that has the features, so that all of it is compiled with
    /// them.
    #[inline]
    pub(super) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,avx512f,avx512vl")]
        fn with_features<K: Kernel>(simd: Avx512, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` exists, so `detect` found the features on this processor.
        unsafe { with_features(self, kernel) }
    }
}

/// Calls an operation that needs AVX-512, in a method of [`Avx512`].
macro_rules! on_avx512 {
    ($call:expr) => {
        // SAFETY: the method's `self` exists, so `detect` found the features on this processor.
        unsafe { $call }
    };
}

/// Operations that are those of AVX2.
macro_rules! narrow {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty;)*) => {
        $(
            #[inline(always)]
            fn $name(self, $($argument: $type),*) -> $result {
                self.narrow.$name($($argument),*)
            }
        )*
    };
}

impl Simd for Avx512 {
    type F32 = __m256;
    type Wide = __m512;

    const WIDES: usize = 2;

    narrow! {
        splat(value: f32) -> __m256;
        load(from: &Lanes) -> __m256;
        store(value: __m256, to: &mut Lanes) -> ();
        widen(from: &[bf16; LANES]) -> __m256;
        unpack(block: &[u8; mxfp4::BLOCK_BYTES], scale: u8) -> Quad<__m256>;
        add(a: __m256, b: __m256) -> __m256;
        sub(a: __m256, b: __m256) -> __m256;
        mul(a: __m256, b: __m256) -> __m256;
        div(a: __m256, b: __m256) -> __m256;
        min(a: __m256, b: __m256) -> __m256;
        max(a: __m256, b: __m256) -> __m256;
        fma(a: __m256, b: __m256, c: __m256) -> __m256;
        round(value: __m256) -> __m256;
        pow2(value: __m256) -> __m256;
        sums(values: Quad<__m256>) -> [f32; 4];
    }

    #[inline(always)]
    fn prefetch<T>(self, from: &[T], index: usize) {
        self.narrow.prefetch(from, index);
    }

    #[inline(always)]
    fn prefetch_behind<T>(self, from: &[T], index: usize) {
        self.narrow.prefetch_behind(from, index);
    }

    #[inline(always)]
    fn splat_wide(self, value: f32) -> __m512 {
        on_avx512!(_mm512_set1_ps(value))
    }

    #[inline(always)]
    fn load_wide(self, from: &WideLanes) -> __m512 {
        // SAFETY: as in `on_avx512`; `from` is 64 readable bytes, and the load needs no alignment.
        unsafe { _mm512_loadu_ps(from.as_ptr()) }
    }

    #[inline(always)]
    fn store_wide(self, value: __m512, to: &mut WideLanes) {
        // SAFETY: as in `on_avx512`; `to` is 64 writable bytes, and the store needs no alignment.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), value) }
    }

    #[inline(always)]
    fn mul_wide(self, a: __m512, b: __m512) -> __m512 {
        on_avx512!(_mm512_mul_ps(a, b))
    }

    #[inline(always)]
    fn fma_wide(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        on_avx512!(_mm512_fmadd_ps(a, b, c))
    }
}
