//! Finds the largest of many values without sorting all of them.

use spec::TokenId;

/// Buckets that values are counted into: sign, exponent and the first three bits of the mantissa.
const BUCKETS: usize = 1 << 12;
const BUCKET_SHIFT: u32 = 20;

/// Returns an integer with the order of the values; both zeros are equal.
#[inline]
fn order_key(value: f32) -> u32 {
    // Adding zero turns −0 into +0.
    let bits = (value + 0.0).to_bits();
    // Negative numbers: all bits turned around. Positive: above all negative ones.
    bits ^ (((bits as i32 >> 31) as u32) | 0x8000_0000)
}

/// Writes the `count` largest values to `out`, best first, equals by ascending token.
///
/// Two passes and a sort of what shares a bucket with the last one chosen.
pub(crate) fn largest(values: &[f32], count: usize, out: &mut Vec<(TokenId, f32)>) {
    out.clear();
    let count = count.min(values.len());
    if count == 0 {
        return;
    }
    let mut counts = vec![0_u32; BUCKETS];
    for value in values {
        counts[(order_key(*value) >> BUCKET_SHIFT) as usize] += 1;
    }
    let mut above = 0;
    let mut last = BUCKETS;
    while above < count {
        last -= 1;
        above += counts[last] as usize;
    }
    let threshold = (last as u32) << BUCKET_SHIFT;
    let chosen = values.iter().enumerate();
    let chosen = chosen.filter(|(_, value)| order_key(**value) >= threshold);
    out.extend(chosen.map(|(id, value)| (TokenId(id as u32), *value)));
    let best_first = |a: &(TokenId, f32), b: &(TokenId, f32)| {
        let by_value = order_key(b.1).cmp(&order_key(a.1));
        by_value.then(a.0.cmp(&b.0))
    };
    if count < out.len() {
        out.select_nth_unstable_by(count - 1, best_first);
        out.truncate(count);
    }
    out.sort_unstable_by(best_first);
}

/// Returns the largest value. `values` is not empty and holds no NaN.
pub(crate) fn maximum(values: &[f32]) -> f32 {
    const LANES: usize = 16;
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if *value > *lane { *value } else { *lane };
        }
    }
    lanes
        .iter()
        .chain(rest)
        .fold(f32::NEG_INFINITY, |a, b| a.max(*b))
}

/// Returns the lowest token with the largest value.
pub(crate) fn argmax(values: &[f32]) -> TokenId {
    let best = maximum(values);
    let index = values.iter().position(|value| *value == best);
    TokenId(index.expect("the maximum is one of the values") as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(values: &[f32]) -> Vec<(TokenId, f32)> {
        let mut all: Vec<_> = (0_u32..).map(TokenId).zip(values.iter().copied()).collect();
        all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        all
    }

    #[test]
    fn gives_what_a_full_sort_gives() {
        // Squares modulo a prime: spread, with many equal values and both signs.
        let values: Vec<f32> = (0_u64..5000)
            .map(|i| ((i * i % 1009) as f32 - 500.0) / 37.0)
            .collect();
        let expected = sorted(&values);
        let mut found = Vec::new();
        for count in [0, 1, 2, 19, 64, 1000, 4999, 5000, 9000] {
            largest(&values, count, &mut found);
            assert_eq!(found, expected[..count.min(5000)], "{count}");
        }
        assert_eq!(argmax(&values), expected[0].0);
    }

    #[test]
    fn equal_values_go_by_token_and_zeros_are_equal() {
        let mut found = Vec::new();
        largest(&[-1.0, -0.0, 0.0, -0.0], 2, &mut found);
        assert_eq!(found, [(TokenId(1), 0.0), (TokenId(2), 0.0)]);
        assert_eq!(argmax(&[-1.0, -0.0, 0.0]), TokenId(1));
    }
}
