//! What workers say of their steps: results, failures, progress.

use std::collections::BTreeSet;

use proto::internal as wire;
use proto::internal::run_response::Message as Said;
use spec::{PartResult, Rank, SequenceId, StepNumber};
use telemetry::labels::LeadPhase;

use super::StepLoop;
use crate::lead::convert;
use crate::lead::log::Failure;

/// Why a step does not count.
pub(super) struct Broken {
    pub(super) why: String,
    /// Whom it is put down to.
    pub(super) blamed: Option<Rank>,
    /// Whether something could not be computed, and nobody knows what.
    pub(super) barren: bool,
}

impl From<String> for Broken {
    fn from(why: String) -> Self {
        Self {
            why,
            blamed: None,
            barren: true,
        }
    }
}

impl StepLoop {
    /// Takes in what a worker says of its steps.
    pub(super) fn hear_worker(
        &mut self,
        name: &str,
        said: wire::RunResponse,
    ) -> Result<(), Broken> {
        match said.message {
            Some(Said::Done(done)) => Ok(self.done(name, done)?),
            Some(Said::Failed(failed)) => Err(self.failed(failed)),
            None => Err("sent an empty message".to_owned().into()),
            Some(Said::Progress(progress)) => {
                let now = self.now;
                for rank in progress.ranks {
                    let waiting_for = rank.waiting_for.map(Rank);
                    let place = (rank.step, rank.ticks);
                    self.progress
                        .report(Rank(rank.rank), place, waiting_for, now);
                }
                Ok(())
            }
        }
    }

    /// Takes in that a step failed on a rank.
    fn failed(&mut self, failed: wire::StepFailed) -> Broken {
        let blamed = failed.blamed.map(Rank);
        let by = blamed.map(|rank| format!(", blaming rank {rank}"));
        let why = format!(
            "step {} failed on rank {}{}: {}",
            failed.step,
            failed.rank,
            by.unwrap_or_default(),
            failed.reason
        );
        let Some(sequence) = failed.sequence.map(SequenceId) else {
            // A failure that blames a rank is about a death, not about what was computed.
            let barren = blamed.is_none();
            return Broken {
                why,
                blamed,
                barren,
            };
        };
        // Of a later step the row may be one too many: the step before may end the sequence.
        if self.flight.is_oldest(failed.step) || self.suspect == Some(sequence) {
            // The sequence was at fault, not those beside it.
            self.blame.clear();
            self.end_sequence(sequence, &failed.reason);
        } else {
            self.suspect = Some(sequence);
        }
        Broken {
            why,
            blamed,
            barren: false,
        }
    }

    fn done(&mut self, name: &str, done: wire::StepDone) -> Result<(), String> {
        let own = self.ranks_of(name).to_vec();
        let ranks: Vec<Rank> = done.parts.iter().map(|part| Rank(part.rank)).collect();
        if ranks != own {
            return Err(format!(
                "answered for the ranks {ranks:?}, it holds {own:?}"
            ));
        }
        for mut part in done.parts {
            let rows = std::mem::take(&mut part.expert_rows);
            self.meter.worked(StepNumber(done.step), rows);
            let result = convert::part_result(part);
            check_tokens(&result, self.vocab_size)?;
            self.flight.arrive(done.step, result)?;
        }
        let now = self.now;
        for rank in own {
            self.progress.finished(rank, now);
        }
        self.complete()
    }

    /// Gives the engine every step, in order, that all ranks have answered.
    fn complete(&mut self) -> Result<(), String> {
        while let Some((number, results)) = self.flight.landed() {
            let engine = &mut self.engine;
            let settle = || engine.complete(number, results);
            let completed = self.meter.timed(LeadPhase::Settle, settle);
            let completed = completed.map_err(|error| error.to_string())?;
            self.blame.clear();
            let now = self.now;
            self.meter.complete(number, &completed.report, now);
            for event in completed.events {
                self.ledger.tell(event, now);
            }
        }
        Ok(())
    }

    /// Ends sequences of a step that failed again and again.
    pub(super) fn end_sequences(&mut self, sequences: &BTreeSet<SequenceId>, why: &str) {
        tracing::error!(
            ?sequences,
            reason = why,
            "ending sequences that cannot be computed"
        );
        for sequence in sequences {
            self.end_sequence(*sequence, why);
        }
    }

    /// Ends a sequence that cannot be computed.
    fn end_sequence(&mut self, sequence: SequenceId, why: &str) {
        let now = self.now;
        self.ledger
            .fail(sequence, Failure::Damaged(why.to_owned()), now);
        self.engine.cancel(sequence);
    }
}

/// A sampled id indexes the vocabulary later, so it is checked where it enters.
fn check_tokens(result: &PartResult, vocab_size: usize) -> Result<(), String> {
    let sampled = result.lines.iter().flat_map(|line| &line.tokens);
    match sampled
        .map(|sampled| sampled.token)
        .find(|token| token.index() >= vocab_size)
    {
        None => Ok(()),
        Some(token) => Err(format!(
            "rank {} sampled token {token}, the vocabulary has {vocab_size}",
            result.rank
        )),
    }
}
