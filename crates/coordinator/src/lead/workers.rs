//! The workers of an epoch, as the step loop reaches them.

use bytes::Bytes;
use cluster::EpochPlan;
use spec::{KvPlan, SequenceId, Step};

/// What a home rank is told of a sequence beside what it computes with.
#[derive(Debug, Default)]
pub(crate) struct AtHome {
    /// The request's name, for its log.
    pub(crate) request_id: String,
    /// The record that it keeps for another lead.
    pub(crate) record: Bytes,
}

/// Finds what the home rank of a sequence that a step opens is told.
pub(crate) type Kept<'a> = &'a dyn Fn(SequenceId) -> AtHome;

/// What the step loop wants of the workers. Their answers come to it as messages; nothing here waits.
pub(crate) trait Workers: Send {
    /// Starts to make every member of the plan ready; whatever came before is over.
    fn prepare(&mut self, plan: &EpochPlan, kv: &KvPlan, max_step_rows: usize);

    /// Sends every worker its parts of a step of the epoch that was prepared.
    ///
    /// # Errors
    ///
    /// The name of a worker that does not take them.
    fn send(&mut self, step: &Step, kept: Kept<'_>) -> Result<(), String>;

    /// Ends the epoch: its streams are closed, and nobody is listened to any more.
    fn end(&mut self);
}
