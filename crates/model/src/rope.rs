//! The rotary frequencies, with YaRN scaling, as the reference implementations compute them.

use spec::Rope;

/// What [`kernels::Rotate`] needs beside the rows.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// `[head_dim / 2]`, radians per position.
    pub inv_freq: Vec<f32>,
    /// Multiplies cosine and sine. Products of query and key so grow by its square.
    pub factor: f32,
}

impl Rotary {
    /// Computes the table of a model.
    ///
    /// With `f_i = theta^(2i / head_dim)`, `dim(r) = head_dim / 2 · ln(n / (2πr)) / ln theta` for
    /// `n` original positions, and `keep_i` falling from 1 at `dim(beta_fast)` to 0 at
    /// `dim(beta_slow)`: `inv_freq_i = (1 − keep_i) / (factor · f_i) + keep_i / f_i`. All in `f32`,
    /// but for the ends of the range and the factor on cosine and sine, which are rounded once.
    ///
    /// Source: YaRN (<https://arxiv.org/abs/2309.00071>) as in openai/gpt-oss,
    /// `gpt_oss/torch/model.py`, `RotaryEmbedding`, and in transformers, `modeling_rope_utils.py`.
    #[must_use]
    pub fn new(rope: &Rope, head_dim: usize) -> Self {
        let frequencies = wavelengths(rope.theta, head_dim);
        if rope.factor <= 1.0 {
            let inv_freq = frequencies.map(|f| 1.0 / f).collect();
            return Self {
                inv_freq,
                factor: 1.0,
            };
        }
        let (low, high) = corrected_range(rope, head_dim);
        let (low, width) = (low as f32, (high - low) as f32);
        let stretch = rope.factor as f32;
        let inv_freq = frequencies.enumerate().map(|(i, f)| {
            let keep = 1.0 - ((i as f32 - low) / width).clamp(0.0, 1.0);
            (1.0 / (stretch * f)) * (1.0 - keep) + (1.0 / f) * keep
        });
        Self {
            inv_freq: inv_freq.collect(),
            factor: (0.1 * rope.factor.ln() + 1.0) as f32,
        }
    }
}

/// The dimensions between which frequencies go from kept to divided.
fn corrected_range(rope: &Rope, head_dim: usize) -> (f64, f64) {
    let half = head_dim as f64 / 2.0;
    let positions = f64::from(rope.original_max_positions);
    let dimension = |rotations: f64| {
        half * (positions / (rotations * std::f64::consts::TAU)).ln() / rope.theta.ln()
    };
    let (mut low, mut high) = (dimension(rope.beta_fast), dimension(rope.beta_slow));
    if rope.truncate {
        (low, high) = (low.floor(), high.ceil());
    }
    (low, high) = (low.max(0.0), high.min(head_dim as f64 - 1.0));
    if low == high {
        // The references widen an empty range by as much, so that nothing is divided by zero.
        high += 0.001;
    }
    (low, high)
}

/// `theta^(2i / head_dim)` as torch's `f32` power has it.
///
/// Powers in `f64`, rounded once, give the same bits but where torch is one unit in the last place
/// off. At a far position that one unit turns the angle by up to a hundredth of a radian, so the
/// published model's two exceptions are kept.
fn wavelengths(theta: f64, head_dim: usize) -> impl Iterator<Item = f32> {
    (0..head_dim / 2).map(move |i| {
        let exponent = (2 * i) as f64 / head_dim as f64;
        let power = theta.powf(exponent) as f32;
        let known = TORCH_POWERS
            .iter()
            .find(|known| known.theta == theta && known.exponent == exponent);
        match known {
            Some(known) => f32::from_bits(power.to_bits().wrapping_add_signed(known.ulps)),
            None => power,
        }
    })
}

struct KnownPower {
    theta: f64,
    exponent: f64,
    /// What torch's result is above the correctly rounded one, in units in the last place.
    ulps: i32,
}

/// Measured with torch 2.15.0 on x86-64 (AVX2) over the exponents `2i / 64`.
const TORCH_POWERS: [KnownPower; 2] = [
    KnownPower {
        theta: 150_000.0,
        exponent: 12.0 / 64.0,
        ulps: -1,
    },
    KnownPower {
        theta: 150_000.0,
        exponent: 20.0 / 64.0,
        ulps: 1,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    fn published() -> Rope {
        Rope::GPT_OSS
    }

    /// Bits of `model.rotary_emb.inv_freq` of transformers 5.23.0 for the published configuration.
    const PUBLISHED: [u32; 32] = [
        0x3f80_0000,
        0x3f30_6535,
        0x3ef3_16a2,
        0x3ea7_7faa,
        0x3e66_d3fa,
        0x3e1f_0cfd,
        0x3ddb_2f9f,
        0x3d97_0764,
        0x3d50_2194,
        0x3d01_ddd5,
        0x3c9e_646f,
        0x3c3d_ec94,
        0x3bde_a840,
        0x3b7c_fe14,
        0x3b09_3803,
        0x3a89_f778,
        0x39ef_543c,
        0x3907_99b9,
        0x3820_adc6,
        0x37dd_6dfc,
        0x3798_9328,
        0x3752_42fa,
        0x3710_e12c,
        0x36c7_a82b,
        0x3689_928c,
        0x363d_9647,
        0x3602_a245,
        0x35b4_0668,
        0x3578_1728,
        0x352a_f200,
        0x34eb_93eb,
        0x34a2_52d3,
    ];

    #[test]
    fn equals_the_references_table_bit_by_bit() {
        let rotary = Rotary::new(&published(), 64);
        let bits: Vec<u32> = rotary.inv_freq.iter().map(|f| f.to_bits()).collect();
        assert_eq!(bits, PUBLISHED);
        assert_eq!(rotary.factor, 1.346_573_6);
    }

    #[test]
    fn does_not_scale_at_factor_one() {
        let rope = Rope {
            factor: 1.0,
            ..published()
        };
        let rotary = Rotary::new(&rope, 4);
        assert_eq!(rotary.inv_freq, [1.0, 1.0 / 150_000_f32.sqrt()]);
        assert_eq!(rotary.factor, 1.0);
    }

    #[test]
    fn a_truncated_range_is_wider() {
        let rope = published();
        let whole = Rope {
            truncate: true,
            ..rope.clone()
        };
        assert_eq!(corrected_range(&whole, 64), (8.0, 18.0));
        let (low, high) = corrected_range(&rope, 64);
        assert!((low - 8.092_779_115_512_402).abs() < 1e-12, "{low}");
        assert!((high - 17.398_024_501_588_56).abs() < 1e-12, "{high}");
    }
}
