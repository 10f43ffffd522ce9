//! The way from a generation's task to its client: a bounded queue and one outcome.
//!
//! A generation runs in a task of its own, not inside the client's stream: so its deadline holds
//! also while the client reads nothing, and a client that stalls cannot keep memory for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use telemetry::CoordinatorTelemetry;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::error::Error;
use super::limits;

/// Runs the work that sends the replies, in a task of its own, until it ends or the client is gone.
///
/// What the work owns is dropped then: so a generation ends with its client.
pub(super) fn serve<T, Work>(
    shared: &Shared,
    work: impl FnOnce(ReplySender<T>) -> Work,
) -> Replies<T>
where
    T: Send + 'static,
    Work: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(limits::REPLY_QUEUE);
    let (end, ended) = oneshot::channel();
    let client = sender.clone();
    let work = work(ReplySender {
        sender,
        stall: shared.config.client_stall,
        stopping: shared.stopping.clone(),
        telemetry: shared.telemetry.clone(),
    });
    shared.tasks.spawn(async move {
        let outcome = tokio::select! {
            biased;
            () = client.closed() => Err(Error::ClientGone),
            outcome = work => outcome,
        };
        // The client may be gone, and then nobody is left to be told.
        drop(end.send(outcome));
    });
    Replies {
        receiver,
        ended: Some(ended),
    }
}

/// The work's end.
#[derive(Debug)]
pub(super) struct ReplySender<T> {
    sender: mpsc::Sender<T>,
    stall: Duration,
    stopping: CancellationToken,
    telemetry: CoordinatorTelemetry,
}

/// A wait for a client, counted however it ends.
struct Backpressure<'a> {
    telemetry: &'a CoordinatorTelemetry,
    since: Instant,
}

impl Drop for Backpressure<'_> {
    fn drop(&mut self) {
        let waits = &self.telemetry.metrics().stream_backpressure;
        waits.add((), self.since.elapsed());
    }
}

impl<T> ReplySender<T> {
    /// Waits for room for one reply.
    ///
    /// # Errors
    ///
    /// [`Error::ClientGone`], [`Error::ClientStalled`] if the client takes nothing for too long, and
    /// [`Error::Draining`] if the front ends meanwhile.
    pub(super) async fn room(&self) -> Result<mpsc::Permit<'_, T>, Error> {
        match self.sender.try_reserve() {
            Ok(room) => return Ok(room),
            Err(TrySendError::Closed(())) => return Err(Error::ClientGone),
            Err(TrySendError::Full(())) => {}
        }
        let _wait = Backpressure {
            telemetry: &self.telemetry,
            since: Instant::now(),
        };
        tokio::select! {
            biased;
            room = self.sender.reserve() => room.map_err(|_| Error::ClientGone),
            () = self.stopping.cancelled() => Err(Error::Draining),
            () = tokio::time::sleep(self.stall) => Err(Error::ClientStalled { limit: self.stall }),
        }
    }

    /// Sends a reply, when there is room.
    ///
    /// # Errors
    ///
    /// As [`ReplySender::room`].
    pub(super) async fn send(&self, reply: T) -> Result<(), Error> {
        self.room().await?.send(reply);
        Ok(())
    }
}

/// The client's end: the replies, then the error if there was one.
#[derive(Debug)]
pub(super) struct Replies<T> {
    receiver: mpsc::Receiver<T>,
    ended: Option<oneshot::Receiver<Result<(), Error>>>,
}

impl<T> Stream for Replies<T> {
    type Item = Result<T, Error>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(reply) = std::task::ready!(self.receiver.poll_recv(context)) {
            return Poll::Ready(Some(Ok(reply)));
        }
        let Some(ended) = self.ended.as_mut() else {
            return Poll::Ready(None);
        };
        let outcome = std::task::ready!(Pin::new(ended).poll(context));
        self.ended = None;
        // Work that panicked says nothing; that must not look like a good end.
        let outcome = outcome.unwrap_or(Err(Error::Broken));
        Poll::Ready(outcome.err().map(Err))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;
    use tokio_stream::StreamExt as _;

    use super::{Error, serve};
    use crate::front::testing::shared;

    #[tokio::test]
    async fn replies_come_before_the_outcome() {
        let mut replies = serve(&shared(), |client| async move {
            client.send(1).await?;
            Err(Error::Draining)
        });
        assert!(matches!(replies.next().await, Some(Ok(1))));
        assert!(matches!(replies.next().await, Some(Err(Error::Draining))));
        assert!(replies.next().await.is_none());
    }

    #[tokio::test]
    async fn work_that_panics_has_not_ended_well() {
        let mut replies = serve(&shared(), |client| async move {
            client.send(1).await?;
            panic!("a mistake of ours")
        });
        assert!(matches!(replies.next().await, Some(Ok(1))));
        assert!(matches!(replies.next().await, Some(Err(Error::Broken))));
        assert!(replies.next().await.is_none());
    }

    #[tokio::test]
    async fn a_wait_for_a_client_is_counted() {
        let shared = shared();
        let waited = || {
            let text = shared.telemetry.render();
            let name = "conclave_stream_backpressure_seconds_total{model=\"\"} ";
            let found = text.lines().find_map(|line| line.strip_prefix(name));
            found.unwrap().parse::<f64>().unwrap()
        };
        let (full, is_full) = tokio::sync::oneshot::channel();
        let mut replies = serve(&shared, |client| async move {
            while client.sender.capacity() > 0 {
                client.send(1).await?;
            }
            full.send(()).unwrap();
            client.send(2).await
        });
        is_full.await.unwrap();
        assert_eq!(waited(), 0.0, "there was room until now");
        tokio::time::sleep(Duration::from_millis(50)).await;
        while let Some(Ok(_)) = replies.next().await {}
        assert!(waited() >= 0.03, "{}", waited());
    }

    #[tokio::test]
    async fn a_front_that_ends_does_not_wait_for_a_client_that_does_not_read() {
        let shared = shared();
        let (full, is_full) = tokio::sync::oneshot::channel();
        let replies = serve(&shared, |client| async move {
            let mut full = Some(full);
            loop {
                if client.sender.capacity() == 0
                    && let Some(full) = full.take()
                {
                    full.send(()).unwrap();
                }
                client.send(1).await?;
            }
        });
        is_full.await.unwrap();
        shared.stopping.cancel();
        let end = async { replies.filter_map(Result::err).next().await };
        let end = timeout(Duration::from_secs(20), end).await;
        assert!(matches!(end, Ok(Some(Error::Draining))), "{end:?}");
    }
}
