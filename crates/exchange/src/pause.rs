//! How a rank waits for what mostly comes at once.

use std::hint;
use std::thread;
use std::time::{Duration, Instant};

/// How long a rank keeps looking before it sleeps and has to be woken. Ranks that compute alike are
/// not further apart; and a machine with more ranks than cores is not kept from its work for long.
const AWAKE: Duration = Duration::from_micros(100);

/// How much of that it gives to no other thread of the machine.
const BUSY: Duration = Duration::from_micros(20);

/// A wait that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Pause {
    since: Instant,
}

impl Pause {
    /// Begins to wait.
    #[must_use]
    pub fn begin() -> Self {
        Self {
            since: Instant::now(),
        }
    }

    /// Lets a moment pass, after which one looks again. False, at once, if it is time to sleep.
    #[must_use]
    pub fn look_again(self) -> bool {
        match self.since.elapsed() {
            waited if waited > AWAKE => return false,
            waited if waited > BUSY => thread::yield_now(),
            _ => hint::spin_loop(),
        }
        true
    }
}
