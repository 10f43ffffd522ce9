//! Where a peer's stream waits until its first frame has said which epoch it belongs to, and this
//! process has entered that.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::limits::{FIRST_FRAME_LIMIT, MAX_STREAMS_WITHOUT_EPOCH};

/// The streams that belong to no epoch yet: few, none for long, and none after [`Lobby::close`].
#[derive(Clone, Debug)]
pub(crate) struct Lobby {
    places: Arc<Semaphore>,
    closed: CancellationToken,
}

impl Lobby {
    pub(crate) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_STREAMS_WITHOUT_EPOCH)),
            closed: CancellationToken::new(),
        }
    }

    /// Returns a lobby with places of its own that closes with this one.
    pub(crate) fn beside(&self) -> Self {
        Self {
            closed: self.closed.clone(),
            ..Self::new()
        }
    }

    /// Waits for a stream's first message, and for what `enter` makes of it; `None` if the stream ends,
    /// or the process does.
    ///
    /// # Errors
    ///
    /// The stream's own status, or that of `enter`; `RESOURCE_EXHAUSTED` where too many wait already;
    /// `DEADLINE_EXCEEDED` if no message comes within [`FIRST_FRAME_LIMIT`].
    pub(crate) async fn first<T, U, F: Future<Output = Result<U, Status>>>(
        &self,
        message: impl Future<Output = Result<Option<T>, Status>>,
        enter: impl FnOnce(T) -> F,
    ) -> Result<Option<U>, Status> {
        let _place = self.places.try_acquire().map_err(|_| {
            let limit = MAX_STREAMS_WITHOUT_EPOCH;
            Status::resource_exhausted(format!("{limit} streams wait for their epoch already"))
        })?;
        let entered = async {
            let first = timeout(FIRST_FRAME_LIMIT, message).await;
            let first = first.unwrap_or_else(|_| {
                let limit = FIRST_FRAME_LIMIT;
                Err(Status::deadline_exceeded(format!(
                    "no frame came within {limit:?}"
                )))
            })?;
            match first {
                Some(first) => enter(first).await.map(Some),
                None => Ok(None),
            }
        };
        tokio::select! {
            entered = entered => entered,
            () = self.closed.cancelled() => Ok(None),
        }
    }

    /// Waits until the lobby closes.
    pub(crate) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    /// Ends the wait of every stream, now and later.
    pub(crate) fn close(&self) {
        self.closed.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::pin;

    use tokio::time::Instant;
    use tonic::Code;

    use super::*;

    /// The first message of a stream that never brings one.
    fn never() -> impl Future<Output = Result<Option<i32>, Status>> {
        pending()
    }

    /// Finds the epoch of a first message at once.
    async fn at_once(first: i32) -> Result<i32, Status> {
        Ok(first)
    }

    /// Finds no epoch, for as long as it may.
    fn waits(_: i32) -> impl Future<Output = Result<i32, Status>> {
        pending()
    }

    /// Polls a future once.
    async fn begin<T>(future: impl Future<Output = T>) {
        let mut future = pin!(future);
        let poll = std::future::poll_fn(|context| {
            let _pending = future.as_mut().poll(context).is_pending();
            std::task::Poll::Ready(())
        });
        poll.await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_without_a_frame_is_ended_after_the_limit() {
        let since = Instant::now();
        let refused = Lobby::new().first(never(), at_once).await.unwrap_err();
        assert_eq!(refused.code(), Code::DeadlineExceeded);
        assert_eq!(since.elapsed().as_secs(), FIRST_FRAME_LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_streams_wait_and_each_leaves_its_place() {
        let lobby = Lobby::new();
        // One waits for its epoch, the others for their frames.
        let mut last = Box::pin(lobby.first(ready(Ok(Some(7))), waits));
        begin(&mut last).await;
        let mut waiting: Vec<_> = (1..MAX_STREAMS_WITHOUT_EPOCH)
            .map(|_| Box::pin(lobby.first(never(), at_once)))
            .collect();
        for stream in &mut waiting {
            begin(stream).await;
        }
        let refused = lobby.first(never(), at_once).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        drop(last);
        let first = lobby.first(ready(Ok(Some(7))), at_once).await;
        assert_eq!(first.unwrap(), Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn closing_ends_every_wait_at_once() {
        let lobby = Lobby::new();
        let closer = lobby.clone();
        let (first, second, ()) = tokio::join!(
            lobby.first(never(), at_once),
            lobby.first(ready(Ok(Some(7))), waits),
            async { closer.close() }
        );
        assert_eq!(first.unwrap(), None);
        assert_eq!(second.unwrap(), None);
        assert_eq!(lobby.first(never(), at_once).await.unwrap(), None);
    }
}
