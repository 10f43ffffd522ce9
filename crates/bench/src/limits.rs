//! What this machine can do at most: read memory, and multiply.

use std::hint::black_box;
use std::panic::resume_unwind;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use checkpoint::Pages;
use kernels_cpu::Unit;
use serde::Serialize;

/// Bytes that a thread reads over and over, or less where there are many threads: far above what caches hold.
const BYTES: usize = 256 << 20;
/// Most bytes of all threads.
const ALL_BYTES: usize = 4 << 30;
/// How long reading is measured.
const TIME: Duration = Duration::from_millis(250);

/// Rates of so many threads together.
#[derive(Clone, Debug, Serialize)]
pub struct Limits {
    /// Threads.
    pub threads: usize,
    /// Bytes read from memory in a second, each thread from one end of its own to the other.
    pub read: f64,
    /// Operations a second of the kinds that the processor has instructions for.
    pub multiply: Vec<(&'static str, f64)>,
}

impl Limits {
    /// Returns the name and the operations a second of the fastest way to multiply numbers of a kind on this
    /// processor; `None` if none is known.
    #[must_use]
    pub fn best(&self, unit: Unit) -> Option<(&'static str, f64)> {
        let ways: &[Unit] = match unit {
            Unit::F32 => &[Unit::F32],
            Unit::Bf16 | Unit::Tiles => &[Unit::F32, Unit::Bf16, Unit::Tiles],
            Unit::Bytes => &[Unit::F32, Unit::Bytes],
        };
        let rates = self.multiply.iter();
        let rates = rates.filter(|(name, _)| ways.iter().any(|way| way.name() == *name));
        rates.max_by(|(_, a), (_, b)| a.total_cmp(b)).copied()
    }
}

/// Memory to read, in large pages where the system gives them, as weights lie; made once, read often.
pub struct Probe {
    parts: Vec<Pages>,
}

impl Probe {
    /// Takes memory for so many threads.
    ///
    /// # Errors
    ///
    /// If there is none left.
    pub fn new(threads: usize) -> std::io::Result<Self> {
        let bytes = BYTES.min(ALL_BYTES / threads);
        let part = || {
            let mut part = Pages::zeroed(bytes)?;
            // Written by a thread of its own, memory lies as near to it as that of a rank to the rank's.
            part.fill(1);
            Ok(part)
        };
        let parts: std::io::Result<_> = thread::scope(|scope| {
            let parts: Vec<_> = (0..threads).map(|_| scope.spawn(part)).collect();
            let parts = parts.into_iter();
            parts
                .map(|part| part.join().unwrap_or_else(|panic| resume_unwind(panic)))
                .collect()
        });
        Ok(Self { parts: parts? })
    }

    /// Returns the bytes that all threads together read in a second.
    #[must_use]
    pub fn read(&self) -> f64 {
        self.together(|part| {
            let (start, mut bytes) = (Instant::now(), 0);
            while start.elapsed() < TIME {
                kernels_cpu::read(part);
                bytes += part.len();
            }
            bytes as f64 / start.elapsed().as_secs_f64()
        })
    }

    /// Reads all of it once, so that nothing else is left in caches.
    pub fn sweep(&self) {
        self.together(|part| {
            black_box(part.chunks(64).fold(0, |sum, line| sum ^ line[0]));
            0.0
        });
    }

    /// Returns all limits.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let multiply = Unit::ALL.into_iter().filter_map(|unit| {
            unit.rate()?;
            let rate = self.together(|_| unit.rate().unwrap_or_default());
            Some((unit.name(), rate))
        });
        Limits {
            threads: self.parts.len(),
            read: self.read(),
            multiply: multiply.collect(),
        }
    }

    /// Adds up what threads measure that begin together.
    fn together(&self, measure: impl Fn(&[u8]) -> f64 + Sync) -> f64 {
        let start = Barrier::new(self.parts.len());
        thread::scope(|scope| {
            let threads = self.parts.iter().map(|part| {
                let (start, measure) = (&start, &measure);
                scope.spawn(move || {
                    start.wait();
                    measure(part)
                })
            });
            let threads: Vec<_> = threads.collect();
            let rates = threads
                .into_iter()
                .map(|thread| thread.join().expect("measuring does not panic"));
            rates.sum()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_multiplied_in_the_fastest_way_there_is() {
        let mut limits = Limits {
            threads: 1,
            read: 1.0,
            multiply: vec![("f32", 3.0), ("bf16", 2.0), ("int8", 9.0)],
        };
        assert_eq!(limits.best(Unit::F32), Some(("f32", 3.0)));
        assert_eq!(limits.best(Unit::Bf16), Some(("f32", 3.0)));
        assert_eq!(limits.best(Unit::Bytes), Some(("int8", 9.0)));
        limits.multiply.push(("bf16 tiles", 20.0));
        assert_eq!(limits.best(Unit::Bf16), Some(("bf16 tiles", 20.0)));
        assert_eq!(limits.best(Unit::F32), Some(("f32", 3.0)));
        limits.multiply.clear();
        assert_eq!(limits.best(Unit::Bytes), None);
    }

    #[test]
    fn limits_are_positive() {
        let limits = Probe::new(1).unwrap().limits();
        assert!(limits.read > 0.0 && limits.read.is_finite(), "{limits:?}");
        for (name, rate) in &limits.multiply {
            assert!(*rate > 0.0 && rate.is_finite(), "{name}: {rate}");
        }
    }
}
