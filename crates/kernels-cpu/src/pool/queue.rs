//! Items that several threads take, one at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Items in the order in which they are taken.
pub(super) struct Queue<T> {
    /// The counter gives each to one thread alone, so that none waits for a lock.
    items: Vec<Mutex<Option<T>>>,
    next: AtomicUsize,
}

impl<T> Queue<T> {
    pub(super) fn new(items: Vec<T>) -> Self {
        Self {
            items: items
                .into_iter()
                .map(|item| Mutex::new(Some(item)))
                .collect(),
            next: AtomicUsize::new(0),
        }
    }

    /// Takes items and works on them until none is left.
    pub(super) fn drain(&self, work: impl Fn(T)) {
        while let Some(item) = self.items.get(self.next.fetch_add(1, Ordering::Relaxed)) {
            let item = item.lock().map(|mut item| item.take());
            if let Ok(Some(item)) = item {
                work(item);
            }
        }
    }
}
