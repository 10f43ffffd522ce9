//! A rank's threads.

use std::num::NonZeroUsize;
use std::thread;

use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, ParallelIterator};

/// Threads that share the items of one call at a time.
///
/// Idle threads sleep after a short search for work, so that several ranks fit on one machine. A
/// panic in an item reaches the caller. Dropping the pool waits for its threads to end.
pub(crate) struct Pool {
    /// `None` for one thread: the caller's own does the work.
    threads: Option<rayon::ThreadPool>,
    handles: Vec<thread::JoinHandle<()>>,
}

impl Pool {
    /// # Panics
    ///
    /// If the system refuses to start a thread.
    pub(crate) fn new(threads: NonZeroUsize) -> Self {
        if threads.get() == 1 {
            return Self {
                threads: None,
                handles: Vec::new(),
            };
        }
        let mut handles = Vec::new();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.get())
            .spawn_handler(|thread| {
                let name = format!("kernels-{}", thread.index());
                let builder = thread::Builder::new().name(name);
                handles.push(builder.spawn(|| thread.run())?);
                Ok(())
            })
            .build()
            .expect("the system starts the rank's threads");
        Self {
            threads: Some(pool),
            handles,
        }
    }

    /// Runs `work` on every item; which thread takes which item is open.
    pub(crate) fn each<T: Send>(&self, items: Vec<T>, work: impl Fn(T) + Send + Sync) {
        match &self.threads {
            Some(pool) if items.len() > 1 => {
                pool.install(|| items.into_par_iter().with_max_len(1).for_each(work));
            }
            _ => items.into_iter().for_each(work),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The threads end once the pool is gone.
        self.threads = None;
        for handle in self.handles.drain(..) {
            // A panic of an item has reached its caller already.
            drop(handle.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn pool(threads: usize) -> Pool {
        Pool::new(NonZeroUsize::new(threads).unwrap())
    }

    #[test]
    fn runs_every_item_once() {
        for threads in 1..=3 {
            let pool = pool(threads);
            let mut counts = vec![0; 1000];
            pool.each(counts.iter_mut().collect(), |count: &mut i32| *count += 1);
            assert!(counts.iter().all(|&count| count == 1));
        }
    }

    #[test]
    fn passes_a_panic_on_and_stays_usable() {
        for threads in 1..=3 {
            let pool = pool(threads);
            let failing = || pool.each((0..9).collect(), |i: i32| assert!(i != 5, "five"));
            assert!(catch_unwind(AssertUnwindSafe(failing)).is_err());
            let sum = AtomicUsize::new(0);
            pool.each((0..9).collect(), |i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 36);
        }
    }

    #[test]
    fn waits_for_its_threads_when_dropped() {
        let pool = pool(3);
        let alive = Arc::new(());
        thread_local!(static HELD: std::cell::RefCell<Option<Arc<()>>> = const { std::cell::RefCell::new(None) });
        pool.each((0..64).collect(), |_: i32| {
            HELD.with(|held| *held.borrow_mut() = Some(alive.clone()));
        });
        drop(pool);
        assert_eq!(Arc::strong_count(&alive), 1);
    }
}
