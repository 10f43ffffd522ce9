//! Several measurements of one thing.

use serde::Serialize;

/// Measurements in the order they were made, at least one.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(transparent)]
pub struct Samples(pub Vec<f64>);

impl Samples {
    /// Returns the middle one, or the mean of the two in the middle.
    #[must_use]
    pub fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        match sorted.len() % 2 {
            _ if sorted.is_empty() => f64::NAN,
            0 => f64::midpoint(sorted[middle - 1], sorted[middle]),
            _ => sorted[middle],
        }
    }

    /// Returns the mean.
    #[must_use]
    pub fn mean(&self) -> f64 {
        self.0.iter().sum::<f64>() / self.0.len() as f64
    }

    /// Returns the standard deviation, as numpy's `std` has it.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        let mean = self.mean();
        let squares = self.0.iter().map(|value| (value - mean).powi(2));
        (squares.sum::<f64>() / self.0.len() as f64).sqrt()
    }

    /// Returns the smallest.
    #[must_use]
    pub fn min(&self) -> f64 {
        self.0.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Returns the largest.
    #[must_use]
    pub fn max(&self) -> f64 {
        self.0.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    /// Returns the value that a share of them does not exceed, between two of them in a straight line, as
    /// numpy's `percentile` has it.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> f64 {
        let sorted = self.sorted();
        let Some(last) = sorted.len().checked_sub(1) else {
            return f64::NAN;
        };
        let place = percent / 100.0 * last as f64;
        let (low, part) = (place.floor(), place.fract());
        let at = |index: f64| sorted[(index as usize).min(last)];
        at(low) + (at(low + 1.0) - at(low)) * part
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_lie_between_values_in_a_straight_line() {
        let samples = Samples(vec![4.0, 1.0, 3.0, 2.0]);
        assert_eq!(samples.median(), 2.5);
        let percentiles = [0.0, 25.0, 50.0, 90.0, 100.0].map(|p| samples.percentile(p));
        // numpy.percentile([1, 2, 3, 4], [0, 25, 50, 90, 100])
        assert_eq!(percentiles, [1.0, 1.75, 2.5, 3.7, 4.0]);
        assert_eq!((samples.min(), samples.max()), (1.0, 4.0));
        // numpy.std([1, 2, 3, 4])
        assert_eq!(
            (samples.mean(), samples.deviation()),
            (2.5, 1.25_f64.sqrt())
        );
        assert_eq!(Samples(vec![5.0]).median(), 5.0);
        assert!(Samples::default().median().is_nan());
    }
}
