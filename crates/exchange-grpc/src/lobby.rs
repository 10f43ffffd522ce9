//! Where a peer's stream waits until its first frame says which epoch it belongs to.

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::limits::{FIRST_FRAME_LIMIT, MAX_STREAMS_WITHOUT_FRAME};

/// The streams whose first frame has not come: few, none for long, and none after [`Lobby::close`].
#[derive(Clone, Debug)]
pub(crate) struct Lobby {
    places: Arc<Semaphore>,
    closed: CancellationToken,
}

impl Lobby {
    pub(crate) fn new() -> Self {
        Self {
            places: Arc::new(Semaphore::new(MAX_STREAMS_WITHOUT_FRAME)),
            closed: CancellationToken::new(),
        }
    }

    /// Waits for a stream's first message; `None` if it ends, or the process does.
    ///
    /// # Errors
    ///
    /// The stream's own status; `RESOURCE_EXHAUSTED` where too many wait already;
    /// `DEADLINE_EXCEEDED` after [`FIRST_FRAME_LIMIT`].
    pub(crate) async fn first<T>(
        &self,
        message: impl Future<Output = Result<Option<T>, Status>>,
    ) -> Result<Option<T>, Status> {
        let _place = self.places.try_acquire().map_err(|_| {
            let limit = MAX_STREAMS_WITHOUT_FRAME;
            Status::resource_exhausted(format!("{limit} streams have brought no frame yet"))
        })?;
        tokio::select! {
            first = timeout(FIRST_FRAME_LIMIT, message) => first.unwrap_or_else(|_| {
                let limit = FIRST_FRAME_LIMIT;
                Err(Status::deadline_exceeded(format!("no frame came within {limit:?}")))
            }),
            () = self.closed.cancelled() => Ok(None),
        }
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
    fn never() -> impl Future<Output = Result<Option<()>, Status>> {
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
        let refused = Lobby::new().first(never()).await.unwrap_err();
        assert_eq!(refused.code(), Code::DeadlineExceeded);
        assert_eq!(since.elapsed().as_secs(), FIRST_FRAME_LIMIT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn only_so_many_streams_wait_and_each_leaves_its_place() {
        let lobby = Lobby::new();
        let mut waiting: Vec<_> = (0..MAX_STREAMS_WITHOUT_FRAME)
            .map(|_| Box::pin(lobby.first(never())))
            .collect();
        for stream in &mut waiting {
            begin(stream).await;
        }
        let refused = lobby.first(never()).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted);
        waiting.pop();
        let first = lobby.first(ready(Ok(Some(7)))).await;
        assert_eq!(first.unwrap(), Some(7));
    }

    #[tokio::test(start_paused = true)]
    async fn closing_ends_every_wait_at_once() {
        let lobby = Lobby::new();
        let closer = lobby.clone();
        let (first, ()) = tokio::join!(lobby.first(never()), async { closer.close() });
        assert_eq!(first.unwrap(), None);
        assert_eq!(lobby.first(never()).await.unwrap(), None);
    }
}
