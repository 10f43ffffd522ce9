//! The way from a generation's task to its client: a bounded queue and one final error.
//!
//! A generation runs in a task of its own, not inside the client's stream: so its deadline holds
//! also while the client reads nothing, and a client that stalls cannot keep memory for ever.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_stream::Stream;

use super::Shared;
use super::error::Error;
use super::generation::Clock;
use super::limits;

/// Runs the work that sends the replies, in a task of its own, until it ends or the client is gone.
///
/// What the work owns is dropped then: so a generation ends with its client. A client that takes
/// nothing until `stall` or the deadline has stalled.
pub(super) fn serve<T, Work>(
    shared: &Shared,
    clock: Clock,
    work: impl FnOnce(ReplySender<T>) -> Work,
) -> Replies<T>
where
    T: Send + 'static,
    Work: Future<Output = Result<(), Error>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(limits::REPLY_QUEUE);
    let (end, ended) = oneshot::channel();
    let client = sender.clone();
    let stall = shared.config.client_stall;
    let work = work(ReplySender {
        sender,
        stall,
        deadline: clock.deadline,
    });
    shared.tasks.spawn(async move {
        let outcome = tokio::select! {
            biased;
            () = client.closed() => Err(Error::ClientGone),
            outcome = work => outcome,
        };
        if let Err(error) = outcome {
            tracing::debug!(%error, "stream ended early");
            // The client may be gone, and then nobody is left to be told.
            drop(end.send(error));
        }
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
    deadline: Option<Instant>,
}

impl<T> ReplySender<T> {
    /// Sends a reply, when there is room.
    ///
    /// # Errors
    ///
    /// [`Error::ClientGone`] and [`Error::ClientStalled`].
    pub(super) async fn send(&self, reply: T) -> Result<(), Error> {
        let stalled = Instant::now() + self.stall;
        let latest = self
            .deadline
            .map_or(stalled, |deadline| deadline.min(stalled));
        match tokio::time::timeout_at(latest, self.sender.send(reply)).await {
            Ok(sent) => sent.map_err(|_| Error::ClientGone),
            Err(_) => Err(Error::ClientStalled { limit: self.stall }),
        }
    }
}

/// The client's end: the replies, then the error if there was one.
#[derive(Debug)]
pub(super) struct Replies<T> {
    receiver: mpsc::Receiver<T>,
    ended: Option<oneshot::Receiver<Error>>,
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
        let error = std::task::ready!(Pin::new(ended).poll(context));
        self.ended = None;
        Poll::Ready(error.ok().map(Err))
    }
}
