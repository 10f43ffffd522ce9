//! The simulated network as our processes use it: a dialer and listeners.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use sockets::{Connection, Dialer, Listener};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Uri;
use turmoil::net::{TcpListener, TcpStream};

/// Returns what connects to hosts of the simulation by their names.
pub(crate) fn dialer() -> Dialer {
    Dialer::new(|to: Uri| async move {
        let host = to.host().ok_or_else(|| io::Error::other("no host"))?;
        let port = to.port_u16().ok_or_else(|| io::Error::other("no port"))?;
        let stream = TcpStream::connect((host.to_owned(), port)).await?;
        Ok(connection(stream))
    })
}

/// Listens on a port of the host that this is called on.
pub(crate) async fn listen(port: u16) -> io::Result<Listener> {
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
    let (arrive, arrivals) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let came = listener.accept().await;
            if arrive
                .send(came.map(|(stream, _)| connection(stream)))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    let local = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
    Ok(Listener::new(local, ReceiverStream::new(arrivals)))
}

fn connection(stream: TcpStream) -> Connection {
    let ends = (stream.local_addr().ok(), stream.peer_addr().ok());
    Connection::new(stream, ends)
}
