//! What a process sees of the membership store.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::labels::{StoreOp, StoreOutcome};
use crate::table::Process;

/// Something that the client of the membership store has seen.
#[derive(Clone, Copy, Debug)]
pub enum StoreEvent {
    /// A request to one endpoint has ended.
    Request {
        /// What was asked.
        op: StoreOp,
        /// What came of it.
        outcome: StoreOutcome,
        /// How long that took.
        took: Duration,
    },
    /// A lease is held until then, if it is not renewed; `None` once it is not held any more.
    Lease {
        /// Its name in the store.
        id: i64,
        /// Its end.
        until: Option<Instant>,
    },
    /// A watch has broken, and will be begun again.
    WatchRestart,
}

/// The lease that was heard of last, and its end.
#[derive(Debug, Default)]
pub(crate) struct HeldLease(Mutex<Option<(i64, Instant)>>);

impl HeldLease {
    /// Takes in that a lease is held until then, or not any more.
    fn hears(&self, id: i64, until: Option<Instant>) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match (until, &*held) {
            (Some(until), _) => *held = Some((id, until)),
            (None, Some((known, _))) if *known == id => *held = None,
            // The process has taken out another one meanwhile.
            (None, _) => {}
        }
    }

    /// Returns how long it lasts yet.
    pub(crate) fn remaining(&self) -> Duration {
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let until = held.map(|(_, until)| until);
        until.map_or(Duration::ZERO, |until| {
            until.saturating_duration_since(Instant::now())
        })
    }
}

/// Counts what was seen.
pub(crate) fn count(process: &Process, lease: &HeldLease, event: StoreEvent) {
    match event {
        StoreEvent::Request { op, outcome, took } => {
            process.store_requests.observe_time((op, outcome), took);
        }
        StoreEvent::Lease { id, until } => lease.hears(id, until),
        StoreEvent::WatchRestart => process.store_watch_restarts.add((), 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_an_older_lease_is_not_that_of_the_present_one() {
        let (lease, now) = (HeldLease::default(), Instant::now());
        assert_eq!(lease.remaining(), Duration::ZERO);
        let (minute, hour) = (Duration::from_secs(60), Duration::from_secs(3600));
        lease.hears(1, Some(now + minute));
        assert!((Duration::from_secs(1)..=minute).contains(&lease.remaining()));
        lease.hears(2, Some(now + hour));
        lease.hears(1, None);
        assert!(lease.remaining() > minute);
        lease.hears(2, None);
        assert_eq!(lease.remaining(), Duration::ZERO);
    }
}
