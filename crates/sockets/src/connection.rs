//! A connection, however it was made.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tonic::transport::server::{Connected, TcpConnectInfo};

use crate::limits::FIRST_BYTE;

/// What carries bytes both ways.
trait Bytes: AsyncRead + AsyncWrite + Send {}

impl<T: AsyncRead + AsyncWrite + Send> Bytes for T {}

/// A connection to another process.
pub struct Connection {
    bytes: Pin<Box<dyn Bytes>>,
    ends: TcpConnectInfo,
    /// Runs until the other end has said something, where it has to.
    silence: Option<Pin<Box<Sleep>>>,
    /// Its place among the connections of its listener, where they are counted.
    _place: Option<OwnedSemaphorePermit>,
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
            silence: None,
            _place: None,
        }
    }

    /// Returns the connection as one of the public's: it has a place, and must say something soon.
    pub(crate) fn bounded(self, place: OwnedSemaphorePermit) -> Self {
        Self {
            silence: Some(Box::pin(sleep(FIRST_BYTE))),
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
        let read = self.bytes.as_mut().poll_read(cx, buffer);
        let Some(silence) = &mut self.silence else {
            return read;
        };
        if read.is_pending() && silence.as_mut().poll(cx).is_pending() {
            return Poll::Pending;
        }
        self.silence = None;
        match read {
            Poll::Pending => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            ready => ready,
        }
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
