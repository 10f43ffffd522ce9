//! Items that several threads take, one at a time.

use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Items, shared out among threads: each takes its own in their order, which is that of memory where items are parts
/// of a matrix, and then what others have left.
pub(super) struct Queue<T> {
    /// The counters give each to one thread alone, so that none waits for a lock.
    items: Vec<Mutex<Option<T>>>,
    shares: Vec<Share>,
    /// Threads that have come.
    come: AtomicUsize,
}

/// The items of a thread; counters of others lie in other cache lines.
#[repr(align(128))]
struct Share {
    next: AtomicUsize,
    end: usize,
}

impl Share {
    fn new(Range { start, end }: Range<usize>) -> Self {
        Self {
            next: AtomicUsize::new(start),
            end,
        }
    }

    /// Returns the next item that is left.
    fn take(&self) -> Option<usize> {
        // What is empty is only looked at: threads that add to it would take it from each other.
        if self.next.load(Ordering::Relaxed) >= self.end {
            return None;
        }
        let index = self.next.fetch_add(1, Ordering::Relaxed);
        (index < self.end).then_some(index)
    }
}

impl<T> Queue<T> {
    /// Shares items out among so many threads, of which there is at least one.
    pub(super) fn new(items: Vec<T>, threads: usize) -> Self {
        let at = |thread| items.len() * thread / threads;
        Self {
            shares: (0..threads)
                .map(|thread| Share::new(at(thread)..at(thread + 1)))
                .collect(),
            items: items
                .into_iter()
                .map(|item| Mutex::new(Some(item)))
                .collect(),
            come: AtomicUsize::new(0),
        }
    }

    /// Takes items and works on them until none is left.
    pub(super) fn drain(&self, work: impl Fn(T)) {
        let own = self.come.fetch_add(1, Ordering::Relaxed) % self.shares.len();
        let (others, from_own) = self.shares.split_at(own);
        for share in from_own.iter().chain(others) {
            while let Some(index) = share.take() {
                let item = self.items[index].lock().map(|mut item| item.take());
                if let Ok(Some(item)) = item {
                    work(item);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_thread_takes_its_own_items_first_and_then_all_that_is_left() {
        let queue = Queue::new((0..10).collect(), 3);
        let taken = RefCell::new(Vec::new());
        let take = |item| taken.borrow_mut().push(item);
        assert_eq!(queue.come.fetch_add(1, Ordering::Relaxed), 0);
        queue.drain(take);
        assert_eq!(taken.take(), [3, 4, 5, 6, 7, 8, 9, 0, 1, 2]);
        queue.drain(take);
        assert_eq!(taken.take(), []);
    }

    #[test]
    fn few_items_are_shared_out_too() {
        for (items, threads) in [(0, 1), (0, 3), (1, 3), (2, 3), (5, 1)] {
            let queue = Queue::new(vec![1; items], threads);
            let sum = AtomicUsize::new(0);
            for _ in 0..threads {
                queue.drain(|item| {
                    sum.fetch_add(item, Ordering::Relaxed);
                });
            }
            assert_eq!(sum.into_inner(), items);
        }
    }
}
