//! What the ledger keeps of one generation.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use spec::SequenceId;
use tokio::sync::watch;

use super::Fingerprint;
use crate::lead::log::{End, Failure, Log};

/// One generation.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) fingerprint: Fingerprint,
    pub(super) front: Bytes,
    /// What its home rank keeps of it while it lives.
    pub(super) kept: Bytes,
    pub(super) log: watch::Sender<Log>,
    pub(super) followers: BTreeSet<u64>,
    /// Whether anybody has followed it.
    pub(super) is_read: bool,
    pub(super) keep: Option<Duration>,
    pub(super) entered: Duration,
    /// How old the request was then.
    pub(super) age: Duration,
    pub(super) state: State,
}

/// Whether it lives.
#[derive(Debug)]
pub(super) enum State {
    Live(Live),
    Ended {
        number: u64,
        at: Duration,
        bytes: usize,
    },
}

/// What is kept of a live one.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) sequence: SequenceId,
    /// When it began to wait.
    pub(super) since: Duration,
    /// Whether it has left the queue.
    pub(super) is_running: bool,
    /// Most tokens that it may come to generate.
    pub(super) max_tokens: usize,
    pub(super) deadline: Option<Duration>,
    /// Whether somebody has followed it: the first one sets the deadline.
    pub(super) is_followed: bool,
    /// When it has waited in the queue for too long.
    pub(super) queue_until: Option<Duration>,
    /// When it has gone on without followers for too long.
    pub(super) kept_until: Option<Duration>,
    /// The first of these, as it is in the ledger's list.
    pub(super) due: Option<Duration>,
}

impl Entry {
    /// Returns the time since the request arrived.
    pub(super) fn after(&self, now: Duration) -> Duration {
        now.saturating_sub(self.entered) + self.age
    }

    /// Says why a live one ends now by itself.
    pub(super) fn overdue(&self, now: Duration) -> Option<End> {
        let State::Live(live) = &self.state else {
            return None;
        };
        let is_over = |at: Option<Duration>| at.is_some_and(|at| at <= now);
        if is_over(live.deadline) {
            return Some(End::Failed(Failure::Deadline));
        }
        if is_over(live.queue_until) && !live.is_running {
            return Some(End::Failed(Failure::QueueTimeout));
        }
        is_over(live.kept_until).then_some(End::Abandoned)
    }
}
