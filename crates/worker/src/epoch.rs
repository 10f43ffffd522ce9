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

use spec::{Fence, Term};
use tokio_util::sync::CancellationToken;

/// The worker's view of epochs. `T` is what a ready epoch needs to run.
#[derive(Debug)]
pub struct Epochs<T> {
    obeyed: Fence,
    /// Which start of a coordinator is obeyed in this term; 0 for anybody.
    lead: u64,
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
pub enum Stale {
    /// It is not the newest.
    #[error("epoch {got} does not come after epoch {obeyed}, which this worker obeys (term.epoch)")]
    Older {
        /// Highest fence obeyed.
        obeyed: Fence,
        /// Fence of the request.
        got: Fence,
    },
    /// Another lead is obeyed in this term. That happens where the store of terms has lost everything.
    #[error("term {term} is another lead's, whom this worker obeys; take a higher one")]
    Shared {
        /// The term of both.
        term: Term,
    },
}

/// Why an epoch cannot be run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
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
    pub fn new(root: &CancellationToken) -> Self {
        Self {
            obeyed: Fence::default(),
            lead: 0,
            stage: Stage::None,
            alive: root.child_token(),
            root: root.clone(),
        }
    }

    /// Returns the highest fence obeyed; zero before the first.
    #[must_use]
    pub fn obeyed(&self) -> Fence {
        self.obeyed
    }

    /// Returns which start of a coordinator is obeyed in this term; 0 if it did not say.
    #[must_use]
    pub fn lead(&self) -> u64 {
        self.lead
    }

    /// Checks a fence without obeying it yet.
    ///
    /// # Errors
    ///
    /// [`Stale`] for a fence lower than the highest obeyed, or equal to it once it was prepared:
    /// frames of an epoch are taken from its one preparation to its end. Also for another lead in the
    /// term of the one that is obeyed.
    pub fn check(&self, got: Fence, lead: u64) -> Result<(), Stale> {
        let (obeyed, term) = (self.obeyed, got.term);
        if term == obeyed.term && self.lead != 0 && lead != 0 && lead != self.lead {
            return Err(Stale::Shared { term });
        }
        let again = got == obeyed && !matches!(self.stage, Stage::None | Stage::Preparing);
        if got < obeyed || again {
            return Err(Stale::Older { obeyed, got });
        }
        Ok(())
    }

    /// Returns whether the epoch is ready to run, or runs.
    pub fn is_ready(&self) -> bool {
        matches!(self.stage, Stage::Ready(_) | Stage::Running) && !self.alive.is_cancelled()
    }

    /// Returns the token that is cancelled when the epoch obeyed now is over.
    pub fn alive(&self) -> CancellationToken {
        self.alive.clone()
    }

    /// Begins to prepare an epoch and ends the one before, at whatever stage it is. Returns the
    /// token that is cancelled when the new one is over.
    ///
    /// # Errors
    ///
    /// As [`Epochs::check`].
    pub fn prepare(&mut self, fence: Fence, lead: u64) -> Result<CancellationToken, Stale> {
        self.check(fence, lead)?;
        self.alive.cancel();
        self.alive = self.root.child_token();
        // One that does not say who it is may be the one that is obeyed.
        if lead != 0 || fence.term > self.obeyed.term {
            self.lead = lead;
        }
        self.obeyed = fence;
        self.stage = Stage::Preparing;
        Ok(self.alive())
    }

    /// Ends a preparation, unless another has begun since (`alive` is the token of this one).
    pub fn ready(&mut self, alive: &CancellationToken, run: T) -> bool {
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
    pub fn run(&mut self, fence: Fence) -> Result<(T, CancellationToken), NotReady> {
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
    pub fn end(&mut self, alive: &CancellationToken) {
        if !alive.is_cancelled() {
            alive.cancel();
            self.stage = Stage::Spent;
        }
    }
}

#[cfg(test)]
mod tests {
    use spec::Epoch;

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
        epochs.prepare(fence(2, 3), 1).unwrap();
        for low in [fence(2, 2), fence(1, 9)] {
            let stale = epochs.prepare(low, 1).unwrap_err().to_string();
            assert!(
                stale.contains(&low.to_string()) && stale.contains("2.3"),
                "{stale}"
            );
        }
        epochs.prepare(fence(3, 1), 1).unwrap();
        assert_eq!(epochs.obeyed(), fence(3, 1));
    }

    #[test]
    fn one_lead_is_obeyed_in_a_term() {
        let mut epochs = epochs::<()>();
        epochs.prepare(fence(2, 1), 7).unwrap();
        let shared = Stale::Shared { term: Term(2) };
        assert_eq!(epochs.prepare(fence(2, 2), 8).unwrap_err(), shared);
        assert_eq!((epochs.obeyed(), epochs.lead()), (fence(2, 1), 7));
        epochs.prepare(fence(2, 2), 7).unwrap();
        epochs.prepare(fence(3, 1), 8).unwrap();
        assert_eq!(epochs.lead(), 8);
        // One that does not say who it is, as leads of earlier builds.
        epochs.prepare(fence(3, 2), 0).unwrap();
        assert_eq!(epochs.lead(), 8);
    }

    #[test]
    fn an_epoch_is_prepared_again_only_while_it_is_not_ready() {
        let mut epochs = epochs();
        epochs.prepare(fence(1, 1), 1).unwrap();
        let alive = epochs.prepare(fence(1, 1), 1).unwrap();
        assert!(epochs.ready(&alive, ()));
        assert!(epochs.prepare(fence(1, 1), 1).is_err());
        assert!(
            !alive.is_cancelled(),
            "a refused request must not end what runs"
        );
    }

    #[test]
    fn an_epoch_is_run_once_and_only_when_ready() {
        let mut epochs = epochs();
        let alive = epochs.prepare(fence(1, 1), 1).unwrap();
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
        let old = epochs.prepare(fence(1, 1), 1).unwrap();
        let new = epochs.prepare(fence(1, 2), 1).unwrap();
        assert!(old.is_cancelled());
        assert!(!epochs.ready(&old, ()), "the old one must not become ready");
        assert!(epochs.ready(&new, ()));
        let (_, running) = epochs.run(fence(1, 2)).unwrap();
        let newer = epochs.prepare(fence(2, 1), 1).unwrap();
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
        let alive = epochs.prepare(fence(1, 1), 1).unwrap();
        root.cancel();
        assert!(alive.is_cancelled());
        assert!(epochs.prepare(fence(1, 2), 1).unwrap().is_cancelled());
    }

    #[test]
    fn an_epoch_is_ready_until_it_or_its_run_ends() {
        let mut epochs = epochs();
        assert!(!epochs.is_ready());
        let alive = epochs.prepare(fence(1, 1), 1).unwrap();
        assert!(!epochs.is_ready());
        epochs.ready(&alive, ());
        assert!(epochs.is_ready());
        epochs.run(fence(1, 1)).unwrap();
        assert!(epochs.is_ready());
        epochs.end(&alive);
        assert!(!epochs.is_ready());
        let alive = epochs.prepare(fence(1, 2), 1).unwrap();
        epochs.ready(&alive, ());
        epochs.prepare(fence(1, 3), 1).unwrap();
        assert!(!epochs.is_ready());
    }
}
