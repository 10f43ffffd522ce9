//! Calls that name a generation, held while no lead can tell of it.
//!
//! Between a lead's death and the moment when the next one has heard what it has left, nobody knows
//! whether a generation is there: to say that it is not would be wrong, and a cancel would be lost.

use std::pin::pin;

use tokio::time::{Instant, sleep, timeout, timeout_at};
use tonic::{Response, Status};

use super::error::Error;
use super::groups::Group;
use super::{Shared, limits};

/// Asks the group that knows a generation, again and again until a lead can tell, or the front's time to
/// hold the call is over. Few calls are held at a time: each keeps its request's place, and those are for
/// groups that serve, too.
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
    let mut asked = pin!(ask_again(shared, id, call));
    if let Ok(answer) = timeout(limits::HELD_AFTER, &mut asked).await {
        return answer;
    }
    let held = shared.held.try_acquire();
    let _held = held.map_err(|_| Error::TooManyHeld {
        limit: limits::MAX_HELD,
    })?;
    asked.await
}

async fn ask_again<T, Call>(
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

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::time::Duration;

    use tokio::time::timeout;
    use tonic::{Code, Response};

    use super::ask;
    use crate::front::limits;
    use crate::front::testing::shared;

    #[tokio::test]
    async fn few_calls_are_held_at_a_time_and_those_with_an_answer_are_none() {
        let shared = shared();
        let others = shared.held.acquire_many(limits::MAX_HELD as u32).await;
        let many = ask(&shared, "r", |_| pending());
        let many = timeout(Duration::from_secs(10), many).await;
        let refused: Result<(), _> = many.expect("it is not held");
        let refused = refused.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        assert!(refused.retry_after().is_some());
        let answer = ask(&shared, "r", |_| ready(Ok(Response::new(7)))).await;
        assert_eq!(answer.unwrap(), 7);
        drop(others);
        let held = ask(&shared, "r", |_| async {
            tokio::time::sleep(2 * limits::HELD_AFTER).await;
            Ok(Response::new(8))
        });
        assert_eq!(held.await.unwrap(), 8);
    }
}
