//! Which epoch a worker obeys and what it may do in it; knows no socket and no thread.
//!
//! ```text
//! (none) --prepare--> preparing --ready--> ready --run--> running --end--> spent
//!    ^                    |                  |               |              |
//!    `-------- prepare with a higher fence, from anywhere ------------------'
//! ```
//!
//! An epoch is run once: a run that ended left a step void somewhere, and only a new preparation
//! brings all ranks back to one state.

use spec::Fence;
use tokio_util::sync::CancellationToken;

/// The worker's view of epochs. `T` is what a ready epoch needs to run.
#[derive(Debug)]
pub(crate) struct Epochs<T> {
    obeyed: Fence,
    stage: Stage<T>,
    /// Ends whatever belongs to `obeyed`.
    alive: CancellationToken,
    /// Ends every epoch, also those to come.
    root: CancellationToken,
}

#[derive(Debug)]
enum Stage<T> {
    None,
    Preparing,
    Ready(T),
    Running,
    Spent,
}

/// A preparation of an epoch that is over or was entered before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("epoch {got} does not come after epoch {obeyed}, which this worker obeys (term.epoch)")]
pub(crate) struct Stale {
    /// Highest fence obeyed.
    pub(crate) obeyed: Fence,
    /// Fence of the request.
    pub(crate) got: Fence,
}

/// Why an epoch cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotReady {
    /// Another epoch is obeyed.
    #[error("epoch {got} cannot be run: this worker obeys epoch {obeyed} (term.epoch)")]
    Other {
        /// Highest fence obeyed.
        obeyed: Fence,
        /// Fence of the request.
        got: Fence,
    },
    /// Its preparation has not ended.
    #[error("epoch {0} is not prepared yet")]
    Preparing(Fence),
    /// It has had its run.
    #[error("epoch {0} is run once, and was; prepare the next")]
    Spent(Fence),
}

impl<T> Epochs<T> {
    /// Returns the view of a worker that has not been told anything; `root` ends every epoch.
    pub(crate) fn new(root: &CancellationToken) -> Self {
        Self {
            obeyed: Fence::default(),
            stage: Stage::None,
            alive: root.child_token(),
            root: root.clone(),
        }
    }

    /// Returns the highest fence obeyed; zero before the first.
    pub(crate) fn obeyed(&self) -> Fence {
        self.obeyed
    }

    /// Checks a fence without obeying it yet.
    ///
    /// # Errors
    ///
    /// [`Stale`] for a fence lower than the highest obeyed, or equal to it once it was prepared:
    /// frames of an epoch are taken from its one preparation to its end.
    pub(crate) fn check(&self, got: Fence) -> Result<(), Stale> {
        let obeyed = self.obeyed;
        let again = got == obeyed && !matches!(self.stage, Stage::None | Stage::Preparing);
        if got < obeyed || again {
            return Err(Stale { obeyed, got });
        }
        Ok(())
    }

    /// Returns whether the epoch is ready to run, or runs.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_) | Stage::Running) && !self.alive.is_cancelled()
    }

    /// Returns the token that is cancelled when the epoch obeyed now is over.
    pub(crate) fn alive(&self) -> CancellationToken {
        self.alive.clone()
    }

    /// Begins to prepare an epoch and ends the one before, at whatever stage it is. Returns the
    /// token that is cancelled when the new one is over.
    ///
    /// # Errors
    ///
    /// As [`Epochs::check`].
    pub(crate) fn prepare(&mut self, fence: Fence) -> Result<CancellationToken, Stale> {
        self.check(fence)?;
        self.alive.cancel();
        self.alive = self.root.child_token();
        self.obeyed = fence;
        self.stage = Stage::Preparing;
        Ok(self.alive())
    }

    /// Ends a preparation, unless another has begun since (`alive` is the token of this one).
    pub(crate) fn ready(&mut self, alive: &CancellationToken, run: T) -> bool {
        if alive.is_cancelled() {
            return false;
        }
        self.stage = Stage::Ready(run);
        true
    }

    /// Begins the run of the prepared epoch.
    ///
    /// # Errors
    ///
    /// [`NotReady`] if `fence` is not exactly the prepared epoch, or it was run before.
    pub(crate) fn run(&mut self, fence: Fence) -> Result<(T, CancellationToken), NotReady> {
        if fence != self.obeyed {
            let obeyed = self.obeyed;
            return Err(NotReady::Other { obeyed, got: fence });
        }
        match std::mem::replace(&mut self.stage, Stage::Running) {
            Stage::Ready(run) => Ok((run, self.alive.clone())),
            other => {
                let refusal = match other {
                    Stage::None | Stage::Preparing => NotReady::Preparing(fence),
                    _ => NotReady::Spent(fence),
                };
                self.stage = other;
                Err(refusal)
            }
        }
    }

    /// Ends the run that `alive` belongs to, unless another epoch has begun since.
    pub(crate) fn end(&mut self, alive: &CancellationToken) {
        if !alive.is_cancelled() {
            alive.cancel();
            self.stage = Stage::Spent;
        }
    }
}

#[cfg(test)]
mod tests {
    use spec::{Epoch, Term};

    use super::*;

    fn fence(term: u64, epoch: u64) -> Fence {
        Fence {
            term: Term(term),
            epoch: Epoch(epoch),
        }
    }

    fn epochs<T>() -> Epochs<T> {
        Epochs::new(&CancellationToken::new())
    }

    #[test]
    fn a_lower_term_or_epoch_is_refused_naming_both() {
        let mut epochs = epochs::<()>();
        epochs.prepare(fence(2, 3)).unwrap();
        for low in [fence(2, 2), fence(1, 9)] {
            let stale = epochs.prepare(low).unwrap_err().to_string();
            assert!(
                stale.contains(&low.to_string()) && stale.contains("2.3"),
                "{stale}"
            );
        }
        epochs.prepare(fence(3, 1)).unwrap();
        assert_eq!(epochs.obeyed(), fence(3, 1));
    }

    #[test]
    fn an_epoch_is_prepared_again_only_while_it_is_not_ready() {
        let mut epochs = epochs();
        epochs.prepare(fence(1, 1)).unwrap();
        let alive = epochs.prepare(fence(1, 1)).unwrap();
        assert!(epochs.ready(&alive, ()));
        assert!(epochs.prepare(fence(1, 1)).is_err());
        assert!(
            !alive.is_cancelled(),
            "a refused request must not end what runs"
        );
    }

    #[test]
    fn an_epoch_is_run_once_and_only_when_ready() {
        let mut epochs = epochs();
        let alive = epochs.prepare(fence(1, 1)).unwrap();
        assert_eq!(
            epochs.run(fence(1, 1)).unwrap_err(),
            NotReady::Preparing(fence(1, 1))
        );
        assert!(epochs.ready(&alive, 7));
        assert!(matches!(
            epochs.run(fence(1, 2)).unwrap_err(),
            NotReady::Other { .. }
        ));
        let (run, alive) = epochs.run(fence(1, 1)).unwrap();
        assert_eq!(run, 7);
        assert_eq!(
            epochs.run(fence(1, 1)).unwrap_err(),
            NotReady::Spent(fence(1, 1))
        );
        epochs.end(&alive);
        assert!(alive.is_cancelled());
        assert_eq!(
            epochs.run(fence(1, 1)).unwrap_err(),
            NotReady::Spent(fence(1, 1))
        );
    }

    #[test]
    fn a_new_preparation_ends_the_one_before() {
        let mut epochs = epochs();
        let old = epochs.prepare(fence(1, 1)).unwrap();
        let new = epochs.prepare(fence(1, 2)).unwrap();
        assert!(old.is_cancelled());
        assert!(!epochs.ready(&old, ()), "the old one must not become ready");
        assert!(epochs.ready(&new, ()));
        let (_, running) = epochs.run(fence(1, 2)).unwrap();
        let newer = epochs.prepare(fence(2, 1)).unwrap();
        assert!(running.is_cancelled());
        epochs.end(&running);
        assert!(
            !newer.is_cancelled(),
            "the end of an old run must not end the new epoch"
        );
    }

    #[test]
    fn the_end_of_the_worker_ends_every_epoch() {
        let root = CancellationToken::new();
        let mut epochs = Epochs::<()>::new(&root);
        let alive = epochs.prepare(fence(1, 1)).unwrap();
        root.cancel();
        assert!(alive.is_cancelled());
        assert!(epochs.prepare(fence(1, 2)).unwrap().is_cancelled());
    }

    #[test]
    fn an_epoch_is_ready_until_it_or_its_run_ends() {
        let mut epochs = epochs();
        assert!(!epochs.is_ready());
        let alive = epochs.prepare(fence(1, 1)).unwrap();
        assert!(!epochs.is_ready());
        epochs.ready(&alive, ());
        assert!(epochs.is_ready());
        epochs.run(fence(1, 1)).unwrap();
        assert!(epochs.is_ready());
        epochs.end(&alive);
        assert!(!epochs.is_ready());
        let alive = epochs.prepare(fence(1, 2)).unwrap();
        epochs.ready(&alive, ());
        epochs.prepare(fence(1, 3)).unwrap();
        assert!(!epochs.is_ready());
    }
}
