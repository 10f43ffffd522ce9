//! The exponential function in plain arithmetic: the same bits on every machine, and a loop over it
//! becomes vector instructions.

/// `e^x` for `x <= 0`, within two units in the last place; 0 below about −87.3.
///
/// Source: the scheme of Cephes' `expf` (S. Moshier): `x = n ln 2 + r`, a polynomial of degree 7
/// in `r`, and `2^n` put into the exponent.
#[inline]
pub(crate) fn exp_nonpositive(x: f32) -> f32 {
    /// `e^x` is below the smallest normal number under this.
    const LOWEST: f32 = -87.336_54;
    /// `ln 2`, its upper bits and the rest; the product of the upper bits and `n` is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    /// Adding and subtracting 1.5 · 2^23 rounds to the nearest whole number.
    const ROUNDER: f32 = 12_582_912.0;

    let clamped = if x < LOWEST { LOWEST } else { x };
    let rounded = clamped * std::f32::consts::LOG2_E + ROUNDER;
    let n = rounded - ROUNDER;
    let r = clamped - n * LN_2_HIGH - n * LN_2_LOW;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let e_to_r = p * (r * r) + r + 1.0;
    // The low bits of `rounded` hold `n`.
    let n_bits = rounded.to_bits().wrapping_sub(ROUNDER.to_bits());
    let power = f32::from_bits(n_bits.wrapping_add(127) << 23);
    if x < LOWEST { 0.0 } else { e_to_r * power }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_within_two_units_of_the_true_value() {
        for i in 0..2_000_000 {
            let x = -87.3 * (i as f32 / 2_000_000.0);
            let (found, exact) = (f64::from(exp_nonpositive(x)), f64::from(x).exp());
            let error = (found - exact).abs() / exact;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "{x}: {error}");
        }
    }

    #[test]
    fn ends_are_exact() {
        assert_eq!(exp_nonpositive(0.0), 1.0);
        assert_eq!(exp_nonpositive(-88.0), 0.0);
        assert_eq!(exp_nonpositive(f32::NEG_INFINITY), 0.0);
        assert_eq!(exp_nonpositive(f32::MIN), 0.0);
    }
}
