//! Being called by other processes.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::io::Errno;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs, lookup_host};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_stream::{Stream, StreamExt as _};
use tokio_util::sync::PollSemaphore;

use crate::connection::Connection;
use crate::limits::ACCEPT_PAUSE;
use crate::tcp;

type Incoming = Pin<Box<dyn Stream<Item = io::Result<Connection>> + Send>>;

/// A bound socket and the connections that come to it. As a stream it is what tonic serves; it ends
/// only with what it listens on.
pub struct Listener {
    local: SocketAddr,
    incoming: Incoming,
    /// Runs while nothing is accepted, because the system cannot.
    pause: Option<Pin<Box<Sleep>>>,
    /// The system could not accept the last time; it is told once.
    failing: bool,
    places: Option<Places>,
}

/// Places for the connections of the public, so that they take from nobody else.
struct Places {
    free: PollSemaphore,
    /// The place of the next connection.
    next: Option<OwnedSemaphorePermit>,
    /// Bytes that whoever takes one must say soon.
    greeting: usize,
    /// None was free the last time; it is told once.
    full: bool,
}

impl Listener {
    /// Listens on an address, by TCP; of several, on the first that this machine has.
    ///
    /// # Errors
    ///
    /// If that is refused, as where somebody listens there already: another one of them would not be
    /// where others look.
    pub async fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        let mut refused = io::Error::new(ErrorKind::AddrNotAvailable, "it has no address");
        for address in lookup_host(address).await? {
            match TcpListener::bind(address).await {
                Ok(listener) => return Self::tcp(listener),
                Err(error) if is_elsewhere(&error) => refused = error,
                Err(error) => return Err(error),
            }
        }
        Err(refused)
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
            failing: false,
            places: None,
        }
    }

    /// Returns the listener as the public may have it: at most `most` connections at a time, of which
    /// each has to say `greeting` bytes soon. Further ones wait to be accepted.
    ///
    /// The bytes are those until whoever serves the connection has a limit of its own for silence.
    #[must_use]
    pub fn bounded(self, most: usize, greeting: usize) -> Self {
        let free = PollSemaphore::new(Arc::new(Semaphore::new(most)));
        let places = Places {
            free,
            next: None,
            greeting,
            full: false,
        };
        Self {
            places: Some(places),
            ..self
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

impl Places {
    /// Waits for a place for the next connection.
    fn poll_next(&mut self, at: SocketAddr, cx: &mut Context<'_>) -> Poll<()> {
        if self.next.is_none() {
            let Poll::Ready(place) = self.free.poll_acquire(cx) else {
                if !self.full {
                    tracing::warn!(%at, "no place for another connection; further ones wait");
                    self.full = true;
                }
                return Poll::Pending;
            };
            self.next = place;
        }
        Poll::Ready(())
    }

    /// Gives the place to its connection.
    fn give(&mut self, connection: Connection) -> Connection {
        self.full &= self.free.available_permits() == 0;
        match self.next.take() {
            Some(place) => connection.bounded(place, self.greeting),
            None => connection,
        }
    }
}

fn accepted(stream: TcpStream) -> Connection {
    tcp::prepare(&stream);
    let ends = (stream.local_addr().ok(), stream.peer_addr().ok());
    Connection::new(stream, ends)
}

/// Whether an address is none of this machine's, or of a kind that it does not have.
fn is_elsewhere(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
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
            let at = self.local;
            if let Some(places) = &mut self.places {
                ready!(places.poll_next(at, cx));
            }
            match ready!(self.incoming.as_mut().poll_next(cx)) {
                Some(Ok(connection)) => {
                    if std::mem::take(&mut self.failing) {
                        tracing::info!(%at, "connections are accepted again");
                    }
                    let connection = match &mut self.places {
                        Some(places) => places.give(connection),
                        None => connection,
                    };
                    return Poll::Ready(Some(Ok(connection)));
                }
                Some(Err(error)) if is_of_one(&error) => {
                    tracing::debug!(%error, "a connection ended before it was accepted");
                }
                Some(Err(error)) => {
                    if !std::mem::replace(&mut self.failing, true) {
                        tracing::warn!(%error, %at, "no connection is accepted");
                    }
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
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::time::Instant;

    use super::*;
    use crate::limits::GREETING;

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

    #[tokio::test]
    async fn of_several_addresses_only_those_of_other_machines_are_passed_over() {
        let any = |ip: [u8; 4]| SocketAddr::from((ip, 0));
        // The first is kept for documents; nobody has it.
        let several = [any([192, 0, 2, 1]), any([127, 0, 0, 1])];
        let listener = Listener::bind(&several[..]).await.unwrap();
        let taken = listener.local_addr();
        assert_eq!(taken.ip(), several[1].ip());
        let refused = Listener::bind(&[taken, any([127, 0, 0, 1])][..]).await;
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::AddrInUse);
        let refused = Listener::bind(&several[..1]).await.unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::AddrNotAvailable);
    }

    /// Returns a connection that comes, and our end of it.
    fn comes() -> (io::Result<Connection>, tokio::io::DuplexStream) {
        let (near, far) = tokio::io::duplex(64);
        (Ok(Connection::new(far, (None, None))), near)
    }

    #[tokio::test(start_paused = true)]
    async fn the_public_has_its_places_and_no_more() {
        let ((one, _a), (two, _b), (three, _c)) = (comes(), comes(), comes());
        let local = SocketAddr::from(([127, 0, 0, 1], 1));
        let come = tokio_stream::iter([one, two, three]);
        let mut listener = Listener::new(local, come).bounded(2, 1);
        let first = listener.accept().await;
        let _second = listener.accept().await;
        let third = tokio::time::timeout(GREETING * 9, listener.accept()).await;
        assert!(third.is_err(), "there were two places");
        drop(first);
        listener.accept().await;
    }

    #[tokio::test(start_paused = true)]
    async fn the_public_must_speak_and_then_may_be_silent() {
        let ((one, _silent), (two, mut speaks), (three, _trusted)) = (comes(), comes(), comes());
        let local = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut listener = Listener::new(local, tokio_stream::iter([one, two])).bounded(2, 1);
        let (mut silent, mut heard) = (listener.accept().await, listener.accept().await);
        speaks.write_all(b"a").await.unwrap();
        let late = silent.read_u8().await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        assert_eq!(heard.read_u8().await.unwrap(), b'a');
        let mut trusted = three.unwrap();
        for patient in [&mut heard, &mut trusted] {
            let more = tokio::time::timeout(GREETING * 9, patient.read_u8()).await;
            assert!(more.is_err(), "{more:?}");
        }
    }
    #[tokio::test(start_paused = true)]
    async fn the_public_must_say_the_whole_greeting_in_time() {
        let ((one, mut stops), (two, mut slow)) = (comes(), comes());
        let local = SocketAddr::from(([127, 0, 0, 1], 1));
        let mut listener = Listener::new(local, tokio_stream::iter([one, two])).bounded(2, 3);
        let began = Instant::now();
        let (mut stopped, mut greeted) = (listener.accept().await, listener.accept().await);
        stops.write_all(b"ab").await.unwrap();
        slow.write_all(b"ab").await.unwrap();
        for connection in [&mut stopped, &mut greeted] {
            connection.read_exact(&mut [0; 2]).await.unwrap();
        }
        sleep(GREETING / 2).await;
        slow.write_all(b"c").await.unwrap();
        greeted.read_u8().await.unwrap();
        let late = stopped.read_u8().await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::TimedOut);
        let took = began.elapsed();
        assert!(took >= GREETING && took < GREETING * 2, "{took:?}");
        let more = tokio::time::timeout(GREETING * 9, greeted.read_u8()).await;
        assert!(more.is_err(), "{more:?}");
    }
}
