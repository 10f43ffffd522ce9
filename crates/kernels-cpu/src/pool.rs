//! A rank's threads.

mod queue;

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{hint, io, thread};

use rayon::Yield;

use self::queue::Queue;
use crate::cores::{Cores, bind};

/// How long a thread without work keeps looking for some, before it sleeps and has to be woken: longer
/// than the calls of a step are apart, unless it waits for other ranks.
const AWAKE: Duration = Duration::from_micros(100);

/// How much of that it gives to no other thread of the machine.
const BUSY: Duration = Duration::from_micros(20);

/// Threads that share the items of one call at a time.
///
/// A call from one of the threads themselves is the fast one: see [`Pool::host`]. Threads that have
/// nothing to do sleep soon, so that several ranks fit on one machine. A panic in an item reaches the
/// caller. Dropping the pool waits for its threads to end.
pub(crate) struct Pool {
    /// `None` for one thread that is not bound: the caller's own does the work.
    threads: Option<rayon::ThreadPool>,
    handles: Vec<thread::JoinHandle<()>>,
    /// Whether the threads were told to stay awake, and none has gone to sleep since.
    is_awake: Arc<AtomicBool>,
}

thread_local! {
    /// Whether this thread shares out items, or looks for work already: it must not begin to look for work.
    static IS_TAKEN: Cell<bool> = const { Cell::new(false) };
}

impl Pool {
    /// # Panics
    ///
    /// If the system refuses to start a thread.
    pub(crate) fn new(threads: NonZeroUsize) -> Self {
        match threads.get() {
            1 => Self {
                threads: None,
                handles: Vec::new(),
                is_awake: Arc::default(),
            },
            many => Self::start(many),
        }
    }

    /// Starts a thread for each core, bound to it: also where it is one alone.
    ///
    /// # Errors
    ///
    /// If the system refuses to bind one.
    ///
    /// # Panics
    ///
    /// If the system refuses to start a thread.
    pub(crate) fn bound(cores: &Cores) -> io::Result<Self> {
        let cores = cores.list();
        let pool = Self::start(cores.len());
        if let Some(threads) = &pool.threads {
            let bound = threads.broadcast(|thread| bind(&[cores[thread.index()]]));
            bound.into_iter().collect::<io::Result<()>>()?;
        }
        Ok(pool)
    }

    fn start(threads: usize) -> Self {
        let mut handles = Vec::new();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
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
            is_awake: Arc::default(),
        }
    }

    pub(crate) fn num_threads(&self) -> usize {
        self.threads
            .as_ref()
            .map_or(1, rayon::ThreadPool::current_num_threads)
    }

    /// Runs what makes many calls on one of the threads: each call then begins without another one having
    /// to be woken, and waited for in sleep. Meanwhile nobody else makes calls.
    pub(crate) fn host(&self, work: Box<dyn FnOnce() + Send + '_>) {
        match &self.threads {
            Some(pool) => pool.install(work),
            None => work(),
        }
    }

    /// Runs `work` on every item; which thread takes which item is open.
    pub(crate) fn each<T: Send>(&self, items: Vec<T>, work: impl Fn(T) + Send + Sync) {
        match &self.threads {
            Some(pool) if items.len() > 1 => match pool.current_thread_index() {
                Some(_) => self.share(pool, items, work),
                None => pool.install(|| self.share(pool, items, work)),
            },
            _ => items.into_iter().for_each(work),
        }
    }

    /// Does what [`Pool::each`] does, on one of the threads. The others take items too as soon as they
    /// notice; none waits for another before the end.
    fn share<T: Send>(
        &self,
        pool: &rayon::ThreadPool,
        items: Vec<T>,
        work: impl Fn(T) + Send + Sync,
    ) {
        let taken = Taken::new();
        let others = items.len().min(pool.current_num_threads()) - 1;
        let (queue, at_work) = (Queue::new(items, others + 1), AtomicUsize::new(0));
        let (queue, at_work, work) = (&queue, &at_work, &work);
        rayon::in_place_scope(|scope| {
            for _ in 0..others {
                scope.spawn(|_| {
                    let _guard = AtWork::count(at_work);
                    queue.drain(work);
                });
            }
            queue.drain(work);
            // The scope's own wait would soon sleep.
            let since = Instant::now();
            while at_work.load(Ordering::Relaxed) > 0 && since.elapsed() < AWAKE {
                hint::spin_loop();
            }
        });
        drop(taken);
        if !self.is_awake.swap(true, Ordering::Relaxed) {
            let is_awake = Arc::clone(&self.is_awake);
            pool.spawn_broadcast(move |_| stay_awake(&is_awake));
        }
    }
}

/// Counts a thread for as long as it takes items, also if one panics.
struct AtWork<'a>(&'a AtomicUsize);

impl<'a> AtWork<'a> {
    fn count(at_work: &'a AtomicUsize) -> Self {
        at_work.fetch_add(1, Ordering::Relaxed);
        Self(at_work)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Marks the thread as taken for as long as it lives, also if an item panics.
struct Taken {
    before: bool,
}

impl Taken {
    fn new() -> Self {
        Self {
            before: IS_TAKEN.replace(true),
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        IS_TAKEN.set(self.before);
    }
}

/// Takes up work until there was none for [`AWAKE`].
fn stay_awake(is_awake: &AtomicBool) {
    if IS_TAKEN.get() {
        return;
    }
    let _taken = Taken::new();
    let mut since = Instant::now();
    loop {
        if rayon::yield_now() == Some(Yield::Executed) {
            since = Instant::now();
            continue;
        }
        match since.elapsed() {
            idle if idle > AWAKE => break,
            idle if idle > BUSY => thread::yield_now(),
            _ => hint::spin_loop(),
        }
    }
    is_awake.store(false, Ordering::Relaxed);
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
    fn a_hosted_caller_shares_every_call_with_the_others() {
        for threads in 1..=4 {
            let pool = pool(threads);
            let mut counts = vec![0; 64];
            pool.host(Box::new(|| {
                for call in 0..300 {
                    // Now and then they have gone to sleep.
                    if call % 50 == 49 {
                        thread::sleep(10 * AWAKE);
                    }
                    pool.each(counts.iter_mut().collect(), |count: &mut i32| *count += 1);
                }
            }));
            assert!(counts.iter().all(|&count| count == 300));
        }
    }

    #[test]
    fn a_hosted_caller_is_helped() {
        // Each item waits for the other: one thread alone would never end.
        let pool = pool(2);
        let met = std::sync::Barrier::new(2);
        pool.host(Box::new(|| {
            for _ in 0..100 {
                pool.each(vec![(), ()], |()| {
                    met.wait();
                });
            }
        }));
    }

    #[test]
    fn threads_stay_on_the_cores_that_they_are_bound_to() {
        let all = Cores::of_this_thread().unwrap();
        let pool = Pool::bound(&all).unwrap();
        assert_eq!(pool.num_threads(), all.list().len());
        let allowed = pool.threads.as_ref().unwrap().broadcast(|thread| {
            let allowed = Cores::of_this_thread().unwrap();
            (thread.index(), allowed.list().to_vec())
        });
        for (thread, allowed) in allowed {
            assert_eq!(allowed, [all.list()[thread]]);
        }
        let core = all.list()[0];
        let mut counts = vec![0; 9];
        let one = Pool::bound(&core.to_string().parse().unwrap()).unwrap();
        one.host(Box::new(|| {
            assert_eq!(Cores::of_this_thread().unwrap().list(), [core]);
            one.each(counts.iter_mut().collect(), |count: &mut i32| *count += 1);
        }));
        assert_eq!(counts, [1; 9]);
        // The caller may go where it could.
        assert_eq!(Cores::of_this_thread().unwrap(), all);
        let none = (crate::cores::MAX - 1).to_string();
        assert!(Pool::bound(&none.parse().unwrap()).is_err());
    }

    #[test]
    fn passes_a_panic_on_and_stays_usable() {
        for threads in 1..=3 {
            let pool = pool(threads);
            let failing = || pool.each((0..9).collect(), |i: i32| assert!(i != 5, "five"));
            assert!(catch_unwind(AssertUnwindSafe(failing)).is_err());
            let hosted = || pool.host(Box::new(failing));
            assert!(catch_unwind(AssertUnwindSafe(hosted)).is_err());
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
