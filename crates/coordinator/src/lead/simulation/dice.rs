//! Chance, from a seed.

use std::time::Duration;

use engine::stub::mix;

/// Numbers that look random, the same for the same seed.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(mix(seed ^ 0x5eed))
    }

    /// A number below `bound`, which is above zero.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = mix(self.0);
        (self.0 % bound as u64) as usize
    }

    /// True in so many of a thousand cases.
    pub(super) fn chance(&mut self, per_mille: usize) -> bool {
        self.below(1000) < per_mille
    }

    /// So many milliseconds, the bounds included.
    pub(super) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_micros(1000 * from + self.below((1000 * (to - from) + 1) as usize) as u64)
    }
}
