//! A connection, however it was made.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::limits::GREETING;

/// What carries bytes both ways.
trait Bytes: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Bytes for T {}

/// A connection to another process.
pub struct Connection {
    bytes: Pin<Box<dyn Bytes>>,
    ends: TcpConnectInfo,
    /// What the other end still has to say, where it has to.
    greeting: Option<Greeting>,
    /// Its place among the connections of its listener, where they are counted.
    _place: Option<OwnedSemaphorePermit>,
}

/// The first bytes of a connection, which must come in time.
struct Greeting {
    /// How many of them have not come yet; at least one.
    missing: usize,
    /// Ends with their time.
    time: Pin<Box<Sleep>>,
}

impl Connection {
    /// Takes over what carries the bytes; `ends` are our address and the other one's, where they are
    /// known.
    pub fn new(
        bytes: impl AsyncRead + AsyncWrite + Send + 'static,
        ends: (Option<SocketAddr>, Option<SocketAddr>),
    ) -> Self {
        Self {
            bytes: Box::pin(bytes),
            ends: TcpConnectInfo {
                local_addr: ends.0,
                remote_addr: ends.1,
            },
            greeting: None,
            _place: None,
        }
    }

    /// Returns the connection as one of the public's: it has a place, and must say so many bytes soon.
    pub(crate) fn bounded(self, place: OwnedSemaphorePermit, greeting: usize) -> Self {
        let greeting = (greeting > 0).then(|| Greeting {
            missing: greeting,
            time: Box::pin(sleep(GREETING)),
        });
        Self {
            greeting,
            _place: Some(place),
            ..self
        }
    }

    /// Returns the other end's address, where it is known.
    #[must_use]
    pub fn peer(&self) -> Option<SocketAddr> {
        self.ends.remote_addr
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.ends.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = self.bytes.as_mut().poll_read(cx, buffer);
        let Some(greeting) = &mut self.greeting else {
            return read;
        };
        if read.is_pending() {
            return match greeting.time.as_mut().poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            };
        }
        let came = buffer.filled().len() - before;
        greeting.missing = greeting.missing.saturating_sub(came);
        if greeting.missing == 0 {
            self.greeting = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.bytes.as_mut().poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bytes.as_mut().poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bytes.as_mut().poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.bytes.as_mut().poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.bytes.is_write_vectored()
    }
}
