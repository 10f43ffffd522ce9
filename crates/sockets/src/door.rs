//! How processes of one machine and user find each other: Unix sockets with abstract names.
//!
//! Such a name is in no folder, so that nothing of it is left behind. Processes of the same network
//! namespace see it, and no others: those that could connect to the same TCP address.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::pin::Pin;
use std::task::{Context, Poll};

use rustix::io::write;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, socket_with};
use rustix::process::geteuid;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::{UnixListener, UnixStream};

use crate::limits::WAITING_AT_DOOR;

/// Whom the system names in place of users that a container does not know: see user_namespaces(7).
const OVERFLOW_USER: u32 = 65_534;

/// Where processes of this machine come in.
#[derive(Debug)]
pub struct Door {
    listener: UnixListener,
}

impl Door {
    /// Opens the door of this name, which has at most some hundred bytes.
    ///
    /// # Errors
    ///
    /// If another process has it, or the name is too long.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn open(name: &str) -> io::Result<Self> {
        let socket = socket()?;
        bind(&socket, &abstract_name(name)?)?;
        rustix::net::listen(&socket, WAITING_AT_DOOR)?;
        let listener = UnixListener::from_std(StdListener::from(socket))?;
        Ok(Self { listener })
    }

    /// Waits for the next process of this user. Those of others are turned away.
    ///
    /// # Errors
    ///
    /// If none can be let in, mostly because too many files are open.
    pub async fn accept(&self) -> io::Result<Visitor> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            if is_of_this_user(&stream) {
                return Ok(Visitor { stream });
            }
            tracing::debug!("a process of another user was turned away at the door");
        }
    }
}

/// A process that came in, and is listened to.
#[derive(Debug)]
pub struct Visitor {
    stream: UnixStream,
}

impl Visitor {
    /// Returns its socket, which waits for nothing.
    ///
    /// # Errors
    ///
    /// If the system fails.
    pub fn into_socket(self) -> io::Result<OwnedFd> {
        Ok(self.stream.into_std()?.into())
    }
}

impl AsyncRead for Visitor {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

/// Knocks at a door and says a greeting of at most a few kilobytes, without waiting. Returns the socket,
/// which waits for nothing.
///
/// # Errors
///
/// If there is no such door on this machine, or it belongs to another user.
pub fn knock(name: &str, greeting: &[u8]) -> io::Result<OwnedFd> {
    let socket = socket()?;
    rustix::net::connect(&socket, &abstract_name(name)?)?;
    if !is_of_this_user(&socket) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    // There is room for it in a new socket.
    match write(&socket, greeting)? {
        all if all == greeting.len() => Ok(socket),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// Whether the other end belongs to the user of this process, from whom a process is safe nowhere on a machine.
fn is_of_this_user(socket: impl AsFd) -> bool {
    let own = geteuid();
    own.as_raw() != OVERFLOW_USER && socket_peercred(socket).is_ok_and(|peer| peer.uid == own)
}

fn socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        flags,
        None,
    )?)
}

fn abstract_name(name: &str) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// A name that no other test has.
    fn name(of: &str) -> String {
        format!("conclave test {} {of}", std::process::id())
    }

    #[tokio::test]
    async fn who_knocks_is_heard() {
        let door = Door::open(&name("heard")).unwrap();
        let _socket = knock(&name("heard"), b"hello").unwrap();
        let mut visitor = door.accept().await.unwrap();
        let mut heard = [0; 5];
        visitor.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"hello");
        visitor.into_socket().unwrap();
    }

    #[tokio::test]
    async fn a_door_is_one_processes_and_gone_with_it() {
        let name = name("one");
        let door = Door::open(&name).unwrap();
        let taken = Door::open(&name).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop(door);
        let gone = knock(&name, b"").unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::ConnectionRefused);
        Door::open(&name).unwrap();
        Door::open(&"x".repeat(200)).unwrap_err();
    }

    #[tokio::test]
    async fn nobody_waits_at_a_door_where_too_many_do() {
        crate::raise_files().unwrap();
        let name = name("many");
        let _door = Door::open(&name).unwrap();
        let mut waiting = Vec::new();
        let refused = loop {
            match knock(&name, b"") {
                Ok(socket) => waiting.push(socket),
                Err(error) => break error,
            }
            assert!(
                waiting.len() <= 2 * WAITING_AT_DOOR as usize,
                "there is a limit"
            );
        };
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    }
}
