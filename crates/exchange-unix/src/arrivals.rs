//! Where the lanes of one rank come in that others have opened.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exchange::Alarm as _;
use spec::Rank;

use crate::bell::Bell;

/// The lanes to one rank in one epoch, until it takes them up.
#[derive(Debug)]
pub struct Arrivals {
    /// By sender: one lane, ever.
    lanes: Mutex<Vec<Arrival>>,
    /// How many have come.
    count: AtomicUsize,
    bell: Arc<Bell>,
}

#[derive(Debug, Default)]
enum Arrival {
    #[default]
    Awaited,
    Here(OwnedFd),
    Taken,
}

impl Arrivals {
    /// Returns the arrivals at a rank of a group, whose bell is rung with each.
    #[must_use]
    pub fn new(num_ranks: usize, bell: Arc<Bell>) -> Self {
        let lanes = (0..num_ranks).map(|_| Arrival::default()).collect();
        Self {
            lanes: Mutex::new(lanes),
            count: AtomicUsize::new(0),
            bell,
        }
    }

    /// Adds the lane from a rank. False if there is or was one, which is not replaced, or the rank has ended.
    #[must_use]
    pub fn add(&self, from: Rank, lane: OwnedFd) -> bool {
        let mut lanes = self.lock();
        match lanes.get_mut(from.index()) {
            Some(place @ Arrival::Awaited) => *place = Arrival::Here(lane),
            _ => return false,
        }
        self.count.fetch_add(1, Ordering::Relaxed);
        drop(lanes);
        self.bell.ring();
        true
    }

    /// Returns what is rung with each arrival.
    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Returns how many lanes have come, taken or not.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Takes all lanes that have come.
    pub(crate) fn take(&self) -> Vec<(Rank, OwnedFd)> {
        let mut lanes = self.lock();
        let take =
            |(from, place): (Rank, &mut Arrival)| match std::mem::replace(place, Arrival::Taken) {
                Arrival::Here(lane) => Some((from, lane)),
                before => {
                    *place = before;
                    None
                }
            };
        (0..)
            .map(Rank)
            .zip(lanes.iter_mut())
            .filter_map(take)
            .collect()
    }

    /// Closes what has come and was not taken, and takes nothing more.
    pub(crate) fn close(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arrival>> {
        // Nothing panics while it holds the lock.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
