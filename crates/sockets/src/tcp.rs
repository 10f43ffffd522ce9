//! What TCP is asked for, and how many connections the process may have.

use std::io;

use rustix::net::sockopt;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::net::TcpStream;

use crate::limits::{
    KEEPALIVE, KEEPALIVE_INTERVAL, KEEPALIVE_PROBES, MAX_CONNECTIONS, SHARE_OF_FILES,
    UNACKNOWLEDGED,
};

/// Returns how many connections one listener of the public may have, so that its clients leave files
/// to the rest of the process; see [`Listener::bounded`](crate::Listener::bounded).
#[must_use]
pub fn public_connections() -> usize {
    let files = getrlimit(Resource::Nofile).current;
    let share = files.map_or(MAX_CONNECTIONS, |files| files / SHARE_OF_FILES);
    share.clamp(1, MAX_CONNECTIONS) as usize
}

/// Returns how many files the process may open.
#[must_use]
pub fn most_files() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Lets the process open as many files as the system allows it, for each connection is one: what it has at
/// first is meant for programs that cannot do with more.
///
/// # Errors
///
/// If the system refuses; the process then does with what it has.
pub fn raise_files() -> io::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    Ok(setrlimit(Resource::Nofile, Rlimit { current, ..limit })?)
}

/// Prepares an accepted connection.
pub(crate) fn prepare(stream: &TcpStream) {
    // Small messages must not wait until the peer has acknowledged the ones before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    if let Err(error) = find_out(stream) {
        tracing::debug!(%error, "a peer that vanishes is not found out");
    }
}

/// Asks the system to find out soon that the other end has vanished without a word.
fn find_out(stream: &TcpStream) -> io::Result<()> {
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, KEEPALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEPALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(stream, KEEPALIVE_PROBES)?;
    sockopt::set_tcp_user_timeout(stream, UNACKNOWLEDGED.as_millis() as u32)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_vanishes_is_found_out() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let _near = TcpStream::connect(listener.local_addr().unwrap()).await;
        let (stream, _) = listener.accept().await.unwrap();
        prepare(&stream);
        assert!(stream.nodelay().unwrap());
        assert!(sockopt::socket_keepalive(&stream).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&stream).unwrap(), KEEPALIVE);
        assert_eq!(sockopt::tcp_keepintvl(&stream).unwrap(), KEEPALIVE_INTERVAL);
        assert_eq!(sockopt::tcp_keepcnt(&stream).unwrap(), KEEPALIVE_PROBES);
        let unacknowledged = u128::from(sockopt::tcp_user_timeout(&stream).unwrap());
        assert_eq!(unacknowledged, UNACKNOWLEDGED.as_millis());
    }

    #[test]
    fn the_public_leaves_files_to_the_rest() {
        raise_files().unwrap();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
        let files = limit.current;
        let most = public_connections() as u64;
        assert!(most > 0 && files.is_none_or(|files| most * 2 <= files));
    }
}
