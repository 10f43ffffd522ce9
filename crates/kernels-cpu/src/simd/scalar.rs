//! The path of every processor: eight lanes one after the other.

use half::bf16;
use kernels::mxfp4;

use super::{LANES, Lanes, Quad, SPLIT, Simd, wide_of_two};

/// Plain `f32` arithmetic, with [`f32::mul_add`] where the other paths fuse.
#[derive(Clone, Copy)]
pub(crate) struct Scalar;

/// Applies `op` lane by lane.
#[inline(always)]
fn zip(a: Lanes, b: Lanes, op: impl Fn(f32, f32) -> f32) -> Lanes {
    std::array::from_fn(|lane| op(a[lane], b[lane]))
}

impl Simd for Scalar {
    type F32 = Lanes;
    wide_of_two!();

    #[inline(always)]
    fn splat(self, value: f32) -> Lanes {
        [value; LANES]
    }

    #[inline(always)]
    fn load(self, from: &Lanes) -> Lanes {
        *from
    }

    #[inline(always)]
    fn store(self, value: Lanes, to: &mut Lanes) {
        *to = value;
    }

    #[inline(always)]
    fn prefetch<T>(self, _: &[T], _: usize) {}

    #[inline(always)]
    fn prefetch_behind<T>(self, _: &[T], _: usize) {}

    #[inline(always)]
    fn widen(self, from: &[bf16; LANES]) -> Lanes {
        from.map(|value| f32::from_bits(u32::from(value.to_bits()) << 16))
    }

    #[inline(always)]
    fn unpack(self, block: &[u8; mxfp4::BLOCK_BYTES], scale: u8) -> Quad<Lanes> {
        SPLIT.map(|order| {
            order.map(|place| mxfp4::value(block[place / 2] >> (place % 2 * 4), scale))
        })
    }

    #[inline(always)]
    fn add(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a + b)
    }

    #[inline(always)]
    fn sub(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a - b)
    }

    #[inline(always)]
    fn mul(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a * b)
    }

    #[inline(always)]
    fn div(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| a / b)
    }

    #[inline(always)]
    fn min(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| if a < b { a } else { b })
    }

    #[inline(always)]
    fn max(self, a: Lanes, b: Lanes) -> Lanes {
        zip(a, b, |a, b| if a > b { a } else { b })
    }

    #[inline(always)]
    fn fma(self, a: Lanes, b: Lanes, c: Lanes) -> Lanes {
        std::array::from_fn(|lane| a[lane].mul_add(b[lane], c[lane]))
    }

    #[inline(always)]
    fn round(self, value: Lanes) -> Lanes {
        value.map(f32::round_ties_even)
    }

    #[inline(always)]
    fn pow2(self, value: Lanes) -> Lanes {
        value.map(|value| f32::from_bits(((value as i32 + 127) as u32) << 23))
    }

    #[inline(always)]
    fn sums(self, values: Quad<Lanes>) -> [f32; 4] {
        values.map(|v| ((v[0] + v[2]) + (v[1] + v[3])) + ((v[4] + v[6]) + (v[5] + v[7])))
    }
}
