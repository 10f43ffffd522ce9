//! A generation's life in its lead's log: what is ordinary at debug, the rest above.
//!
//! Each line has the `request_id` and the `sequence`, as the lines of fronts and workers do, so that one
//! search tells all that happened to a request. See docs/configuration.md.

use std::time::Duration;

use spec::{Part, SequenceId};

use super::ledger::{Entering, Ledger, Name};
use super::log::{End, Failure};

/// It was submitted, here for the first time or again.
pub(super) fn accepted(name: &Name, entering: &Entering<'_>) {
    tracing::debug!(
        request_id = &*name.request_id,
        sequence = entering.sequence.0,
        queue_position = entering.queue_position,
        generated = entering.generated.len(),
        "generation accepted"
    );
}

/// Somebody more follows it; `sequence` is unset once it has ended.
pub(super) fn attached(name: &Name, sequence: Option<SequenceId>) {
    tracing::debug!(
        request_id = &*name.request_id,
        sequence = sequence.map(|sequence| sequence.0),
        "generation attached to"
    );
}

/// The lead before this one had it; a home rank has told of it.
pub(super) fn collected(name: &Name, sequence: Option<SequenceId>) {
    tracing::debug!(
        request_id = &*name.request_id,
        sequence = sequence.map(|sequence| sequence.0),
        "generation collected from the last lead"
    );
}

/// It has left the queue.
pub(super) fn running(name: &Name, sequence: SequenceId, cached_tokens: u32) {
    tracing::debug!(
        request_id = &*name.request_id,
        sequence = sequence.0,
        cached_tokens,
        "generation runs"
    );
}

/// A step tells ranks all about some of them: at first, and again after whatever was void.
pub(super) fn opened(parts: &[Part], ledger: &Ledger) {
    for part in parts {
        for open in &part.opens {
            if let Some(name) = ledger.name(open.sequence) {
                tracing::debug!(
                    request_id = &*name.request_id,
                    sequence = open.sequence.0,
                    rank = part.rank.0,
                    tokens = open.tokens.len(),
                    "generation opened on a rank"
                );
            }
        }
    }
}

/// The epoch has ended: those that have run are back at what is committed, and wait for the next one.
pub(super) fn void(ledger: &Ledger) {
    for (sequence, name) in ledger.running() {
        tracing::debug!(
            request_id = &*name.request_id,
            sequence = sequence.0,
            "generation waits for the next epoch"
        );
    }
}

/// Tokens were put in the place of others.
pub(super) fn forced(name: &Name, sequence: SequenceId, keep: usize, tokens: usize) {
    tracing::debug!(
        request_id = &*name.request_id,
        sequence = sequence.0,
        keep,
        tokens,
        "generation forced"
    );
}

/// It lives here no more.
pub(super) fn ended(name: &Name, sequence: SequenceId, end: &End, age: Duration) {
    let (request_id, sequence, end_word) = (&*name.request_id, sequence.0, word(end));
    match end {
        End::Stop | End::Length | End::Settled | End::Abandoned => {
            tracing::debug!(
                request_id,
                sequence,
                end = end_word,
                ?age,
                "generation ended"
            );
        }
        End::Failed(Failure::Ending) => {
            tracing::info!(
                request_id,
                sequence,
                ?age,
                "generation left to another lead"
            );
        }
        End::Cancelled | End::Failed(Failure::Deadline | Failure::QueueTimeout) => {
            tracing::info!(
                request_id,
                sequence,
                end = end_word,
                ?age,
                "generation ended early"
            );
        }
        End::Failed(Failure::Unserved(_) | Failure::Damaged(_)) => {
            tracing::warn!(
                request_id,
                sequence,
                end = end_word,
                ?age,
                "generation failed"
            );
        }
    }
}

const fn word(end: &End) -> &'static str {
    match end {
        End::Stop => "stop",
        End::Length => "length",
        End::Settled => "settled",
        End::Cancelled => "cancelled",
        End::Abandoned => "abandoned",
        End::Failed(Failure::Deadline) => "deadline",
        End::Failed(Failure::QueueTimeout) => "queue timeout",
        End::Failed(Failure::Unserved(_)) => "group incomplete",
        End::Failed(Failure::Ending) => "lead ending",
        End::Failed(Failure::Damaged(_)) => "cannot be computed",
    }
}
