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
    /// First of the epochs without a gap up to `obeyed`.
    since: Fence,
}

/// An epoch whose preparation has begun.
#[derive(Clone, Debug)]
pub(crate) struct Begun {
    /// Cancelled when the epoch is over.
    pub(crate) alive: CancellationToken,
    /// This worker was a member of every epoch from this one on. In a gap another worker may have
    /// held its ranks, so what it computed before the gap is not what the group knows.
    pub(crate) since: Fence,
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
            since: Fence::default(),
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

    /// Begins to prepare an epoch and ends the one before, at whatever stage it is.
    ///
    /// # Errors
    ///
    /// As [`Epochs::check`].
    pub(crate) fn prepare(&mut self, fence: Fence) -> Result<Begun, Stale> {
        self.check(fence)?;
        let next = self.obeyed.epoch.0.saturating_add(1);
        if fence.term != self.obeyed.term || fence.epoch.0 > next {
            self.since = fence;
        }
        self.alive.cancel();
        self.alive = self.root.child_token();
        self.obeyed = fence;
        self.stage = Stage::Preparing;
        Ok(Begun {
            alive: self.alive.clone(),
            since: self.since,
        })
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
        let alive = epochs.prepare(fence(1, 1)).unwrap().alive;
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
        let alive = epochs.prepare(fence(1, 1)).unwrap().alive;
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
        let old = epochs.prepare(fence(1, 1)).unwrap().alive;
        let new = epochs.prepare(fence(1, 2)).unwrap().alive;
        assert!(old.is_cancelled());
        assert!(!epochs.ready(&old, ()), "the old one must not become ready");
        assert!(epochs.ready(&new, ()));
        let (_, running) = epochs.run(fence(1, 2)).unwrap();
        let newer = epochs.prepare(fence(2, 1)).unwrap().alive;
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
        let alive = epochs.prepare(fence(1, 1)).unwrap().alive;
        root.cancel();
        assert!(alive.is_cancelled());
        assert!(epochs.prepare(fence(1, 2)).unwrap().alive.is_cancelled());
    }

    #[test]
    fn a_gap_or_another_term_begins_anew() {
        let mut epochs = epochs::<()>();
        let mut since = |term, epoch| epochs.prepare(fence(term, epoch)).unwrap().since;
        assert_eq!(since(1, 3), fence(1, 3));
        assert_eq!(since(1, 4), fence(1, 3));
        assert_eq!(since(1, 4), fence(1, 3));
        assert_eq!(since(1, 5), fence(1, 3));
        assert_eq!(since(1, 7), fence(1, 7));
        assert_eq!(since(2, 8), fence(2, 8));
    }
}
