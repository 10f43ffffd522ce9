//! Counter-based random numbers: the draw of a position is a function of its key alone.
//!
//! Nothing is carried from one draw to the next, so a sequence that is recomputed, on this rank or
//! on another, draws what it would have drawn.
//!
//! Source: Philox4x32-10 of J. Salmon, M. Moraes, R. Dror and D. Shaw, "Parallel random numbers: as
//! easy as 1, 2, 3" (SC 2011).

/// What a draw is for; draws of one position for different purposes are independent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The choice of the token at the position.
    Token = 0,
}

/// Names one draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrawKey {
    /// The request's seed.
    pub seed: u64,
    /// Which of several answers to the request.
    pub choice: u32,
    /// Position of the token that is drawn.
    pub position: u32,
    /// What for.
    pub purpose: Purpose,
}

impl DrawKey {
    /// Returns the key's number, uniform in `[0, 1)` with 53 random bits.
    #[must_use]
    pub fn uniform(self) -> f64 {
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        let counter = [self.position, self.choice, self.purpose as u32, 0];
        let [low, high, ..] = philox4x32_10(counter, key);
        let bits = (u64::from(high) << 32) | u64::from(low);
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }
}

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
/// The golden ratio and the square root of three minus one, as 32-bit fractions.
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;

fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..ROUNDS {
        if round > 0 {
            key = [
                key[0].wrapping_add(KEY_STEPS[0]),
                key[1].wrapping_add(KEY_STEPS[1]),
            ];
        }
        let (high_0, low_0) = split_product(MULTIPLIERS[0], counter[0]);
        let (high_1, low_1) = split_product(MULTIPLIERS[1], counter[2]);
        counter = [
            high_1 ^ counter[1] ^ key[0],
            low_1,
            high_0 ^ counter[3] ^ key[1],
            low_0,
        ];
    }
    counter
}

fn split_product(a: u32, b: u32) -> (u32, u32) {
    let product = u64::from(a) * u64::from(b);
    ((product >> 32) as u32, product as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `kat_vectors` of the Random123 library, version 1.14.
    #[test]
    fn gives_the_known_answers_of_random123() {
        let ones = u32::MAX;
        let cases = [
            (
                [0; 4],
                [0; 2],
                [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            ),
            (
                [ones; 4],
                [ones; 2],
                [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            ),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, answer) in cases {
            assert_eq!(philox4x32_10(counter, key), answer);
        }
    }

    #[test]
    fn draws_differ_in_every_part_of_the_key() {
        let key = DrawKey {
            seed: 7,
            choice: 0,
            position: 3,
            purpose: Purpose::Token,
        };
        let others = [
            DrawKey {
                seed: 7 + (1 << 32),
                ..key
            },
            DrawKey { choice: 1, ..key },
            DrawKey { position: 4, ..key },
        ];
        for other in others {
            assert_ne!(key.uniform(), other.uniform(), "{other:?}");
        }
    }

    #[test]
    fn draws_are_spread_evenly() {
        let mut buckets = [0_u32; 16];
        for position in 0..16_000 {
            let key = DrawKey {
                seed: 1,
                choice: 0,
                position,
                purpose: Purpose::Token,
            };
            buckets[(key.uniform() * 16.0) as usize] += 1;
        }
        // Chi-square with 15 degrees of freedom exceeds 37.7 once in a thousand seeds.
        let chi: f64 = buckets
            .iter()
            .map(|count| (f64::from(*count) - 1000.0).powi(2) / 1000.0)
            .sum();
        assert!(chi < 37.7, "{chi}: {buckets:?}");
    }
}
