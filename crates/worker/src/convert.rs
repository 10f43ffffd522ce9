//! The edge: wire messages become checked values once, here, and results become wire messages.
//!
//! Nothing that comes over the network reaches the inside unless it passed; a refusal names the
//! field by its path in the message, and the numbers that do not fit.

mod plan;
mod results;
mod step;

use std::fmt;

use spec::{Epoch, Fence, Geometry, Term};

pub(crate) use plan::{EpochPlan, Member};
pub(crate) use results::{failed, left, loading, progress, rank_progress, ready, step_done};
pub(crate) use step::step_parts;

use proto::internal as wire;

/// What a message has to fit: this worker and its model.
#[derive(Clone, Debug)]
pub(crate) struct Bounds {
    /// Name the worker registered with.
    pub(crate) name: String,
    /// Its group.
    pub(crate) group: String,
    /// Ranks it holds.
    pub(crate) num_ranks: usize,
    /// The model.
    pub(crate) geometry: Geometry,
    /// Bytes that the KV of all its ranks together may take.
    pub(crate) max_kv_bytes: u64,
}

/// A field of a message that cannot be obeyed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Path of the field, for instance `parts[0].lines[2].slot`.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) why: String,
}

impl Fault {
    fn new(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            field: field.into(),
            why: why.into(),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.why)
    }
}

impl From<Fault> for tonic::Status {
    fn from(fault: Fault) -> Self {
        Self::invalid_argument(fault.to_string())
    }
}

/// Returns a fault unless `value < end`.
fn below(value: u32, end: usize, field: impl FnOnce() -> String, of: &str) -> Result<(), Fault> {
    if (value as usize) < end {
        return Ok(());
    }
    Err(Fault::new(
        field(),
        format!("{value} is not below the {end} {of}"),
    ))
}

/// A message of another group's lead, whose fences say nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is for group {its:?}, this worker is in group {ours:?}")]
pub(crate) struct OtherGroup {
    its: String,
    ours: String,
}

impl From<OtherGroup> for tonic::Status {
    fn from(other: OtherGroup) -> Self {
        Self::failed_precondition(other.to_string())
    }
}

/// Checks that a message is for a group. One of an earlier build does not say for which it is.
pub(crate) fn for_group(its: &str, ours: &str) -> Result<(), OtherGroup> {
    if its.is_empty() || its == ours {
        return Ok(());
    }
    Err(OtherGroup {
        its: its.into(),
        ours: ours.into(),
    })
}

/// Takes a fence; terms and epochs count from 1.
pub(crate) fn fence(fence: Option<wire::Fence>) -> Result<Fence, Fault> {
    let fence = fence.ok_or_else(|| Fault::new("fence", "is missing"))?;
    if fence.term == 0 {
        return Err(Fault::new("fence.term", "is 0; terms count from 1"));
    }
    if fence.epoch == 0 {
        return Err(Fault::new("fence.epoch", "is 0; epochs count from 1"));
    }
    Ok(Fence {
        term: Term(fence.term),
        epoch: Epoch(fence.epoch),
    })
}

/// Tells a fence.
pub(crate) fn to_fence(fence: Fence) -> wire::Fence {
    wire::Fence {
        term: fence.term.0,
        epoch: fence.epoch.0,
    }
}

#[cfg(test)]
mod tests;
