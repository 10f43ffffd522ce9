//! Where the frames of one rank arrive, and where it waits for them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kernels::{ExchangeError, Moment, Phase};
use spec::{Fence, Rank};

use crate::frame::MAX_FRAME_BYTES;
use crate::pause::Pause;
use crate::transport::Frame;

/// How many frames of one sender may lie here.
///
/// Two are enough. A rank sends its frames of exchange `x + 1` only when it has taken one of
/// exchange `x` from every rank, this one included; and this rank sends its own of `x` only when it
/// has taken all of `x - 1`. So while this rank has not yet taken a sender's frame of `x`, the
/// sender cannot have gone past the sending of `x + 1`: what lies here is of `x` and `x + 1`.
const MAX_FRAMES_AHEAD: usize = 2;

/// How long a rank of an in-process group waits for one frame.
///
/// Such a group has no lead that watches its progress, so this is its last resort against waiting
/// for ever.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// [`Inbox::waiting`] while nobody is waited for.
const NOBODY: u32 = u32::MAX;

/// Where the frames of one rank arrive, in one epoch.
///
/// Made anew for each epoch, so that neither a late frame nor a thread of an epoch that is over can
/// disturb the next. One thread takes; any thread delivers, aborts and looks.
#[derive(Debug)]
pub struct Inbox {
    fence: Fence,
    rank: Rank,
    /// The limit on each wait; `None` where somebody watches who aborts.
    patience: Option<Duration>,
    state: Mutex<State>,
    changed: Condvar,
    /// Rung with each change, for a rank that waits elsewhere.
    alarm: Option<Arc<dyn Alarm>>,
    /// The rank that is waited for, or [`NOBODY`].
    waiting: AtomicU32,
    /// Nanoseconds of all waits that have ended.
    waited: AtomicU64,
}

#[derive(Debug)]
struct State {
    aborted: bool,
    /// In rank order.
    senders: Vec<Sender>,
}

/// What is known of one sending rank.
#[derive(Debug, Default)]
struct Sender {
    frames: VecDeque<(Key, Bytes)>,
    /// The last frame that came.
    newest: Option<Key>,
    /// Why nothing more will come.
    lost: Option<String>,
}

/// The exchange that a frame belongs to. Ordered as the exchanges follow each other.
type Key = (Moment, Phase);

/// Why a frame was not taken in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It belongs to another epoch.
    #[error("the frame is of epoch {got}, but rank {rank} is in epoch {have}")]
    OtherEpoch {
        /// The receiver.
        rank: Rank,
        /// The receiver's epoch.
        have: Fence,
        /// The frame's.
        got: Fence,
    },
    /// The receiver has given the epoch up.
    #[error("the epoch has been aborted")]
    Aborted,
    /// It does not come from another rank of the group, or not to this one.
    #[error("rank {rank} of {num_ranks} takes no frame from rank {from} to rank {to}")]
    NotOurs {
        /// The receiver.
        rank: Rank,
        /// Ranks in the group.
        num_ranks: usize,
        /// Who the frame says it is from.
        from: Rank,
        /// Who the frame says it is for.
        to: Rank,
    },
    /// The sender has sent this one, or a later one, before.
    #[error("rank {from} sent {phase} of {moment} again, or too late")]
    Repeated {
        /// The sender.
        from: Rank,
        /// The exchange.
        phase: Phase,
        /// When.
        moment: Moment,
    },
    /// The sender runs ahead of what the schedule of exchanges allows.
    #[error("rank {from} sent {phase} of {moment} while {waiting} earlier frames wait")]
    TooFarAhead {
        /// The sender.
        from: Rank,
        /// How many wait.
        waiting: usize,
        /// The exchange.
        phase: Phase,
        /// When.
        moment: Moment,
    },
    /// It is longer than any frame may be.
    #[error("rank {from} sent a frame of {bytes} bytes; the limit is {MAX_FRAME_BYTES}")]
    TooLarge {
        /// The sender.
        from: Rank,
        /// Its length.
        bytes: usize,
    },
}

impl Inbox {
    /// Returns the inbox of `rank`, for the frames of `fence` alone.
    ///
    /// A wait there lasts until the frame comes, its sender is lost, or the epoch is aborted. It has
    /// no limit of its own: a peer may compute for minutes before it sends, and whether it still
    /// moves is known to the lead alone, which watches the progress of all ranks.
    #[must_use]
    pub fn enter(fence: Fence, rank: Rank, num_ranks: usize) -> Self {
        Self::new(fence, rank, num_ranks, None)
    }

    /// Like [`Inbox::enter`], with a limit for each wait: for groups that nobody watches.
    #[must_use]
    pub fn with_patience(fence: Fence, rank: Rank, num_ranks: usize, patience: Duration) -> Self {
        Self::new(fence, rank, num_ranks, Some(patience))
    }

    fn new(fence: Fence, rank: Rank, num_ranks: usize, patience: Option<Duration>) -> Self {
        let senders = (0..num_ranks).map(|_| Sender::default()).collect();
        Self {
            fence,
            rank,
            patience,
            state: Mutex::new(State {
                aborted: false,
                senders,
            }),
            changed: Condvar::new(),
            alarm: None,
            waiting: AtomicU32::new(NOBODY),
            waited: AtomicU64::new(0),
        }
    }

    /// Returns the inbox with what is rung with each change, for a rank that waits elsewhere.
    #[must_use]
    pub fn with_alarm(self, alarm: Arc<dyn Alarm>) -> Self {
        Self {
            alarm: Some(alarm),
            ..self
        }
    }

    /// Returns the epoch whose frames are taken.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.fence
    }

    /// Returns the rank that waits here.
    #[must_use]
    pub fn rank(&self) -> Rank {
        self.rank
    }

    /// Returns the rank that is waited for at this moment, if any. Never blocks.
    #[must_use]
    pub fn waiting_for(&self) -> Option<Rank> {
        let rank = self.waiting.load(Ordering::Relaxed);
        (rank != NOBODY).then_some(Rank(rank))
    }

    /// Returns how long the rank has waited for frames in all, a wait that goes on not counted.
    #[must_use]
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }

    /// Takes in a frame and wakes who waits for it.
    ///
    /// # Errors
    ///
    /// [`Refusal`]: the frame is dropped, and nothing else has changed.
    pub fn deliver(&self, frame: Frame) -> Result<(), Refusal> {
        let Frame {
            moment,
            phase,
            from,
            to,
            payload,
        } = frame;
        if moment.fence != self.fence {
            let (have, got) = (self.fence, moment.fence);
            return Err(Refusal::OtherEpoch {
                rank: self.rank,
                have,
                got,
            });
        }
        if payload.len() > MAX_FRAME_BYTES {
            return Err(Refusal::TooLarge {
                from,
                bytes: payload.len(),
            });
        }
        let mut state = self.lock();
        if state.aborted {
            return Err(Refusal::Aborted);
        }
        let num_ranks = state.senders.len();
        let sender = match state.senders.get_mut(from.index()) {
            Some(sender) if from != self.rank && to == self.rank => sender,
            _ => {
                return Err(Refusal::NotOurs {
                    rank: self.rank,
                    num_ranks,
                    from,
                    to,
                });
            }
        };
        let key = (moment, phase);
        if sender.newest >= Some(key) {
            return Err(Refusal::Repeated {
                from,
                phase,
                moment,
            });
        }
        let waiting = sender.frames.len();
        if waiting >= MAX_FRAMES_AHEAD {
            return Err(Refusal::TooFarAhead {
                from,
                waiting,
                phase,
                moment,
            });
        }
        sender.frames.push_back((key, payload));
        sender.newest = Some(key);
        drop(state);
        self.wake();
        Ok(())
    }

    /// Gives the epoch up: every wait, now and later, ends with [`ExchangeError::Aborted`].
    pub fn abort(&self) {
        let mut state = self.lock();
        state.aborted = true;
        for sender in &mut state.senders {
            sender.frames.clear();
        }
        drop(state);
        self.wake();
    }

    /// Notes that nothing more comes from `from`, and why; the first reason stays.
    ///
    /// A wait in an exchange whose frame from `from` has not come ends with
    /// [`ExchangeError::PeerLost`], whoever was waited for: that exchange cannot be completed.
    pub fn peer_lost(&self, from: Rank, why: &str) {
        let mut state = self.lock();
        if let Some(sender) = state.senders.get_mut(from.index()) {
            sender.lost.get_or_insert_with(|| why.to_owned());
        }
        drop(state);
        self.wake();
    }

    /// Waits for the frame of an exchange and returns its payload.
    ///
    /// # Errors
    ///
    /// [`ExchangeError`] if it does not come, or another one does.
    pub fn take(&self, exchange: Key, from: Rank) -> Result<Bytes, ExchangeError> {
        // The clock is read only where there is something to wait for.
        if let Some(taken) = self.poll(exchange, from) {
            return taken;
        }
        let waiting = self.waits_for(from);
        while waiting.pause.look_again() {
            if let Some(taken) = self.poll(exchange, from) {
                return taken;
            }
        }
        let mut state = self.lock();
        loop {
            if let Some(taken) = state.take(exchange, from) {
                return taken;
            }
            let Some(patience) = self.patience else {
                let woken = self.changed.wait(state);
                state = woken.unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = waiting.since.elapsed();
            let Some(left) = patience.checked_sub(waited) else {
                let (moment, phase) = exchange;
                return Err(ExchangeError::TimedOut {
                    peer: from,
                    waited,
                    phase,
                    moment,
                });
            };
            let woken = self.changed.wait_timeout(state, left);
            (state, _) = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Returns the outcome of waiting for the frame of an exchange, if there is one by now. Once it returned
    /// a frame, that one is taken.
    pub fn poll(&self, exchange: Key, from: Rank) -> Option<Result<Bytes, ExchangeError>> {
        self.lock().take(exchange, from)
    }

    /// Returns why the exchange cannot be completed, if it cannot: the epoch is over, or a rank is lost whose
    /// frame of it has not come. `from` is who is waited for.
    pub fn failure(&self, exchange: Key, from: Rank) -> Option<ExchangeError> {
        self.lock().failure(exchange, from)
    }

    /// Notes that the frame of an exchange came on another way.
    pub fn passes(&self, exchange: Key, from: Rank) {
        if let Some(sender) = self.lock().senders.get_mut(from.index()) {
            sender.newest = sender.newest.max(Some(exchange));
        }
    }

    /// Notes that the rank waits for `from`, for as long as what is returned lives.
    #[must_use]
    pub fn waits_for(&self, from: Rank) -> Waiting<'_> {
        self.waiting.store(from.0, Ordering::Relaxed);
        Waiting {
            inbox: self,
            since: Instant::now(),
            pause: Pause::begin(),
        }
    }

    /// Returns an error if the epoch has been given up, so that a rank without peers notices too.
    pub(crate) fn check(&self, moment: Moment, phase: Phase) -> Result<(), ExchangeError> {
        let peer = self.rank;
        if moment.fence != self.fence {
            let why = format!("its exchange belongs to epoch {}", self.fence);
            return Err(ExchangeError::BadFrame {
                peer,
                why,
                phase,
                moment,
            });
        }
        if self.lock().aborted {
            return Err(ExchangeError::Aborted {
                peer,
                phase,
                moment,
            });
        }
        Ok(())
    }

    fn wake(&self) {
        self.changed.notify_all();
        if let Some(alarm) = &self.alarm {
            alarm.ring();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and no state in between is ever visible.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What wakes a rank that waits for other things than its inbox alone.
pub trait Alarm: std::fmt::Debug + Send + Sync {
    /// Wakes the rank, or keeps it from sleeping when it is about to.
    fn ring(&self);
}

/// A wait of the inbox's rank.
#[derive(Debug)]
pub struct Waiting<'a> {
    inbox: &'a Inbox,
    since: Instant,
    /// How it waits at first.
    pub pause: Pause,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.inbox.waiting.store(NOBODY, Ordering::Relaxed);
        let waited = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.inbox.waited.fetch_add(waited, Ordering::Relaxed);
    }
}

impl State {
    /// Returns the outcome of waiting for `from` in the exchange `key`, if there is one yet.
    fn take(&mut self, key: Key, from: Rank) -> Option<Result<Bytes, ExchangeError>> {
        let frames = &mut self.senders[from.index()].frames;
        let Some((found, payload)) = frames.pop_front() else {
            return self.failure(key, from).map(Err);
        };
        if found == key {
            return Some(Ok(payload));
        }
        let (moment, phase) = key;
        let why = format!("it is at {} of {} instead", found.1, found.0);
        Some(Err(ExchangeError::BadFrame {
            peer: from,
            why,
            phase,
            moment,
        }))
    }

    fn failure(&self, key: Key, from: Rank) -> Option<ExchangeError> {
        let (moment, phase) = key;
        if self.aborted {
            return Some(ExchangeError::Aborted {
                peer: from,
                phase,
                moment,
            });
        }
        // A rank that went after sending its frame of this exchange does not hinder it.
        let missing = |sender: &&(Rank, &Sender)| sender.1.newest < Some(key);
        let mut lost = (0..)
            .map(Rank)
            .zip(&self.senders)
            .filter(|(_, s)| s.lost.is_some());
        let (peer, sender) = lost.find(|sender| missing(&sender))?;
        let why = sender.lost.clone().unwrap_or_default();
        Some(ExchangeError::PeerLost {
            peer,
            why,
            phase,
            moment,
        })
    }
}

#[cfg(test)]
mod tests;
