//! Calls that name a generation, held while no lead can tell of it.
//!
//! Between a lead's death and the moment when the next one has heard what it has left, nobody knows
//! whether a generation is there: to say that it is not would be wrong, and a cancel would be lost.

use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Response, Status};

use super::error::Error;
use super::groups::Group;
use super::{Shared, limits};

/// Asks the group that knows a generation, again and again until a lead can tell, or the front's time to
/// hold the call is over.
///
/// # Errors
///
/// [`Error::Lead`] with NOT_FOUND if there is no such generation, or why no lead could tell.
pub(super) async fn ask<T, Call>(
    shared: &Shared,
    id: &str,
    call: impl Fn(Group) -> Call,
) -> Result<T, Error>
where
    Call: Future<Output = Result<Response<T>, Status>>,
{
    let until = Instant::now() + shared.config.ask_hold;
    let (mut pause, longest) = limits::REGAIN_BACKOFF;
    let mut last = None;
    loop {
        let attempt = async {
            match shared.groups.find(id).await {
                Ok(group) => call(group).await.map_err(Error::from_lead),
                Err(missing) => Err(missing.into_error(id)),
            }
        };
        // What can be answered now still is, such as a cancel of what goes on meanwhile.
        let drained = async {
            shared.draining.cancelled().await;
            sleep(limits::FIND_TIME).await;
        };
        let answer = tokio::select! {
            biased;
            answer = timeout_at(until, attempt) => answer,
            () = drained => return Err(Error::Draining),
        };
        let error = match answer {
            Ok(Ok(answer)) => return Ok(answer.into_inner()),
            Ok(Err(error)) => error,
            Err(_) => {
                return Err(last.unwrap_or_else(|| Error::LeadGone {
                    why: format!("it did not answer within {:?}", shared.config.ask_hold),
                }));
            }
        };
        if !error.is_passing() || Instant::now() + pause > until {
            return Err(error);
        }
        tracing::debug!(request_id = id, %error, "a call is held");
        tokio::select! {
            // Another front may have more time for it.
            () = shared.draining.cancelled() => return Err(error),
            () = sleep(pause) => pause = longest.min(pause * 2),
        }
        last = Some(error);
    }
}
