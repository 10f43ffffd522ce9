//! Long work on several threads, with progress and a way to stop.

use std::ops::ControlFlow;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use crate::error::Error;

/// Bytes after which work reports its progress and looks whether it should stop.
pub(crate) const CHUNK: usize = 4 << 20;

/// How far a long piece of work is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes done.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// Is told of progress on the calling thread, and stops the work with [`ControlFlow::Break`].
pub type Watch<'a> = dyn FnMut(Progress) -> ControlFlow<()> + 'a;

/// A worker thread's line to the caller.
pub(crate) struct Line<'a> {
    sender: mpsc::Sender<Result<u64, Error>>,
    stop: &'a AtomicBool,
}

impl Line<'_> {
    /// Reports bytes done; an error means that the work should stop.
    pub(crate) fn report(&self, bytes: u64) -> Result<(), Error> {
        let heard = self.sender.send(Ok(bytes)).is_ok();
        if heard && !self.stop.load(Ordering::Relaxed) {
            Ok(())
        } else {
            Err(Error::Cancelled)
        }
    }
}

/// Does every job once, each on some thread. The first failure stops the rest and is returned.
pub(crate) fn run<J: Send>(
    jobs: Vec<J>,
    threads: usize,
    total: u64,
    watch: &mut Watch<'_>,
    work: impl Fn(J, &Line<'_>) -> Result<(), Error> + Sync,
) -> Result<(), Error> {
    let threads = threads.clamp(1, jobs.len().max(1));
    let queue = Mutex::new(jobs.into_iter());
    let next = || queue.lock().expect("taking a job does not panic").next();
    let stop = AtomicBool::new(false);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..threads {
            let line = Line {
                sender: sender.clone(),
                stop: &stop,
            };
            let (next, work) = (&next, &work);
            scope.spawn(move || {
                while let Some(job) = next() {
                    if let Err(error) = work(job, &line) {
                        // The caller listens until every thread is gone, so this is heard.
                        line.sender.send(Err(error)).unwrap_or_default();
                        return;
                    }
                }
            });
        }
        drop(sender);
        let mut done = 0;
        let mut outcome = Ok(());
        for message in receiver {
            let error = match message {
                Ok(bytes) => {
                    done += bytes;
                    let told = watch(Progress { done, total });
                    told.is_break().then_some(Error::Cancelled)
                }
                Err(error) => Some(error),
            };
            if let Some(error) = error {
                stop.store(true, Ordering::Relaxed);
                // Later errors are mostly the echo of the first: threads that were told to stop.
                if outcome.is_ok() {
                    outcome = Err(error);
                }
            }
        }
        outcome
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn does_every_job_once_on_any_number_of_threads() {
        for threads in [1, 2, 7] {
            let seen = Mutex::new(vec![0; 20]);
            let mut last = None;
            let mut watch = |progress| {
                last = Some(progress);
                ControlFlow::Continue(())
            };
            run((0..20).collect(), threads, 20, &mut watch, |job, line| {
                seen.lock().unwrap()[job] += 1;
                line.report(1)
            })
            .unwrap();
            assert_eq!(seen.into_inner().unwrap(), vec![1; 20]);
            assert_eq!(
                last,
                Some(Progress {
                    done: 20,
                    total: 20
                })
            );
        }
    }

    #[test]
    fn stops_when_the_watch_says_so() {
        let jobs = (0..1000).collect();
        let mut watch = |_| ControlFlow::Break(());
        let done = Mutex::new(0);
        let outcome = run(jobs, 1, 1000, &mut watch, |_: i32, line| {
            *done.lock().unwrap() += 1;
            // Waits until the caller has heard, so that the test does not depend on timing.
            while line.report(1).is_ok() {}
            Err(Error::Cancelled)
        });
        assert!(matches!(outcome, Err(Error::Cancelled)));
        assert_eq!(*done.lock().unwrap(), 1);
    }
}
