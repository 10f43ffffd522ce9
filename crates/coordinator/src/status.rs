//! Errors as gRPC statuses with `google.rpc` details, and the reasons that programs may rely on.

use std::collections::HashMap;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The domain of the reasons in `google.rpc.ErrorInfo`.
pub(crate) const DOMAIN: &str = "conclave";

/// The reasons that a lead gives, and a front passes on. They are part of the API.
pub(crate) mod reason {
    /// The queue of the group is full.
    pub(crate) const QUEUE_FULL: &str = "QUEUE_FULL";
    /// It waited in the queue for longer than its `queue_timeout`.
    pub(crate) const QUEUE_TIMEOUT: &str = "QUEUE_TIMEOUT";
    /// Too many follow one generation.
    pub(crate) const TOO_MANY_FOLLOWERS: &str = "TOO_MANY_FOLLOWERS";
    /// The name belongs to a request that asked for something else.
    pub(crate) const REQUEST_ID_REUSED: &str = "REQUEST_ID_REUSED";
    /// No such generation.
    pub(crate) const GENERATION_UNKNOWN: &str = "GENERATION_UNKNOWN";
    /// Its deadline has passed.
    pub(crate) const DEADLINE_PASSED: &str = "DEADLINE_PASSED";
    /// The group has had too few ranks for too long.
    pub(crate) const GROUP_INCOMPLETE: &str = "GROUP_INCOMPLETE";
    /// Another coordinator leads the group.
    pub(crate) const NOT_LEADER: &str = "NOT_LEADER";
    /// The lead is new, and has not yet heard what the one before it has left.
    pub(crate) const LEAD_NEW: &str = "LEAD_NEW";
    /// The lead ends; another may go on.
    pub(crate) const LEAD_ENDING: &str = "LEAD_ENDING";
    /// A damaged weight stands in its way.
    pub(crate) const CANNOT_BE_COMPUTED: &str = "CANNOT_BE_COMPUTED";
    /// The generation has ended, so that nothing about it can be changed.
    pub(crate) const GENERATION_ENDED: &str = "GENERATION_ENDED";
    /// Tokens that were read are no longer those of the generation.
    pub(crate) const REWRITTEN: &str = "REWRITTEN";
    /// A lead found fault with a front's request.
    pub(crate) const REFUSED_BY_LEAD: &str = "REFUSED_BY_LEAD";
}

/// Makes a status with a reason and, where another try may be worth it, when.
pub(crate) fn status(
    code: Code,
    reason: &str,
    message: impl Into<String>,
    retry_after: Option<Duration>,
) -> Status {
    let mut details = ErrorDetails::with_error_info(reason, DOMAIN, HashMap::new());
    if retry_after.is_some() {
        details.set_retry_info(retry_after);
    }
    Status::with_error_details(code, message, details)
}

/// Returns the reason that a status gives, if it is one of ours.
pub(crate) fn reason_of(status: &Status) -> Option<String> {
    let given = status.get_details_error_info()?;
    (given.domain == DOMAIN).then_some(given.reason)
}
