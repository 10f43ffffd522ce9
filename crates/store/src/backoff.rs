//! Pauses between attempts: doubling, bounded, and never the same for two processes.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::limits::PAUSES;

/// How long to wait before the next attempt.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    most: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self::up_to(PAUSES.1)
    }

    /// Pauses of at most `most`.
    pub(crate) fn up_to(most: Duration) -> Self {
        Self {
            next: PAUSES.0.min(most),
            most,
        }
    }

    /// Starts over, after an attempt that succeeded.
    pub(crate) fn reset(&mut self) {
        self.next = PAUSES.0.min(self.most);
    }

    /// Returns the next pause: between one and two thirds, and the whole, of twice the last one.
    pub(crate) fn pause(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.most);
        pause.mul_f64(2.0 / 3.0 + chance() / 3.0)
    }
}

/// A number from 0 up to 1. The standard library seeds its hash maps by chance, which is all the
/// chance that a pause needs.
fn chance() -> f64 {
    f64::from(random() as u32) / (f64::from(u32::MAX) + 1.0)
}

/// A number that no other process has.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_their_limit_and_start_over() {
        let mut backoff = Backoff::new();
        let mut last = Duration::ZERO;
        for _ in 0..20 {
            last = backoff.pause();
            assert!(last <= PAUSES.1);
        }
        assert!(last >= PAUSES.1 / 2, "{last:?}");
        backoff.reset();
        assert!(backoff.pause() <= PAUSES.0);
        assert!(Backoff::up_to(Duration::from_millis(1)).pause() <= Duration::from_millis(1));
    }

    #[test]
    fn two_processes_do_not_pause_alike() {
        let pauses: Vec<Duration> = (0..8).map(|_| Backoff::new().pause()).collect();
        assert!(pauses.iter().any(|pause| *pause != pauses[0]), "{pauses:?}");
    }
}
