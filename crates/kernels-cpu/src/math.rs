//! Exponential, sigmoid, sine and cosine from basic operations.
//!
//! Not the C library's: its bits differ by library and processor, and ranks must agree.

use crate::simd::{LANES, Lanes, Scalar, Simd};

/// `ln 2`, its upper bits: times a whole number below 2^8 it is exact.
const LN_2_HIGH: f32 = 0.693_359_4;
/// `ln 2` less [`LN_2_HIGH`].
const LN_2_LOW: f32 = -2.121_944_4e-4;

/// `1 / n!` for `n` from 7 down to 0: what is left out of the series is below 6e-9 of the result
/// for arguments up to `ln 2 / 2`.
const TAYLOR: [f32; 8] = [
    1.0 / 5040.0,
    1.0 / 720.0,
    1.0 / 120.0,
    1.0 / 24.0,
    1.0 / 6.0,
    0.5,
    1.0,
    1.0,
];

/// `e^x` for `x <= 88`, within 2 units in the last place; 0 below −88, and what `e^88` is above.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    // The lower bound's power of two is 2^-127, which `pow2` makes 0. NaN stays NaN.
    let x = simd.max(simd.splat(-88.0), simd.min(simd.splat(88.0), x));
    let whole = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    let rest = simd.fma(whole, simd.splat(-LN_2_HIGH), x);
    let rest = simd.fma(whole, simd.splat(-LN_2_LOW), rest);
    let mut sum = simd.splat(TAYLOR[0]);
    for coefficient in &TAYLOR[1..] {
        sum = simd.fma(sum, rest, simd.splat(*coefficient));
    }
    simd.mul(sum, simd.pow2(whole))
}

/// `1 / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::F32) -> S::F32 {
    let one = simd.splat(1.0);
    let negative = simd.sub(simd.splat(0.0), x);
    simd.div(one, simd.add(one, exp(simd, negative)))
}

/// `e^x` of each value, the same bits as [`exp`] on any path.
pub(crate) fn exp_all(values: &mut [f32]) {
    for chunk in values.chunks_mut(LANES) {
        let mut lanes: Lanes = [0.0; LANES];
        lanes[..chunk.len()].copy_from_slice(chunk);
        chunk.copy_from_slice(&exp(Scalar, lanes)[..chunk.len()]);
    }
}

/// Sine and cosine of an angle up to 2^18 in size, each within 1 unit in the last place.
///
/// In `f64`, rounded once: quarter turns are taken off, and the series of what is left (at most
/// π/4) end where the next term is below 1e-11.
pub(crate) fn sin_cos(angle: f32) -> (f32, f32) {
    /// `π / 2`, its upper 33 bits: times a number of quarter turns below 2^20 it is exact.
    const QUARTER_HIGH: f64 = 1.570_796_326_734_125_6;
    /// `π / 2` less [`QUARTER_HIGH`].
    const QUARTER_LOW: f64 = 6.077_100_506_506_192e-11;

    let angle = f64::from(angle);
    let quarters = (angle * std::f64::consts::FRAC_2_PI).round_ties_even();
    let x = (angle - quarters * QUARTER_HIGH) - quarters * QUARTER_LOW;
    let square = x * x;
    // 1 − x²/a · (1 − x²/b · (1 − …)), from the inside.
    let series = |divisors: [f64; 6]| {
        let term = |next: f64, divisor: f64| 1.0 - square * (1.0 / divisor) * next;
        divisors.into_iter().fold(1.0, term)
    };
    let sin = x * series([156.0, 110.0, 72.0, 42.0, 20.0, 6.0]);
    let cos = series([132.0, 90.0, 56.0, 30.0, 12.0, 2.0]);
    let (sin, cos) = match (quarters as i64).rem_euclid(4) {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    };
    (sin as f32, cos as f32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance of `found` from `exact` in units of the last place of the exact `f32`.
    fn ulps(found: f32, exact: f64) -> f64 {
        let nearest = (exact as f32).abs().max(f32::MIN_POSITIVE);
        let unit = f64::from(f32::from_bits(nearest.to_bits() + 1)) - f64::from(nearest);
        (f64::from(found) - exact).abs() / unit
    }

    fn exp_one(x: f32) -> f32 {
        exp(Scalar, [x; LANES])[0]
    }

    #[test]
    fn exp_is_within_two_units() {
        let mut worst = 0f64;
        for i in 0..400_000 {
            let x = -87.0 + i as f32 * (175.0 / 400_000.0);
            worst = worst.max(ulps(exp_one(x), f64::from(x).exp()));
        }
        assert!(worst < 2.0, "{worst}");
    }

    #[test]
    fn exp_is_exact_at_zero_and_ends_in_zero() {
        assert_eq!(exp_one(0.0), 1.0);
        assert_eq!(exp_one(-0.0), 1.0);
        for x in [-88.0, -1e30, f32::NEG_INFINITY] {
            assert_eq!(exp_one(x), 0.0, "{x}");
        }
        assert!(exp_one(1e30).is_finite());
    }

    #[test]
    fn sigmoid_is_close_and_keeps_its_range() {
        let one = |x: f32| sigmoid(Scalar, [x; LANES])[0];
        for i in -80_000..80_000 {
            let x = i as f32 * 1e-3;
            let exact = 1.0 / (1.0 + (-f64::from(x)).exp());
            assert!(ulps(one(x), exact) < 4.0, "{x}");
        }
        assert_eq!(one(1e9), 1.0);
        assert!(one(-1e9) < 1e-38);
    }

    #[test]
    fn exp_all_covers_odd_lengths() {
        for length in [0, 1, 7, 8, 9, 20] {
            let mut values: Vec<f32> = (0..length).map(|i| i as f32 * 0.3 - 2.0).collect();
            let expected: Vec<f32> = values.iter().map(|&x| exp_one(x)).collect();
            exp_all(&mut values);
            assert_eq!(values, expected);
        }
    }

    #[test]
    fn sin_and_cos_are_within_one_unit_at_far_positions() {
        for i in 0..400_000 {
            let angle = i as f32 * 0.327_68;
            for angle in [angle, -angle, angle * 1e-5] {
                let (sin, cos) = sin_cos(angle);
                let exact = f64::from(angle).sin_cos();
                assert!(ulps(sin, exact.0) < 1.0, "sin {angle}");
                assert!(ulps(cos, exact.1) < 1.0, "cos {angle}");
            }
        }
    }
}
