//! Requests on their way in: read whole, within a time, and no more of them than there is room for.
//!
//! A request has a [`Place`] from its first byte until it was checked and turned into tokens. Long
//! requests have places of their own, so that a few of them do not keep all others out.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::StreamExt as _;

use super::limits;

/// Why a request could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Unread {
    /// It is too long.
    #[error("the request has more than {limit} bytes")]
    TooLong { limit: usize },
    /// It comes too slowly.
    #[error("the request did not come within {limit:?}")]
    TooSlow { limit: Duration },
    /// It broke off.
    #[error("the request broke off: {why}")]
    Broken { why: String },
    /// There is no room for it now.
    #[error("too many requests are being read and checked")]
    Crowded,
}

/// Room for requests that are being read and checked.
#[derive(Debug)]
pub(super) struct Intake {
    /// In units of [`limits::REQUEST_UNIT`] bytes.
    short: Arc<Semaphore>,
    /// One permit for each long request.
    long: Arc<Semaphore>,
}

/// A request's room; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    permit: OwnedSemaphorePermit,
    is_long: bool,
}

impl Intake {
    /// Makes the room that the limits allow.
    pub(super) fn new() -> Self {
        let units = limits::MAX_SHORT_REQUESTS / limits::REQUEST_UNIT;
        Self {
            short: Arc::new(Semaphore::new(units)),
            long: Arc::new(Semaphore::new(limits::MAX_LONG_REQUESTS)),
        }
    }

    /// Reads a request of at most `limit` bytes, within this time.
    ///
    /// # Errors
    ///
    /// All of [`Unread`]; where there is no room, nobody is waited for.
    pub(super) async fn read(
        &self,
        body: Body,
        limit: usize,
        time: Duration,
    ) -> Result<(Bytes, Place), Unread> {
        let read = async {
            let mut place = self.enter()?;
            let mut bytes = Vec::new();
            let mut pieces = body.into_data_stream();
            while let Some(piece) = pieces.next().await {
                let piece = piece.map_err(|error| Unread::Broken {
                    why: error.to_string(),
                })?;
                if bytes.len() + piece.len() > limit {
                    return Err(Unread::TooLong { limit });
                }
                self.grow(&mut place, bytes.len() + piece.len())?;
                bytes.extend_from_slice(&piece);
            }
            Ok((bytes.into(), place))
        };
        let read = tokio::time::timeout(time, read).await;
        read.map_err(|_| Unread::TooSlow { limit: time })?
    }

    /// Takes all the room for short requests.
    #[cfg(test)]
    pub(super) fn fill(&self) -> OwnedSemaphorePermit {
        let units = u32::try_from(self.short.available_permits()).unwrap();
        let all = Arc::clone(&self.short).try_acquire_many_owned(units);
        all.unwrap()
    }

    fn enter(&self) -> Result<Place, Unread> {
        let permit = Arc::clone(&self.short).try_acquire_owned();
        Ok(Place {
            permit: permit.map_err(|_| Unread::Crowded)?,
            is_long: false,
        })
    }

    /// Makes the place large enough for this many bytes.
    fn grow(&self, place: &mut Place, bytes: usize) -> Result<(), Unread> {
        if place.is_long {
            return Ok(());
        }
        if bytes > limits::LONG_REQUEST {
            let permit = Arc::clone(&self.long).try_acquire_owned();
            place.permit = permit.map_err(|_| Unread::Crowded)?;
            place.is_long = true;
            return Ok(());
        }
        let units = bytes.div_ceil(limits::REQUEST_UNIT);
        let more = units.saturating_sub(place.permit.num_permits());
        let more = u32::try_from(more).expect("a short request has few units");
        let more = Arc::clone(&self.short).try_acquire_many_owned(more);
        place.permit.merge(more.map_err(|_| Unread::Crowded)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::body::Body;

    use super::{Intake, Place, Unread, limits};

    const TIME: Duration = Duration::from_secs(20);

    async fn read(intake: &Intake, bytes: usize) -> Result<Place, Unread> {
        let body = Body::from(vec![0; bytes]);
        let read = intake.read(body, limits::MAX_REQUEST, TIME).await;
        read.map(|(_, place)| place)
    }

    #[tokio::test]
    async fn long_requests_do_not_keep_short_ones_out() {
        let intake = Intake::new();
        let mut places = Vec::new();
        for _ in 0..limits::MAX_LONG_REQUESTS {
            places.push(read(&intake, limits::LONG_REQUEST + 1).await.unwrap());
        }
        let refused = read(&intake, limits::MAX_REQUEST).await;
        assert!(matches!(refused, Err(Unread::Crowded)));
        assert!(read(&intake, limits::LONG_REQUEST).await.is_ok());
        places.pop();
        assert!(read(&intake, limits::MAX_REQUEST).await.is_ok());
    }

    #[tokio::test]
    async fn short_requests_have_the_room_that_is_theirs() {
        let intake = Intake::new();
        let most = limits::MAX_SHORT_REQUESTS / limits::LONG_REQUEST;
        let mut places = Vec::new();
        for _ in 0..most {
            places.push(read(&intake, limits::LONG_REQUEST).await.unwrap());
        }
        assert!(matches!(read(&intake, 0).await, Err(Unread::Crowded)));
        places.pop();
        let halves = [limits::LONG_REQUEST / 2; 2].map(|half| read(&intake, half));
        for half in halves {
            places.push(half.await.unwrap());
        }
        assert!(matches!(read(&intake, 1).await, Err(Unread::Crowded)));
        places.clear();
        assert!(read(&intake, 1).await.is_ok());
    }

    #[tokio::test]
    async fn refuses_what_is_too_long_or_too_slow() {
        let intake = Intake::new();
        let refused = read(&intake, limits::MAX_REQUEST + 1).await;
        assert!(matches!(refused, Err(Unread::TooLong { .. })));
        let never = Body::from_stream(tokio_stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let refused = intake.read(never, 1, Duration::from_millis(10)).await;
        assert!(matches!(refused, Err(Unread::TooSlow { .. })));
        assert_eq!(
            intake.short.available_permits(),
            limits::MAX_SHORT_REQUESTS / limits::REQUEST_UNIT
        );
    }
}
