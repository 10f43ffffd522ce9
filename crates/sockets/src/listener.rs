//! Being called by other processes.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::time::{Sleep, sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};

use crate::connection::Connection;

/// Pause after a connection could not be accepted: mostly too many files are open, and some will be
/// closed.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

type Incoming = Pin<Box<dyn Stream<Item = io::Result<Connection>> + Send>>;

/// A bound socket and the connections that come to it. As a stream it is what tonic serves; it ends
/// only with what it listens on.
pub struct Listener {
    local: SocketAddr,
    incoming: Incoming,
    /// Runs while nothing is accepted, because the system cannot.
    pause: Option<Pin<Box<Sleep>>>,
}

impl Listener {
    /// Listens on an address, by TCP.
    ///
    /// # Errors
    ///
    /// If the system refuses the address.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        Self::tcp(TcpListener::bind(address).await?)
    }

    /// Takes a socket over that was bound before.
    ///
    /// # Errors
    ///
    /// If it has no address.
    pub fn tcp(listener: TcpListener) -> io::Result<Self> {
        let local = listener.local_addr()?;
        let incoming = TcpListenerStream::new(listener);
        Ok(Self::new(
            local,
            incoming.map(|stream| stream.map(accepted)),
        ))
    }

    /// Returns a listener at `local` to which these connections come. An error among them is passed
    /// over, after a pause where it is not that connection's alone.
    pub fn new(
        local: SocketAddr,
        incoming: impl Stream<Item = io::Result<Connection>> + Send + 'static,
    ) -> Self {
        Self {
            local,
            incoming: Box::pin(incoming),
            pause: None,
        }
    }

    /// Returns the address it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Waits for the next connection; for ever, if none can come any more.
    pub async fn accept(&mut self) -> Connection {
        match self.next().await {
            Some(Ok(connection)) => connection,
            Some(Err(never)) => match never {},
            None => std::future::pending().await,
        }
    }
}

fn accepted(stream: TcpStream) -> Connection {
    // Small messages must not wait until the peer has acknowledged the ones before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    let ends = (stream.local_addr().ok(), stream.peer_addr().ok());
    Connection::new(stream, ends)
}

/// Whether an error is of the one connection that was about to be accepted.
fn is_of_one(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionRefused
            | ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::BrokenPipe
            | ErrorKind::Interrupted
            | ErrorKind::TimedOut
    )
}

impl Stream for Listener {
    type Item = Result<Connection, std::convert::Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(self.incoming.as_mut().poll_next(cx)) {
                Some(Ok(connection)) => return Poll::Ready(Some(Ok(connection))),
                Some(Err(error)) if is_of_one(&error) => {
                    tracing::debug!(%error, "a connection ended before it was accepted");
                }
                Some(Err(error)) => {
                    tracing::warn!(%error, at = %self.local, "no connection is accepted");
                    self.pause = Some(Box::pin(sleep(ACCEPT_PAUSE)));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

impl std::fmt::Debug for Listener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Listener")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_accepted_ends_no_listener() {
        let too_many_files = io::Error::from_raw_os_error(24);
        let (near, _far) = tokio::io::duplex(1);
        let come = [
            Err(ErrorKind::ConnectionAborted.into()),
            Err(too_many_files),
            Ok(Connection::new(near, (None, None))),
        ];
        let local = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut listener = Listener::new(local, tokio_stream::iter(come));
        let began = Instant::now();
        listener.accept().await;
        // One of them was the connection's own matter.
        assert_eq!(began.elapsed(), ACCEPT_PAUSE);
    }
}
