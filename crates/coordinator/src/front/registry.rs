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

    /// Tells a live generation to stop; returns the state it is in then.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownGeneration`].
    pub(super) fn cancel(&self, id: &str) -> Result<GenerationState, Error> {
        let generations = self.lock();
        if let Some(live) = generations.live.get(id) {
            live.cancel.cancel();
            return Ok(GenerationState::Cancelled);
        }
        let ended = generations.ended.get(id).map(|standing| standing.state);
        ended.ok_or_else(|| Error::UnknownGeneration { id: id.to_owned() })
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
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut standing = self.standing.clone();
        let live = [
            GenerationState::Queued,
            GenerationState::Prefilling,
            GenerationState::Decoding,
        ];
        if live.contains(&standing.state) {
            standing.state = GenerationState::Cancelled;
        }
        self.registry.leave(&self.id, standing);
    }
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
    fn an_ended_generation_keeps_its_outcome_when_cancelled() {
        let registry = Registry::new(8, 8);
        let mut ticket = registry.enter("a", 3).unwrap();
        ticket.note(|standing| standing.state = GenerationState::Succeeded);
        drop(ticket);
        assert_eq!(registry.cancel("a").unwrap(), GenerationState::Succeeded);
        assert!(matches!(
            registry.cancel("b"),
            Err(Error::UnknownGeneration { .. })
        ));
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
