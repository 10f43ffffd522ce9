//! How a request waits for its turn, checked.

use std::time::Duration;

use proto::v1;

use super::{duration, short_text};
use crate::front::error::Error;
use crate::limits::{MAX_KEEP, MAX_PRIORITY};

/// How a request waits.
#[derive(Debug)]
pub(super) struct Queueing {
    pub(super) priority: i32,
    pub(super) timeout: Option<Duration>,
    pub(super) cache_salt: String,
    pub(super) session_id: String,
}

/// Checks the queueing.
///
/// # Errors
///
/// The first field at fault.
pub(super) fn queueing(given: v1::SchedulingParams) -> Result<Queueing, Error> {
    let priority = given.priority;
    if !(-MAX_PRIORITY..=MAX_PRIORITY).contains(&priority) {
        let why = format!("{priority} is not within -{MAX_PRIORITY} to {MAX_PRIORITY}");
        return Err(Error::field("scheduling.priority", why));
    }
    let field = "scheduling.queue_timeout";
    let timeout = given
        .queue_timeout
        .map(|time| duration(time, field, MAX_KEEP));
    let timeout = timeout.transpose()?;
    if timeout == Some(Duration::ZERO) {
        return Err(Error::field(field, "is no time to wait"));
    }
    short_text(&given.session_id, "scheduling.session_id")?;
    short_text(&given.cache_salt, "scheduling.cache_salt")?;
    Ok(Queueing {
        priority,
        timeout,
        cache_salt: given.cache_salt,
        session_id: given.session_id,
    })
}
