//! The generations of this front by id: all live ones, and the last that ended.
//!
//! A live generation holds a [`Ticket`]; dropping it without an outcome means that its client left.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use proto::v1::{GenerationState, Usage};
use tokio_util::sync::CancellationToken;

use super::error::Error;

/// Where a generation is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Standing {
    /// What it is doing, or how it ended.
    pub(super) state: GenerationState,
    /// Number of the last event that was sent.
    pub(super) last_sequence: u64,
    /// Tokens used so far.
    pub(super) usage: Usage,
}

/// All generations that a client may ask about. Bounded by its two limits.
#[derive(Debug)]
pub(super) struct Registry {
    max_live: usize,
    max_ended: usize,
    generations: Mutex<Generations>,
}

#[derive(Debug, Default)]
struct Generations {
    live: HashMap<String, Live>,
    ended: HashMap<String, Standing>,
    /// Ids of the ended ones, oldest first.
    order: VecDeque<String>,
}

#[derive(Debug)]
struct Live {
    standing: Standing,
    cancel: CancellationToken,
}

impl Registry {
    /// Makes an empty registry.
    pub(super) fn new(max_live: usize, max_ended: usize) -> Arc<Self> {
        Arc::new(Self {
            max_live,
            max_ended,
            generations: Mutex::default(),
        })
    }

    /// Enters a generation.
    ///
    /// # Errors
    ///
    /// [`Error::IdInUse`] and [`Error::TooManyLive`].
    pub(super) fn enter(self: &Arc<Self>, id: &str, prompt_tokens: u32) -> Result<Ticket, Error> {
        let mut generations = self.lock();
        if generations.live.contains_key(id) {
            return Err(Error::IdInUse { id: id.to_owned() });
        }
        if generations.live.len() >= self.max_live {
            return Err(Error::TooManyLive {
                limit: self.max_live,
            });
        }
        let usage = Usage {
            prompt_tokens,
            ..Usage::default()
        };
        let standing = Standing {
            state: GenerationState::Queued,
            last_sequence: 0,
            usage,
        };
        let cancel = CancellationToken::new();
        let live = Live {
            standing: standing.clone(),
            cancel: cancel.clone(),
        };
        generations.live.insert(id.to_owned(), live);
        Ok(Ticket {
            registry: Arc::clone(self),
            id: id.to_owned(),
            standing,
            cancel,
        })
    }

    /// Returns where a generation is.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGeneration`].
    pub(super) fn standing(&self, id: &str) -> Result<Standing, Error> {
        let generations = self.lock();
        let live = generations.live.get(id).map(|live| &live.standing);
        let found = live.or_else(|| generations.ended.get(id));
        found
            .cloned()
            .ok_or_else(|| Error::UnknownGeneration { id: id.to_owned() })
    }

    /// Tells a generation to stop, unless its outcome is settled; returns the state it ends in.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGeneration`].
    pub(super) fn cancel(&self, id: &str) -> Result<GenerationState, Error> {
        let generations = self.lock();
        let live = generations.live.get(id);
        if let Some(live) = live.filter(|live| is_open(live.standing.state)) {
            live.cancel.cancel();
            return Ok(GenerationState::Cancelled);
        }
        let settled = live.map(|live| &live.standing);
        let settled = settled.or_else(|| generations.ended.get(id));
        settled
            .map(|standing| standing.state)
            .ok_or_else(|| Error::UnknownGeneration { id: id.to_owned() })
    }

    fn leave(&self, id: &str, standing: Standing) {
        let mut generations = self.lock();
        generations.live.remove(id);
        if generations.ended.insert(id.to_owned(), standing).is_some() {
            generations.order.retain(|ended| ended != id);
        }
        generations.order.push_back(id.to_owned());
        if generations.order.len() > self.max_ended
            && let Some(oldest) = generations.order.pop_front()
        {
            generations.ended.remove(&oldest);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        // Nothing panics while the lock is held, so the maps are whole even if it is poisoned.
        self.generations
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A live generation's place in the registry.
#[derive(Debug)]
pub(super) struct Ticket {
    registry: Arc<Registry>,
    id: String,
    standing: Standing,
    cancel: CancellationToken,
}

impl Ticket {
    /// Returns the generation's id.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Returns where the generation is.
    pub(super) fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Returns what is cancelled when somebody asks for it.
    pub(super) fn cancelled(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Changes where the generation is.
    pub(super) fn note(&mut self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.standing);
        if let Some(live) = self.registry.lock().live.get_mut(&self.id) {
            live.standing.clone_from(&self.standing);
        }
    }

    /// Settles how the generation ends; the first outcome stays.
    ///
    /// Returns what counts: who was told that it is cancelled was told the truth.
    pub(super) fn settle(&mut self, outcome: GenerationState) -> GenerationState {
        let mut generations = self.registry.lock();
        if is_open(self.standing.state) {
            self.standing.state = match self.cancel.is_cancelled() {
                true => GenerationState::Cancelled,
                false => outcome,
            };
        }
        if let Some(live) = generations.live.get_mut(&self.id) {
            live.standing.clone_from(&self.standing);
        }
        self.standing.state
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        // A mistake of ours is not the client's leaving.
        self.settle(match std::thread::panicking() {
            true => GenerationState::Failed,
            false => GenerationState::Cancelled,
        });
        self.registry.leave(&self.id, self.standing.clone());
    }
}

/// Says whether a generation in this state may still end in any way.
fn is_open(state: GenerationState) -> bool {
    let open = [
        GenerationState::Queued,
        GenerationState::Prefilling,
        GenerationState::Decoding,
    ];
    open.contains(&state)
}

#[cfg(test)]
mod tests {
    use proto::v1::GenerationState;

    use super::{Error, Registry};

    #[test]
    fn a_dropped_ticket_is_a_cancelled_generation() {
        let registry = Registry::new(8, 8);
        let ticket = registry.enter("a", 3).unwrap();
        assert_eq!(
            registry.standing("a").unwrap().state,
            GenerationState::Queued
        );
        drop(ticket);
        let standing = registry.standing("a").unwrap();
        assert_eq!(standing.state, GenerationState::Cancelled);
        assert_eq!(standing.usage.prompt_tokens, 3);
    }

    #[test]
    fn a_generation_whose_task_panics_has_failed() {
        let registry = Registry::new(8, 8);
        let ticket = registry.enter("a", 3).unwrap();
        let panicked = std::panic::catch_unwind(move || {
            let _ticket = ticket;
            panic!("a mistake of ours");
        });
        assert!(panicked.is_err());
        let standing = registry.standing("a").unwrap();
        assert_eq!(standing.state, GenerationState::Failed);
    }

    #[test]
    fn an_ended_generation_keeps_its_outcome_when_cancelled() {
        let registry = Registry::new(8, 8);
        let mut ticket = registry.enter("a", 3).unwrap();
        ticket.settle(GenerationState::Succeeded);
        assert_eq!(registry.cancel("a").unwrap(), GenerationState::Succeeded);
        drop(ticket);
        assert_eq!(registry.cancel("a").unwrap(), GenerationState::Succeeded);
        assert!(matches!(
            registry.cancel("b"),
            Err(Error::UnknownGeneration { .. })
        ));
    }

    #[test]
    fn a_generation_that_was_said_to_be_cancelled_is() {
        let registry = Registry::new(8, 8);
        let mut ticket = registry.enter("a", 3).unwrap();
        for _ in 0..2 {
            assert_eq!(registry.cancel("a").unwrap(), GenerationState::Cancelled);
        }
        assert_eq!(
            ticket.settle(GenerationState::Succeeded),
            GenerationState::Cancelled
        );
        drop(ticket);
        assert_eq!(
            registry.standing("a").unwrap().state,
            GenerationState::Cancelled
        );
    }

    #[test]
    fn refuses_an_id_that_is_live_and_more_than_its_limit() {
        let registry = Registry::new(2, 8);
        let _a = registry.enter("a", 1).unwrap();
        assert!(matches!(registry.enter("a", 1), Err(Error::IdInUse { .. })));
        let b = registry.enter("b", 1).unwrap();
        assert!(matches!(
            registry.enter("c", 1),
            Err(Error::TooManyLive { limit: 2 })
        ));
        drop(b);
        assert!(registry.enter("c", 1).is_ok());
    }

    #[test]
    fn remembers_only_the_last_that_ended() {
        let registry = Registry::new(8, 2);
        for id in ["a", "b", "a", "c"] {
            drop(registry.enter(id, 1).unwrap());
        }
        assert!(registry.standing("b").is_err());
        assert!(registry.standing("a").is_ok());
        assert!(registry.standing("c").is_ok());
    }
}
